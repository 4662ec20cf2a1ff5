"""Streams of words: in order, every answer once, in memory that does not grow."""

import io
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.bulk.engines import Engine
from grapheme_to_phoneme.bulk.stream import Block, EntryCache, answer_in_blocks
from grapheme_to_phoneme.inference.word_lists import Answer, WordReader

MEGABYTE = 2**20


class EchoEngine(Engine):
    """Says every letter as it is, and knows no digits; remembers what it was asked.

    It answers as late as it may, as processes do.
    """

    def __init__(self, blocks_at_a_time: int = 1, keeps_words: bool = True) -> None:
        self.blocks_at_a_time = blocks_at_a_time
        self.batches: list[int] = []
        self.asked: list[str] = []
        self._keeps_words = keeps_words

    def submit(self, words: Sequence[str]) -> Callable[[], list[Answer]]:
        self.batches.append(len(words))
        if self._keeps_words:
            self.asked.extend(words)
        return lambda: [
            (f"{word}\t{' '.join(word[:5])}\n".encode(), tuple(filter(str.isdigit, word[:5])))
            for word in words
        ]


class EndlessFile(io.RawIOBase):
    """Bytes that are made while they are read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        self._rest = self._rest or memoryview(next(self._pieces, b""))
        taken = self._rest[: len(buffer)]
        self._rest = self._rest[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


def answer(
    engine: Engine, words: Iterable[str], words_per_block: int = 100, cache_size: int = MEGABYTE
) -> Iterator[Block]:
    cache = EntryCache(cache_size)
    return answer_in_blocks(words, lambda: None, engine, cache, words_per_block)


def text_of(blocks: Iterable[Block]) -> bytes:
    return b"".join(entry.lines for block in blocks for entry in block.entries)


def peak_memory(pieces: Iterator[bytes], longest_line: int) -> tuple[int, int, int]:
    """Stream bytes through everything; return words, bytes of output, peak bytes of memory."""
    words = written = 0
    tracemalloc.start()
    try:
        reader = WordReader(io.BufferedReader(EndlessFile(pieces)), longest_line)
        for block in answer(EchoEngine(keeps_words=False), reader, 8192):
            for entry in block.entries:
                words += 1
                written += len(entry.lines)
        return words, written, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_order_and_unknown_characters() -> None:
    engine = EchoEngine()
    words = ["ab", "c1c", "", "22", "3", "4", "d"]
    blocks = list(answer(engine, iter(words), words_per_block=3))
    assert text_of(blocks) == b"ab\ta b\nc1c\tc 1 c\n\t\n22\t2 2\n3\t3\n4\t4\nd\td\n"
    assert engine.batches == [3, 3, 1]
    entries = [entry for block in blocks for entry in block.entries]
    assert [entry.word for entry in entries] == words
    assert [entry.unknown_characters for entry in entries[:4]] == [(), ("1",), (), ("2", "2")]


def test_no_words() -> None:
    assert list(answer(EchoEngine(), [])) == []


@pytest.mark.parametrize(("window", "seen"), [(1, [3, 6, 7]), (2, [6, 7, 7])])
def test_words_are_taken_as_they_are_needed(window: int, seen: list[int]) -> None:
    taken: list[int] = []

    def words() -> Iterator[str]:
        for number in range(7):
            taken.append(number)
            yield f"word{number}"

    blocks = answer(EchoEngine(window), words(), words_per_block=3)
    assert [len(taken) for _ in blocks] == seen


def test_positions_are_those_of_the_words() -> None:
    reader = WordReader(io.BytesIO(b"one\ntwo\nthree\nfour\n"), 100)
    blocks = answer_in_blocks(
        reader, lambda: reader.position.bytes_read, EchoEngine(3), EntryCache(MEGABYTE), 2
    )
    assert [(block.position, len(block.entries)) for block in blocks] == [(8, 2), (19, 2)]


@given(
    st.lists(st.sampled_from(["", "a", "bb", "7", "é", "long" * 20]), max_size=60),
    st.integers(1, 5),
    st.integers(1, 7),
    st.sampled_from([0, 300, 700, MEGABYTE]),
)
def test_answers_are_the_same_whatever_is_remembered(
    words: list[str], window: int, words_per_block: int, cache_size: int
) -> None:
    engine = EchoEngine(window)
    text = text_of(answer(engine, words, words_per_block, cache_size))
    assert text == text_of(answer(EchoEngine(), words, 100))
    assert text.decode().count("\n") == len(words)
    if cache_size == MEGABYTE:
        assert sorted(engine.asked) == sorted(set(words))


def test_words_used_last_are_remembered() -> None:
    engine = EchoEngine()
    # An entry takes about 330 bytes, so three of them fit.
    text_of(answer(engine, ["a", "b", "c", "a", "d", "a", "b"], 1, 1100))
    assert engine.asked == ["a", "b", "c", "d", "b"]


def test_known_words_are_not_submitted() -> None:
    engine = EchoEngine()
    assert len(text_of(answer(engine, ["a"] * 5000, 100))) == 5000 * len(b"a\ta\n")
    assert engine.batches == [1]


def test_hundreds_of_megabytes_need_little_memory() -> None:
    piece = b"".join(b"%s%07d\n" % (b"x" * 5000, number) for number in range(200))
    few, _, small_peak = peak_memory(iter([piece] * 10), MEGABYTE)
    words, written, peak = peak_memory(iter([piece] * 310), MEGABYTE)
    assert 310 * len(piece) > 290 * MEGABYTE
    assert (few, words) == (2_000, 62_000)
    assert written > 310 * len(piece)
    assert peak < 1.5 * small_peak and peak < 16 * MEGABYTE


def test_new_words_without_end_need_little_memory() -> None:
    pieces = (b"".join(b"w%d\n" % (20_000 * i + j) for j in range(20_000)) for i in range(3))
    words, _, peak = peak_memory(pieces, MEGABYTE)
    assert words == 60_000 and peak < 16 * MEGABYTE


@pytest.mark.parametrize("line", [b"x" * MEGABYTE, b"x" * (MEGABYTE - 1) + b"\n"])
def test_endless_lines_need_little_memory(line: bytes) -> None:
    """One line that never ends, and many that take long to."""
    words, written, peak = peak_memory(iter([line] * 200), MEGABYTE)
    assert words == 200 if line.endswith(b"\n") else words == 1
    assert written < words * 2 * MEGABYTE
    assert peak < 16 * MEGABYTE


def test_cache_keeps_to_its_size() -> None:
    cache = EntryCache(MEGABYTE)
    tracemalloc.start()
    try:
        for number in range(10_000):
            entry = cache.add(f"word{number}")
            cache.settle(entry, (b"word%d\tW ER D\n" % number, ()))
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.7 * MEGABYTE < used < 1.3 * MEGABYTE
