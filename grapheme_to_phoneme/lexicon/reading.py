"""Reading lexicons and saying what is wrong with them."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon import formats
from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.lexicon.lines import open_file, read_lines
from grapheme_to_phoneme.lexicon.pls import read_pls
from grapheme_to_phoneme.lexicon.records import (
    Faults,
    Header,
    LineFault,
    Record,
    count,
    first_few,
    quote,
)
from grapheme_to_phoneme.lexicon.segmentation import ipa_segmenter
from grapheme_to_phoneme.normalization import Normalization

LOGGER = logging.getLogger(__name__)

LEXICON_FORMATS = (formats.AUTO, *formats.FORMATS)

#: How many lines, and characters of them, the format of a file is told from.
LINES_TO_DETECT_FROM = 1000
CHARACTERS_TO_DETECT_FROM = 1 << 20
BYTES_TO_DETECT_FROM = 4096

#: Keys of JSON Lines that are told by their names.
MOST_KEYS = 20
OTHER_KEYS = "other keys"

#: In characters, diacritics included: where nothing but longer ones is, they are words.
LONGEST_LIKELY_PHONE = 6

#: No notation has nearly as many; pronunciations that are not divided into phones do.
MOST_PHONES = 10_000

#: Pronunciations that are kept once for all entries that share them.
SHARED_PRONUNCIATIONS = 1 << 16

#: Digits are stress after the capitals of ARPAbet alone: X-SAMPA's 1 and 2 are vowels.
STRESS_MARKS = re.compile(r"^[ˈˌ]+|(?<=[A-Z])[0-2]$")


class LexiconReader:
    """The records of a lexicon file, one after the other, in bounded memory.

    Args:
        path: a UTF-8 file, with or without a byte order mark, with LF or CR LF as line ends;
            XML may have the encoding that it declares.
        lexicon_format: one of ``LEXICON_FORMATS``; ``auto`` tells by content.
        segment: whether pronunciations are IPA without spaces, to be divided into phones.

    Attributes:
        format: the file's format, once the first record is read.
        header: what the file says of all records.

    Raises:
        UserError: if there is no such format.
        MissingDependencyError: if the library that divides IPA is not installed.
    """

    def __init__(
        self, path: Path, lexicon_format: str = formats.AUTO, segment: bool = False
    ) -> None:
        if lexicon_format not in LEXICON_FORMATS:
            raise UserError(
                f"unknown lexicon format '{lexicon_format}': "
                f"choose one of {', '.join(LEXICON_FORMATS)}"
            )
        self.path = path
        self.format = lexicon_format
        self.header = Header()
        self._is_blank = True
        self._divide = ipa_segmenter() if segment else None

    def __iter__(self) -> Iterator[Record]:
        return self.read(lambda record: record)

    def read(self, convert: Callable[[Record], Any]) -> Iterator[Any]:
        """Yield what ``convert`` makes of each record; it raises LineFault to refuse one.

        Raises:
            UserError: if the file is missing, unreadable or empty, or, at its end, if any
                line is malformed; the first few such lines are named by number, the rest
                counted.
        """
        self.header = Header()
        faults = Faults()
        read = 0
        longest_phone = 0
        has_phones_apart = False
        with open_file(self.path) as file:
            for number, parse in self._records(file):
                try:
                    record = parse()
                    if record is None:
                        continue
                    read += 1
                    has_phones_apart = has_phones_apart or len(record.phones) > 1
                    longest_phone = max(longest_phone, *map(len, record.phones), 0)
                    converted = convert(self._checked(record))
                except LineFault as fault:
                    faults.add(f"line {number}", fault)
                    continue
                yield converted
        faults.raise_if_any(self.path)
        if not read:
            fault = "is empty" if self._is_blank else "holds no entries"
            raise UserError(f"{self.path} {fault}: give a lexicon with at least one word")
        if not has_phones_apart and longest_phone > LONGEST_LIKELY_PHONE:
            LOGGER.warning(
                "%s: every pronunciation is a single phone; if they are IPA without spaces, "
                "have them divided",
                self.path,
            )

    def _records(self, file: BinaryIO) -> Iterator[tuple[int, Callable[[], Record | None]]]:
        """Yield line numbers, each with a function that gives what is there."""
        if self.format == formats.AUTO and formats.is_pls(file.peek(BYTES_TO_DETECT_FROM)):
            self.format = formats.PLS
        if self.format == formats.PLS:
            self._is_blank = False
            for number, record in read_pls(file, self.path, self.header):
                yield number, lambda record=record: record
            return
        lines = read_lines(file, self.path)
        sample = list(_sample(lines))
        if self.format == formats.AUTO:
            self.format = formats.detect_format(sample)
        is_json = self.format == formats.JSON_LINES
        parse = self._parse_json if is_json else formats.PARSERS[self.format]
        for number, line in enumerate(chain(sample, lines), start=1):
            self._is_blank = self._is_blank and not line.strip()
            yield number, lambda line=line: parse(_whole(line))

    def _parse_json(self, line: str) -> Record | None:
        record, left_out = formats.parse_json(line)
        told = self.header.left_out
        for key in map(quote, left_out):
            # A file in which every line has keys of its own must not fill the memory.
            told[key if key in told or len(told) < MOST_KEYS else OTHER_KEYS] += 1
        return record

    def _checked(self, record: Record) -> Record:
        if not record.spelling:
            raise LineFault("the spelling is empty")
        if not record.phones:
            raise LineFault(f"{quote(record.spelling)} has no phones")
        if self._divide is None:
            return record
        divided = (self._divide(phone) for phone in record.phones)
        return replace(record, phones=tuple(chain.from_iterable(divided)))


def read_lexicon(
    path: Path,
    lexicon_format: str = formats.AUTO,
    normalization: Normalization | None = None,
    strip_stress: bool = False,
    segment: bool = False,
) -> list[Entry]:
    """Read a lexicon file.

    Args:
        path: see :class:`LexiconReader`.
        lexicon_format: see :class:`LexiconReader`.
        normalization: what happens to spellings; the default one if None.
        strip_stress: whether stress digits (ARPAbet's final 0, 1 or 2) and stress marks
            (a leading IPA ``ˈ`` or ``ˌ``) are taken off the phones.
        segment: see :class:`LexiconReader`.

    Returns:
        The entries in file order, repeated ones included.

    Raises:
        UserError: as :meth:`LexiconReader.read` does, or if there are so many phones that
            the pronunciations cannot be divided into phones.
    """
    normalization = normalization or Normalization()
    reader = LexiconReader(path, lexicon_format, segment)
    share = _Sharing(path)
    return list(
        reader.read(
            lambda record: share.entry(
                *_normalized(record.spelling, record.phones, normalization, strip_stress)
            )
        )
    )


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
        words = first_few([quote(spelling) for spelling in shared], ", ")
        raise UserError(
            f"{count(len(shared), 'word')} in both the train and the {other_name} lexicon: "
            f"{words}. Scores on words seen in training mean little: remove them from one, "
            "or say data.allow_overlap=true"
        )
    return shared


class _Sharing:
    """Makes entries that share what they have in common, since lexicons repeat themselves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._phones: dict[str, str] = {}
        self._pronunciations: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._last = Entry("", ())

    def entry(self, spelling: str, phones: tuple[str, ...]) -> Entry:
        """Return an entry.

        Raises:
            UserError: if the lexicon has too many phones.
        """
        known = self._pronunciations.get(phones)
        if known is None:
            known = tuple(self._phones.setdefault(phone, phone) for phone in phones)
            if len(self._phones) > MOST_PHONES:
                raise UserError(
                    f"{self._path} has more than {MOST_PHONES:,} different phones: separate the "
                    "phones of each pronunciation by spaces, or have IPA divided with "
                    "data.segment=true"
                )
            if len(self._pronunciations) >= SHARED_PRONUNCIATIONS:
                self._pronunciations.clear()
            self._pronunciations[known] = known
        if spelling == self._last.spelling:
            if known == self._last.phones:
                return self._last
            spelling = self._last.spelling
        self._last = Entry(spelling, known)
        return self._last


def _whole(line: str) -> str:
    """Return a line, unless it is several with the line ends of another age."""
    if "\r" in line.rstrip("\r"):
        raise LineFault("a carriage return alone ends no line: save it with line feeds")
    return line


def _sample(lines: Iterator[str]) -> Iterator[str]:
    characters = 0
    for number, line in enumerate(lines, start=1):
        yield line
        characters += len(line)
        if number == LINES_TO_DETECT_FROM or characters >= CHARACTERS_TO_DETECT_FROM:
            return


def _normalized(
    written: str, phones: tuple[str, ...], normalization: Normalization, strip_stress: bool
) -> tuple[str, tuple[str, ...]]:
    spelling = normalization.apply(written)
    if not spelling:
        raise LineFault(f"nothing is left of the spelling {quote(written)} when normalised")
    if strip_stress:
        stripped = (STRESS_MARKS.sub("", phone) for phone in phones)
        phones = tuple(phone for phone in stripped if phone)
        if not phones:
            raise LineFault(f"nothing is left of the phones of {quote(spelling)} without stress")
    return spelling, phones
