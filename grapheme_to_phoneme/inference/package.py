"""Model packages: folders with all that is delivered of a model, and a list of its bytes."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grapheme_to_phoneme.errors import UserError

#: Raised when a package that this version writes could be misread by an older one.
PACKAGE_FORMAT_VERSION = 1

#: The file that lists all others.
MANIFEST_NAME = "manifest.json"

#: The packed lexicon, in a package that has one.
LEXICON_NAME = "lexicon.sqlite"

#: The licences and notes in a package.
NOTICES = ("LICENSE*", "*.md")


def write_manifest(folder: Path, default: str) -> None:
    """List the files of a folder with their hashes, which makes it a package.

    Args:
        folder: the folder; what it holds now is what it must hold for ever.
        default: the model file to use where nobody asks for another one.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_NAME)
    manifest = {
        "format_version": PACKAGE_FORMAT_VERSION,
        "default": default,
        "sha256": {name: _sha256(folder / name) for name in names},
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def model_file(path: Path) -> Path:
    """Return the model file that a path stands for: itself, or a package's default.

    Args:
        path: a model file or a package's folder.

    Raises:
        UserError: if there is nothing at ``path``, or what cannot be read, or a folder that is
            no package of this format version, or one of which a byte has changed or a file is
            missing.
    """
    with _readable(path):
        if path.is_file():
            return path
        if not path.is_dir():
            raise UserError(f"there is no model file {path}: train one with `g2p train`")
        manifest = _read_manifest(path)
        for name, expected in manifest["sha256"].items():
            file = path / name
            if not file.is_file():
                raise UserError(
                    f"the package {path} is not whole, {name} is missing: copy it again"
                )
            if _sha256(file) != expected:
                raise UserError(
                    f"{file} is not what it was when the package was made: copy the package again"
                )
        return path / manifest["default"]


def lexicon_file(path: Path) -> Path | None:
    """Return the packed lexicon of a package; None where ``path`` is none or has none."""
    with _readable(path):
        is_packed = path.is_dir() and LEXICON_NAME in _read_manifest(path)["sha256"]
        return path / LEXICON_NAME if is_packed else None


def notices(path: Path) -> list[Path]:
    """Return what must travel with a package's model; nothing where ``path`` is a model file."""
    return [notice for pattern in NOTICES for notice in sorted(path.glob(pattern))]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the system says of a model that it does not let read into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot read the model {path}: {error.strerror}; mend the rights or name another"
        ) from error


def _read_manifest(folder: Path) -> dict:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise UserError(
            f"{folder} is a folder and no package that `g2p package` wrote: "
            f"it has no {MANIFEST_NAME}"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format_version"]
        # Names, not paths: a package must not lead out of its folder.
        is_sound = (
            isinstance(manifest["sha256"], dict)
            and manifest["default"] in manifest["sha256"]
            and all(Path(name).name == name for name in manifest["sha256"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: copy the package again") from error
    if version != PACKAGE_FORMAT_VERSION:
        raise UserError(
            f"{folder} has format version {version}, this program reads {PACKAGE_FORMAT_VERSION}: "
            "package the model again, or install the version of the program that wrote it"
        )
    if not is_sound:
        raise UserError(f"{path} is damaged: copy the package again")
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
