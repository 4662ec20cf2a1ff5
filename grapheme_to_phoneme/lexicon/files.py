"""Writing files whole or not at all, and telling whether they are the expected ones."""

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from grapheme_to_phoneme.errors import UserError


def file_to_replace(path: Path) -> Path | None:
    """Return the file that a new one may take the place of, whether it is there yet or not.

    Symbolic links are followed: a link stays one, and what it names gets the new content.

    Returns:
        The file, or None where a device or a pipe is, which must be written to as it is.

    Raises:
        OSError: if the path cannot be looked at.
        UserError: if a folder is there.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path.resolve()
    if stat.S_ISDIR(mode):
        raise UserError(f"cannot write {path}: it is a folder")
    return path.resolve() if stat.S_ISREG(mode) else None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a binary file that takes the place of ``path`` when the block ends.

    The bytes go to a temporary file in the same folder, which is made where it is missing.
    If the block raises, ``path`` stays what it was and the temporary file is removed, so a
    reader never sees half a file. A device or a pipe gets the bytes as they come. A symbolic
    link is replaced, not followed: DVC may have linked data to its cache, which never changes.

    Raises:
        UserError: if the folder cannot be written to or the disk is full.
    """
    try:
        is_stream = file_to_replace(path) is None
        with path.open("wb") if is_stream else _replacement(path) as stream:
            yield stream
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; "
            "free some space, mend the rights, or choose another folder"
        ) from error


@contextmanager
def _replacement(target: Path) -> Iterator[BinaryIO]:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Not tempfile's: that would leave the final file readable by its owner alone.
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """Return the MD5 of a file's bytes in hexadecimal, by which DVC knows files.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def count_lines(path: Path) -> int:
    """Return the number of a file's line feeds.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as stream:
        return sum(line.endswith(b"\n") for line in stream)
