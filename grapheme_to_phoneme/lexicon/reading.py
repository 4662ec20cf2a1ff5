"""Reading lexicons and saying what is wrong with them."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.normalization import Normalization

LEXICON_FORMATS = ("auto", "tsv", "cmudict")

#: How many faults or words a message names before it only counts the rest.
NAMED_IN_MESSAGES = 5

#: How much of a word a message shows, in characters.
SHOWN_OF_A_WORD = 40

#: How many lines the format of a file is told from.
LINES_TO_DETECT_FROM = 1000

VARIANT_SUFFIX = re.compile(r"\(\d+\)$")
ARPABET_LINE = re.compile(r"\S+(\s+[A-Z]{1,3}[0-2]?)+\s*")
STRESS_MARKS = re.compile(r"^[ˈˌ]+|[0-2]$")

LineParser = Callable[[str], tuple[str, str] | None]


class LineFault(Exception):
    """Why a line of a lexicon is not an entry."""


def read_lexicon(
    path: Path,
    lexicon_format: str = "auto",
    normalization: Normalization | None = None,
    strip_stress: bool = False,
) -> list[Entry]:
    """Read a lexicon file.

    Args:
        path: a UTF-8 file, with or without a byte order mark, with any line ends.
        lexicon_format: ``tsv`` is ``spelling<TAB>phones separated by spaces``; ``cmudict``
            is the CMU dictionary's, ``spelling phones...`` with ``(2)`` after the spelling
            of further pronunciations and comments after ``#``; ``auto`` tells by content.
        normalization: what happens to spellings; the default one if None.
        strip_stress: whether stress digits (ARPAbet's final 0, 1 or 2) and stress marks
            (a leading IPA ``ˈ`` or ``ˌ``) are taken off the phones.

    Returns:
        The entries in file order, repeated ones included.

    Raises:
        UserError: if the file is missing, unreadable or empty, or if any line is
            malformed; the first few such lines are named by number, the rest counted.
    """
    if lexicon_format not in LEXICON_FORMATS:
        raise UserError(
            f"unknown lexicon format '{lexicon_format}': "
            f"choose one of {', '.join(LEXICON_FORMATS)} with data.format"
        )
    normalization = normalization or Normalization()
    lines = _split_lines(path, _read_bytes(path))
    if lexicon_format == "auto":
        lexicon_format = _detect_format(lines)
    parse = _parse_cmudict_line if lexicon_format == "cmudict" else _parse_tsv_line

    entries = []
    faults = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = _parse_entry(line, parse, normalization, strip_stress)
        except LineFault as fault:
            faults.append(f"line {number}: {fault}")
            continue
        if entry is not None:
            entries.append(entry)
    if faults:
        raise UserError(
            f"{path} has {_count(len(faults), 'malformed line')}: "
            f"{_first_few(faults, '; ')}. Mend or remove them"
        )
    if not entries:
        raise UserError(f"{path} holds no entries: give a lexicon with at least one word")
    return entries


def check_disjoint(
    train: Iterable[Entry],
    other: Iterable[Entry],
    other_name: str = "dev",
    allow_overlap: bool = False,
) -> list[str]:
    """Check that no word that is learnt from is also scored on.

    Returns:
        The words that are in both, sorted; only ever any if ``allow_overlap``.

    Raises:
        UserError: if there are such words and ``allow_overlap`` is false.
    """
    shared = sorted({entry.spelling for entry in train} & {entry.spelling for entry in other})
    if shared and not allow_overlap:
        words = _first_few([_quote(spelling) for spelling in shared], ", ")
        raise UserError(
            f"{_count(len(shared), 'word')} in both the train and the {other_name} lexicon: "
            f"{words}. Scores on words seen in training mean little: remove them from one, "
            "or say data.allow_overlap=true"
        )
    return shared


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}: check the name and the folder") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder: name the lexicon file in it") from error
    except (OSError, ValueError) as error:
        # ValueError: a path with a NUL byte.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}; mend it or name another") from error
    if not content.strip():
        raise UserError(f"{path} is empty: give a lexicon with at least one word")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16: save it as UTF-8")
    return content.removeprefix(b"\xef\xbb\xbf")


def _split_lines(path: Path, content: bytes) -> list[str]:
    # Only line feeds end lines: str.splitlines would also cut at characters that a
    # spelling may hold, such as U+2028.
    raw_lines = content.split(b"\n")
    try:
        return [raw_line.decode() for raw_line in raw_lines]
    except UnicodeDecodeError:
        faults = list(_find_undecodable(raw_lines))
    raise UserError(
        f"{path} is not UTF-8 in {_count(len(faults), 'line')}: {_first_few(faults, '; ')}. "
        "Save it as UTF-8 or mend them"
    )


def _find_undecodable(raw_lines: list[bytes]) -> Iterator[str]:
    for number, raw_line in enumerate(raw_lines, start=1):
        try:
            raw_line.decode()
        except UnicodeDecodeError as error:
            yield f"line {number}: byte 0x{raw_line[error.start]:02x}"


def _detect_format(lines: list[str]) -> str:
    """Tell a file's format from its first lines.

    A file is taken for a CMU dictionary only if most of it looks like one, so that a list
    of words or phrases without pronunciations is reported instead of misread.
    """
    sample = [line for line in lines[:LINES_TO_DETECT_FROM] if not _is_skipped(line)]
    tabbed = sum("\t" in line for line in sample)
    arpabet = sum(bool(ARPABET_LINE.fullmatch(_without_comment(line))) for line in sample)
    return "cmudict" if arpabet > tabbed and 2 * arpabet >= len(sample) else "tsv"


def _parse_entry(
    line: str, parse: LineParser, normalization: Normalization, strip_stress: bool
) -> Entry | None:
    parsed = parse(line)
    if parsed is None:
        return None
    written_spelling, written_phones = parsed
    spelling = normalization.apply(written_spelling)
    if not spelling:
        raise LineFault(
            "the spelling is empty"
            if not written_spelling.strip()
            else f"nothing is left of the spelling {_quote(written_spelling)} when normalised"
        )
    phones = tuple(written_phones.split())
    if not phones:
        raise LineFault(f"{_quote(spelling)} has no phones")
    if strip_stress:
        stripped = (STRESS_MARKS.sub("", phone) for phone in phones)
        phones = tuple(phone for phone in stripped if phone)
        if not phones:
            raise LineFault(f"nothing is left of the phones of {_quote(spelling)} without stress")
    return Entry(spelling, phones)


def _parse_tsv_line(line: str) -> tuple[str, str] | None:
    if "\t" not in line:
        if not line.strip():
            return None
        raise LineFault(
            f"{_quote(line.strip())} is one column, where spelling<TAB>phones is expected"
        )
    spelling, *columns = line.split("\t")
    if len(columns) > 1:
        raise LineFault(f"{_quote(spelling)} is followed by {len(columns)} columns, not one")
    return spelling, columns[0]


def _parse_cmudict_line(line: str) -> tuple[str, str] | None:
    if _is_skipped(line):
        return None
    content = _without_comment(line)
    spelling, *phones = content.split(maxsplit=1)
    return VARIANT_SUFFIX.sub("", spelling), "".join(phones)


def _is_skipped(line: str) -> bool:
    # Releases before 2014 write comments as lines that begin with three semicolons.
    return line.startswith(";;;") or not _without_comment(line).strip()


def _without_comment(line: str) -> str:
    return line.partition("#")[0]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _first_few(texts: list[str], separator: str) -> str:
    named = separator.join(texts[:NAMED_IN_MESSAGES])
    rest = len(texts) - NAMED_IN_MESSAGES
    return f"{named}{separator}and {rest:,} more" if rest > 0 else named


def _quote(text: str) -> str:
    # repr keeps control characters from breaking the message or the terminal.
    return repr(text if len(text) <= SHOWN_OF_A_WORD else f"{text[:SHOWN_OF_A_WORD]}…")
