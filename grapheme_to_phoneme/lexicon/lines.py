"""The lines of a text file, read one after the other in bounded memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.formats import UTF_16_MARKS
from grapheme_to_phoneme.lexicon.records import Faults, count

#: No entry of a lexicon is longer; a file without line ends must not fill the memory.
LONGEST_LINE_BYTES = 1 << 16

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a lexicon file to read its bytes.

    Raises:
        UserError: if it is missing, a folder or unreadable, then and while it is read.
    """
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check the name and the folder") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder: name the lexicon file in it") from error
    except (OSError, ValueError) as error:
        # ValueError: a path with a NUL byte.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}; mend it or name another") from error


def read_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Yield the lines of a file without their line feeds and a byte order mark at its start.

    Only line feeds end lines: ``str.splitlines`` would also cut at characters that a spelling
    may hold, such as U+2028.

    Raises:
        UserError: at the end, if a line is not UTF-8, with the numbers of such lines; at once,
            if the file is UTF-16 or a line is longer than any entry.
    """
    faults = Faults()
    number = 0
    while raw_line := file.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        if number == 1:
            if raw_line.startswith(UTF_16_MARKS):
                raise UserError(f"{path} is UTF-16: save it as UTF-8")
            raw_line = raw_line.removeprefix(BYTE_ORDER_MARK)
        if len(raw_line) > LONGEST_LINE_BYTES:
            raise UserError(
                f"{path}, line {number}: more than {LONGEST_LINE_BYTES:,} bytes without a line "
                "end, which no entry has; give a lexicon with a line for each pronunciation"
            )
        try:
            line = raw_line.removesuffix(b"\n").decode()
        except UnicodeDecodeError as error:
            faults.add(f"line {number}", f"byte 0x{raw_line[error.start]:02x}")
            continue
        if not faults.total:
            yield line
    if faults.total:
        raise UserError(
            f"{path} is not UTF-8 in {count(faults.total, 'line')}: {faults}. "
            "Save it as UTF-8 or mend them"
        )
