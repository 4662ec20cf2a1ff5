"""Words as lines: reads word lists of any size, and writes answers as lines."""

import hashlib
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.base import (
    Alignment,
    Alternative,
    BasePronouncer,
    Pronunciation,
)

#: Stands for standard input or output.
STANDARD_STREAM = "-"

#: Bytes read at a time of what was answered before an interruption.
BYTES_PER_READ = 2**20

#: Stands for no phone, and for white space in a spelling, where alignments are shown.
SILENT = "_"
VISIBLE_SPACE = "␣"

#: Bytes that are no UTF-8 pass through Python strings in this form and come out unchanged.
UNDECODABLE = "surrogateescape"


@dataclass(frozen=True, slots=True)
class Layout:
    """What is asked about every word, and what its lines show.

    Attributes:
        n_best: pronunciations per word, one line each.
        beam_size: see :meth:`BasePronouncer.pronounce`.
        show_alignment: see :func:`format_lines`.
        show_source: see :func:`format_lines`.
    """

    n_best: int = 1
    beam_size: int | None = None
    show_alignment: bool = False
    show_source: bool = False


#: The lines of a word with their line ends, and the characters that the model does not know.
Answer = tuple[bytes, tuple[str, ...]]


def answer_words(pronouncer: BasePronouncer, words: Sequence[str], layout: Layout) -> list[Answer]:
    """Return the answers to words, in their order."""
    separator = "" if pronouncer.metadata.spells else " "
    answers = pronouncer.pronounce(words, layout.n_best, layout.beam_size, layout.show_alignment)
    return [
        (
            format_lines(
                answer, layout.n_best, layout.show_alignment, layout.show_source, separator
            ).encode("utf-8", UNDECODABLE),
            tuple(dict.fromkeys(answer.unknown_characters)),
        )
        for answer in answers
    ]


@dataclass
class Report:
    """What happened to a word list.

    Attributes:
        words: words answered.
        unknown: words with characters that the model does not know, and those characters;
            only the first ``limit`` of them.
        unknown_count: number of such words.
        limit: how many of them to keep.
    """

    limit: int
    words: int = 0
    unknown: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    unknown_count: int = 0

    def add(self, word: str, unknown_characters: tuple[str, ...]) -> None:
        """Count one answer."""
        self.words += 1
        if unknown_characters:
            self.unknown_count += 1
            if len(self.unknown) < self.limit:
                self.unknown.append((word, unknown_characters))

    def remarks(self) -> Iterator[str]:
        """Yield a line for each word with characters that the model does not know."""
        for word, characters in self.unknown:
            described = ", ".join(map(describe_character, characters))
            yield f"'{printable(word)}': the model does not know {described}"
        if self.unknown_count > len(self.unknown):
            yield f"{self.unknown_count - len(self.unknown)} more such words"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a word list is read.

    Attributes:
        bytes_read: bytes from its beginning.
        sha256: the hash of those bytes, in hexadecimal.
    """

    bytes_read: int
    sha256: str


class WordReader:
    """Iterates over the words of a file, one a line, without line ends and a byte order mark.

    Invalid UTF-8 is kept as lone surrogates. Of a line with more than ``longest_line`` bytes
    only the beginning is kept, so that no file can fill the memory. Iterating raises
    ``UserError`` if reading fails on the way.

    Args:
        file: the file, at its beginning.
        longest_line: in bytes.
    """

    def __init__(self, file: BinaryIO, longest_line: int) -> None:
        self._file = file
        self._longest_line = longest_line
        self._bytes_read = 0
        self._hash = hashlib.sha256()

    @property
    def position(self) -> Position:
        """The position after the word that was given last."""
        return Position(self._bytes_read, self._hash.hexdigest())

    def skip_to(self, position: Position) -> None:
        """Go on after the word that was given last when ``position`` was taken.

        Raises:
            UserError: if the file had other bytes then, or if reading fails.
        """
        while remaining := position.bytes_read - self._bytes_read:
            if not self._take(self._file.read, min(remaining, BYTES_PER_READ)):
                break
        if self.position != position:
            raise UserError(
                "the input is not what the interrupted run read: "
                "give it the same input, or begin anew without --resume"
            )

    def __iter__(self) -> Iterator[str]:
        while line := self._read_line():
            rest = line
            is_first = self._bytes_read == len(line)
            while len(rest) == self._longest_line and not rest.endswith(b"\n"):
                rest = self._read_line()
            if is_first:
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield line.rstrip(b"\r\n").decode("utf-8", UNDECODABLE)

    def _read_line(self) -> bytes:
        return self._take(self._file.readline, self._longest_line)

    def _take(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            content = read(size)
        except OSError as error:
            raise UserError(f"cannot read the input: {error.strerror}") from error
        self._bytes_read += len(content)
        self._hash.update(content)
        return content


def format_lines(
    answer: Pronunciation,
    n_best: int,
    show_alignment: bool = False,
    show_source: bool = False,
    separator: str = " ",
) -> str:
    """Return the output of a word: ``word<TAB>phones``, a line each, with its line ends.

    Further columns follow a tab each: the probability with ``n_best`` above one, then the
    alignment with ``show_alignment``, then the source with ``show_source``. ``separator`` stands
    between the phones.
    """
    # A tab or line end inside a word would make two columns or lines of it.
    word = answer.word.translate({ord("\t"): " ", ord("\r"): " ", ord("\n"): " "})
    ranked: tuple[Pronunciation | Alternative, ...] = (answer,)
    if n_best > 1:
        ranked += answer.alternatives
    lines = []
    for choice in ranked:
        columns = [word, separator.join(choice.phones)]
        if n_best > 1:
            columns.append(f"{choice.probability:.6f}")
        if show_alignment:
            columns.append(format_alignment(choice.alignment))
        if show_source:
            columns.append(answer.source)
        lines.append("\t".join(columns) + "\n")
    return "".join(lines)


def format_alignment(alignment: Alignment) -> str:
    """Return pairs such as ``x→K+S e→_``: a letter and its phones, separated by spaces."""
    return " ".join(
        f"{VISIBLE_SPACE if letter.isspace() else letter}→{'+'.join(phones) or SILENT}"
        for letter, phones in alignment
    )


@contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open a word list, or standard input for ``-``.

    Raises:
        UserError: if the file cannot be read, or standard input is closed.
    """
    if path == STANDARD_STREAM:
        # Python has none where the shell closed it, with `<&-`.
        if sys.stdin is None:
            raise UserError("cannot read standard input: it is closed; say --input FILE")
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield file


def describe_character(character: str) -> str:
    """Return a character with its code point and name, fit for a message."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"byte 0x{code - 0xDC00:02X} (not UTF-8)"
    name = unicodedata.name(character, "no name")
    shown = f"'{character}' " if character.isprintable() else ""
    return f"{shown}U+{code:04X} {name}"


def printable(word: str, longest: int = 40) -> str:
    """Return a word for a message: shortened, with escapes for what cannot be shown."""
    shown = word if len(word) <= longest else word[:longest] + "…"
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in shown
    )
