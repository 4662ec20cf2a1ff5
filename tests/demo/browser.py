"""A Chromium to look at the page with: the machine's own, or one from npm."""

import fcntl
import os
import shutil
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.node import install_packages, run_node

#: Names of the machine's own.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Carries a Chromium for Linux, the libraries that a bare machine lacks, and a font.
PACKAGE = "@sparticuz/chromium"
VERSION = "153.0.0"
FOLDER = REPOSITORY / "build" / "chromium" / VERSION

#: Decompresses the files that are named, without their last suffix; Python has no Brotli.
DECOMPRESSION = """
const { brotliDecompressSync } = require("node:zlib");
const { readFileSync, writeFileSync } = require("node:fs");
for (const name of process.argv.slice(1)) {
  writeFileSync(name.replace(/\\.br$/, ""), brotliDecompressSync(readFileSync(name)));
}
"""


FONTS_CONFIGURATION = """<?xml version="1.0"?>
<fontconfig>
  <dir>{folder}/fonts</dir>
  <cachedir>{folder}/fonts-cache</cachedir>
</fontconfig>
"""


@dataclass(frozen=True)
class Chromium:
    """A browser's program and the environment variables that it needs."""

    program: Path
    variables: dict[str, str] = field(default_factory=dict)


def find_chromium() -> Chromium:
    """Return the machine's own Chromium, the one that CHROMIUM names, or one from npm.

    Raises:
        AssertionError: if there is none, and says what to do.
    """
    for name in (os.environ.get("CHROMIUM"), *NAMES):
        found = shutil.which(name) if name else None
        if found is not None:
            return Chromium(Path(found))
    assert sys.platform == "linux", "the page's tests need Chromium: set CHROMIUM=/path/to/it"
    return chromium_from_npm()


def chromium_from_npm() -> Chromium:
    """Return the browser of :data:`PACKAGE`, installed in ``build/`` on first use."""
    program = FOLDER / "chromium"
    libraries, fonts = FOLDER / "lib", FOLDER / "fonts"
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    # Tests run side by side, and one of them installs.
    with FOLDER.with_name(f"{VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (program.is_file() and libraries.is_dir() and fonts.is_dir()):
            _install(program)
    variables = {"LD_LIBRARY_PATH": str(libraries), "FONTCONFIG_PATH": str(FOLDER)}
    return Chromium(program, variables)


def _install(program: Path) -> None:
    install_packages(FOLDER, f"{PACKAGE}@{VERSION}")
    for path in (FOLDER / "node_modules" / PACKAGE / "bin").glob("*.br"):
        shutil.copyfile(path, FOLDER / path.name)
    packed = sorted(FOLDER.glob("*.br"))
    unpacked = run_node("node", "-e", DECOMPRESSION, *packed, timeout=120)
    assert unpacked.returncode == 0, unpacked.stderr
    for name in ("al2023", "fonts"):
        with tarfile.open(FOLDER / f"{name}.tar") as archive:
            archive.extractall(FOLDER, filter="data")
    program.chmod(0o755)
    # The one that comes along names folders of the machines that it was made for.
    (FOLDER / "fonts.conf").write_text(FONTS_CONFIGURATION.format(folder=FOLDER))
