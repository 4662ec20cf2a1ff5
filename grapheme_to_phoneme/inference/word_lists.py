"""Pronounces word lists of any size: a line in, a line out, in constant memory."""

import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
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

#: Characters of the words that are held in memory, give or take a word.
CHARACTERS_PER_BATCH = 2**19

#: Stands for no phone, and for white space in a spelling, where alignments are shown.
SILENT = "_"
VISIBLE_SPACE = "␣"

#: Bytes that are no UTF-8 pass through Python strings in this form and come out unchanged.
UNDECODABLE = "surrogateescape"


@dataclass
class Report:
    """What happened to a word list.

    Attributes:
        words: lines answered.
        unknown: words with characters that the model does not know, and those characters;
            only the first ``limit`` of them.
        unknown_count: number of such words.
        limit: how many of them to keep.
    """

    limit: int
    words: int = 0
    unknown: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    unknown_count: int = 0

    def add(self, pronunciation: Pronunciation) -> None:
        """Count one answer."""
        self.words += 1
        if pronunciation.unknown_characters:
            self.unknown_count += 1
            if len(self.unknown) < self.limit:
                characters = tuple(dict.fromkeys(pronunciation.unknown_characters))
                self.unknown.append((pronunciation.word, characters))


def read_words(file: BinaryIO, longest_line: int) -> Iterator[str]:
    """Yield the words of a file, one a line, without line ends and a byte order mark.

    Invalid UTF-8 is kept as lone surrogates. Of a line with more than ``longest_line`` bytes
    only the beginning is kept, so that no file can fill the memory.

    Raises:
        UserError: if reading fails on the way.
    """
    is_first = True
    while line := _read_line(file, longest_line):
        rest = line
        while len(rest) == longest_line and not rest.endswith(b"\n"):
            rest = _read_line(file, longest_line)
        if is_first:
            line = line.removeprefix(b"\xef\xbb\xbf")
            is_first = False
        yield line.rstrip(b"\r\n").decode("utf-8", UNDECODABLE)


def _read_line(file: BinaryIO, longest_line: int) -> bytes:
    try:
        return file.readline(longest_line)
    except OSError as error:
        raise UserError(f"cannot read the input: {error.strerror}") from error


def pronounce_stream(
    pronouncer: BasePronouncer,
    words: Iterable[str],
    write: Callable[[str], object],
    n_best: int,
    beam_size: int | None,
    words_per_batch: int,
    report: Report,
    show_alignment: bool = False,
    show_source: bool = False,
) -> None:
    """Pronounce words batch by batch and write a line for each, in their order.

    Args:
        pronouncer: the model.
        words: the words; they are taken as they are needed.
        write: takes a finished line with its line end.
        n_best: pronunciations per word, one line each.
        beam_size: see :meth:`BasePronouncer.pronounce`.
        words_per_batch: words held in memory.
        report: counts the answers.
        show_alignment: see :func:`format_lines`.
        show_source: see :func:`format_lines`.
    """
    separator = "" if pronouncer.metadata.spells else " "
    for batch in _batches(words, words_per_batch):
        for answer in pronouncer.pronounce(batch, n_best, beam_size, show_alignment):
            report.add(answer)
            write(format_lines(answer, n_best, show_alignment, show_source, separator))


def _batches(words: Iterable[str], words_per_batch: int) -> Iterator[list[str]]:
    """Divide words into lists; few of them where they are so long as to fill the memory."""
    batch: list[str] = []
    characters = 0
    for word in words:
        batch.append(word)
        characters += len(word)
        if len(batch) == words_per_batch or characters >= CHARACTERS_PER_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


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
        UserError: if the file cannot be read.
    """
    if path == STANDARD_STREAM:
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def open_output(path: str) -> Iterator[Callable[[str], object]]:
    """Open the output, or standard output for ``-``; give what writes a line to it.

    A file appears under its name when it is whole; before, ``.partial`` is added to it.

    Raises:
        UserError: if the file cannot be written.
    """
    if path == STANDARD_STREAM:
        yield lambda line: sys.stdout.buffer.write(line.encode("utf-8", UNDECODABLE))
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    if target.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    partial = target.with_name(target.name + ".partial")
    try:
        file = partial.open("w", encoding="utf-8", errors=UNDECODABLE, newline="")
    except OSError as error:
        raise _unwritable(path, error) from error

    def write(line: str) -> None:
        try:
            file.write(line)
        except OSError as error:
            raise _unwritable(path, error) from error

    with file:
        yield write
        try:
            file.close()
            partial.replace(target)
        except OSError as error:
            raise _unwritable(path, error) from error


def _unwritable(path: str, error: OSError) -> UserError:
    return UserError(f"cannot write {path}: {error.strerror}")


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
