"""Streams words through an engine: every answer once, all lines in order, in bounded memory."""

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from grapheme_to_phoneme.bulk.engines import Engine
from grapheme_to_phoneme.inference.word_lists import Answer

#: Characters of the words that wait for an answer together, give or take a word.
CHARACTERS_PER_BLOCK = 2**19

#: A block in which most words are known already ends at so many times its new words.
WORDS_PER_NEW_WORD = 8

#: What an entry takes in memory besides its word and lines, in bytes; measured in CPython 3.11.
ENTRY_OVERHEAD = 250

#: Tells how far the words are read; what it is, is the caller's business.
PositionType = TypeVar("PositionType")


class Entry:
    """A word and, as soon as it is known, the answer to it.

    Attributes:
        word: the word as it was given.
        lines: its lines, with their line ends; empty before they are known.
        unknown_characters: the characters that the model does not know.
    """

    __slots__ = ("lines", "unknown_characters", "word")

    def __init__(self, word: str) -> None:
        self.word = word
        self.lines = b""
        self.unknown_characters: tuple[str, ...] = ()


class EntryCache:
    """Remembers the words used last, up to a number of bytes, so that none is asked twice.

    A word that waits for its answer is remembered as well: who asks for it again gets the same
    entry, and the answer with it.

    Args:
        size: bytes of words and lines to remember.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def find(self, word: str) -> Entry | None:
        """Return the entry of a word, or None where it is not remembered."""
        entry = self._entries.get(word)
        if entry is not None:
            self._entries.move_to_end(word)
        return entry

    def add(self, word: str) -> Entry:
        """Remember a word without an answer yet."""
        entry = self._entries[word] = Entry(word)
        return entry

    def settle(self, entry: Entry, answer: Answer) -> None:
        """Give an entry its answer, and forget the words used least recently."""
        entry.lines, entry.unknown_characters = answer
        # It may be forgotten already, while those who wait for it still hold it.
        if self._entries.get(entry.word) is entry:
            self._used += _bytes_of(entry)
        while self._used > self._size:
            _, forgotten = self._entries.popitem(last=False)
            if forgotten.lines:
                self._used -= _bytes_of(forgotten)


def _bytes_of(entry: Entry) -> int:
    return sys.getsizeof(entry.word) + sys.getsizeof(entry.lines) + ENTRY_OVERHEAD


@dataclass(slots=True)
class Block(Generic[PositionType]):
    """Consecutive words, answered.

    Attributes:
        entries: one for each word, in order; a word that comes again has the same entry.
        position: how far the words are read when these are answered.
    """

    position: PositionType
    entries: list[Entry] = field(default_factory=list)


def answer_in_blocks(
    words: Iterable[str],
    position: Callable[[], PositionType],
    engine: Engine,
    cache: EntryCache,
    words_per_block: int,
) -> Iterator[Block[PositionType]]:
    """Answer words and yield them in blocks, in their order.

    The words are taken as they are needed. What comes out depends on the words alone: neither
    on the engine nor on what the cache remembers, because an answer depends on its word alone.

    Args:
        words: the words.
        position: tells how far they are read.
        engine: answers the words that the cache does not know.
        cache: remembers answers.
        words_per_block: most words that wait for an answer together.
    """
    waiting: deque[tuple[Block, list[Entry], Callable[[], list[Answer]]]] = deque()
    for block, new in _divide(words, position, cache, words_per_block):
        # Where nothing is new there is nothing to wait for.
        answers = engine.submit([entry.word for entry in new]) if new else list
        waiting.append((block, new, answers))
        if len(waiting) >= engine.blocks_at_a_time:
            yield _settle(cache, *waiting.popleft())
    while waiting:
        yield _settle(cache, *waiting.popleft())


def _divide(
    words: Iterable[str],
    position: Callable[[], PositionType],
    cache: EntryCache,
    words_per_block: int,
) -> Iterator[tuple[Block[PositionType], list[Entry]]]:
    """Yield blocks without answers, each with those of its entries that are new."""
    most_words = WORDS_PER_NEW_WORD * words_per_block
    entries: list[Entry] = []
    new: list[Entry] = []
    characters = 0
    for word in words:
        entry = cache.find(word)
        if entry is None:
            entry = cache.add(word)
            new.append(entry)
            characters += len(word)
        entries.append(entry)
        if (
            len(new) == words_per_block
            or len(entries) == most_words
            or characters >= CHARACTERS_PER_BLOCK
        ):
            yield Block(position(), entries), new
            entries, new, characters = [], [], 0
    if entries:
        yield Block(position(), entries), new


def _settle(
    cache: EntryCache,
    block: Block[PositionType],
    new: list[Entry],
    answers: Callable[[], list[Answer]],
) -> Block[PositionType]:
    for entry, answer in zip(new, answers(), strict=True):
        cache.settle(entry, answer)
    return block
