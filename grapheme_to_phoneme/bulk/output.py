"""Writes answers as whole lines, and keeps what an interrupted run needs to go on."""

import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.word_lists import STANDARD_STREAM, Position, Report
from grapheme_to_phoneme.lexicon.files import file_to_replace

#: Bytes of finished lines that are written at once.
BYTES_PER_WRITE = 2**18

#: What is added to an output's name while it is not whole, and to that of its checkpoint.
PARTIAL_SUFFIX = ".partial"
CHECKPOINT_SUFFIX = ".resume"

#: Raised when a checkpoint that this version writes could be misread by an older one.
CHECKPOINT_FORMAT = 1


class LineWriter:
    """Writes lines to an open file, whole ones even where the disk is full.

    Args:
        descriptor: the file's, at its end.
        name: the file's name, for messages.
        bytes_written: bytes that it has already.

    Attributes:
        bytes_written: bytes that are in the file, but for those not flushed yet.
    """

    def __init__(self, descriptor: int, name: str, bytes_written: int = 0) -> None:
        self.bytes_written = bytes_written
        self._descriptor = descriptor
        self._name = name
        self._lines: list[bytes] = []
        self._waiting = 0

    def write(self, lines: bytes) -> None:
        """Take lines with their line ends.

        Raises:
            UserError: if they cannot be written.
        """
        self._lines.append(lines)
        self._waiting += len(lines)
        if self._waiting >= BYTES_PER_WRITE:
            self.flush()

    def flush(self) -> None:
        """Write what was taken.

        Raises:
            UserError: if it cannot be written; the file then ends with a whole line.
        """
        content = memoryview(b"".join(self._lines))
        self._lines, self._waiting = [], 0
        written = 0
        try:
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except BaseException as error:
            self._take_back(written - content[:written].tobytes().rfind(b"\n") - 1)
            # The reader of a pipe that wants no more is no mistake.
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise _unwritable(self._name, error) from error
            raise
        self.bytes_written += written

    def sync(self) -> None:
        """Write what was taken and wait until it is on the disk.

        Raises:
            UserError: if that fails.
        """
        self.flush()
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise _unwritable(self._name, error) from error

    def _take_back(self, size: int) -> None:
        """Remove the beginning of a line from the end of the file; a pipe keeps it."""
        if size and stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            os.ftruncate(self._descriptor, end - size)


@dataclass(frozen=True)
class Checkpoint:
    """What is answered of a word list, as it stands in the partial output.

    Attributes:
        settings: all that the answers depend on, by name.
        position: how far the input is answered.
        bytes_written: bytes of the output that are answers to that part of the input.
        report: what happened to the words of that part.
    """

    settings: Mapping[str, object]
    position: Position
    bytes_written: int
    report: Report


def output_files(path: str) -> tuple[Path, ...]:
    """Return the files that an output is: when it is whole, before, and its checkpoint.

    Standard output, a device and a pipe are none: they get the lines as they come, and nothing
    can go on after them.

    Raises:
        UserError: if a folder is there, or what is there cannot be looked at.
    """
    target = None if path == STANDARD_STREAM else _file_of(path)
    if target is None:
        return ()
    return (target, *(_beside(target, suffix) for suffix in (PARTIAL_SUFFIX, CHECKPOINT_SUFFIX)))


def load_checkpoint(path: str, settings: Mapping[str, object]) -> Checkpoint | None:
    """Return what an interrupted run left beside its output, or None where it left nothing.

    Args:
        path: the output, a file.
        settings: see :class:`Checkpoint`.

    Raises:
        UserError: if it was made with other settings, or is damaged, or is of another version.
    """
    target = Path(path).resolve()
    try:
        text = _beside(target, CHECKPOINT_SUFFIX).read_text(encoding="ascii")
        size = _beside(target, PARTIAL_SUFFIX).stat().st_size
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, "cannot be read") from error
    try:
        document = json.loads(text)
        version = document["format"]
        report = document["report"]
        report["unknown"] = [(word, tuple(unknown)) for word, unknown in report["unknown"]]
        checkpoint = Checkpoint(
            document["settings"],
            Position(**document["position"]),
            document["bytes_written"],
            Report(**report),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _unusable(path, "is damaged") from error
    if version != CHECKPOINT_FORMAT:
        raise _unusable(path, "is of another version of g2p")
    if not _is_sound(checkpoint):
        raise _unusable(path, "is damaged")
    if size < checkpoint.bytes_written:
        raise _unusable(path, "has lost some of its bytes")
    names = sorted(
        name
        for name in {*settings, *checkpoint.settings}
        if settings.get(name) != checkpoint.settings.get(name)
    )
    if names:
        raise _unusable(path, f"was made with another {', another '.join(names)}")
    return checkpoint


def save_checkpoint(path: str, checkpoint: Checkpoint) -> None:
    """Keep a checkpoint beside an output, in the place of the one before.

    Raises:
        UserError: if it cannot be written; the one before stays.
    """
    target = _beside(Path(path).resolve(), CHECKPOINT_SUFFIX)
    temporary = _beside(target, ".new")
    document = json.dumps({"format": CHECKPOINT_FORMAT, **asdict(checkpoint)})
    try:
        with temporary.open("w", encoding="ascii") as file:
            file.write(document)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


@contextmanager
def open_output(path: str, checkpoint: Checkpoint | None = None) -> Iterator[LineWriter]:
    """Open an output file.

    It appears under its name when it is whole; before, ``.partial`` is added to it. A device or a
    pipe gets the lines as they come.

    Args:
        path: the file.
        checkpoint: what to go on after; None begins anew.

    Raises:
        UserError: if the file cannot be written, or another run writes it.
    """
    target = _file_of(path)
    opened = _open_stream(path) if target is None else _open_file(path, target, checkpoint)
    with opened as writer:
        yield writer


@contextmanager
def open_standard_output() -> Iterator[LineWriter]:
    """Give what writes lines to standard output.

    Raises:
        UserError: if it is closed.
    """
    # Python has none where the shell closed it, with `>&-`.
    if sys.stdout is None:
        raise UserError("cannot write standard output: it is closed; say --output FILE")
    sys.stdout.flush()
    writer = LineWriter(sys.stdout.fileno(), "standard output")
    yield writer
    writer.flush()


@contextmanager
def _open_stream(path: str) -> Iterator[LineWriter]:
    try:
        file = Path(path).open("wb", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        writer = LineWriter(file.fileno(), path)
        yield writer
        writer.flush()


@contextmanager
def _open_file(path: str, target: Path, checkpoint: Checkpoint | None) -> Iterator[LineWriter]:
    partial = _beside(target, PARTIAL_SUFFIX)
    kept = 0 if checkpoint is None else checkpoint.bytes_written
    try:
        # Neither way touches the bytes, which may be another run's; a checkpoint is of a file
        # that is there.
        file = partial.open("ab" if checkpoint is None else "r+b", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        try:
            is_locked = _lock(file, partial, path)
            if checkpoint is None:
                # In this order, so that no checkpoint ever stands beside a file that it is not of.
                _beside(target, CHECKPOINT_SUFFIX).unlink(missing_ok=True)
            file.truncate(kept)
            file.seek(kept)
        except OSError as error:
            raise _unwritable(path, error) from error
        writer = LineWriter(file.fileno(), path, kept)
        yield writer
        writer.sync()
        try:
            if not is_locked:
                # Windows renames no open file; a lock must last until the file has its name.
                file.close()
            partial.replace(target)
            _beside(target, CHECKPOINT_SUFFIX).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error


def _lock(file: BinaryIO, partial: Path, path: str) -> bool:
    """Keep other runs from a file until it is closed, also by the end of this process.

    Returns:
        Whether that is possible here: Windows and some network file systems have no such lock.

    Raises:
        UserError: if another run has the file.
    """
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another run may have had it until now, and given it its final name.
        is_free = partial.stat().st_ino == os.fstat(file.fileno()).st_ino
    except (BlockingIOError, FileNotFoundError):
        is_free = False
    except OSError:
        return False
    if not is_free:
        raise UserError(
            f"cannot write {path}: another run writes it; wait for that, or name another --output"
        )
    return True


def _is_sound(checkpoint: Checkpoint) -> bool:
    """Return whether all that was read of a checkpoint is of the kind that a run writes."""
    position, report = checkpoint.position, checkpoint.report
    numbers = (report.limit, report.words, report.unknown_count, position.bytes_read)
    texts = (position.sha256, *(text for word, rest in report.unknown for text in (word, *rest)))
    return (
        isinstance(checkpoint.settings, dict)
        and all(type(item) is int and item >= 0 for item in (*numbers, checkpoint.bytes_written))
        and all(isinstance(text, str) for text in texts)
    )


def _file_of(path: str) -> Path | None:
    try:
        return file_to_replace(Path(path))
    except OSError as error:
        raise _unwritable(path, error) from error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _unwritable(path: str, error: OSError) -> UserError:
    return UserError(f"cannot write {path}: {error.strerror}")


def _unusable(path: str, reason: str) -> UserError:
    return UserError(
        f"cannot go on with {path}: what the interrupted run left {reason}; "
        "begin anew without --resume"
    )
