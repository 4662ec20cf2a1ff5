"""Word lists: a line in, a line out, whatever the bytes, in memory that does not grow."""

import errno
import io
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.pronouncer import Alternative, Pronouncer, Pronunciation
from grapheme_to_phoneme.inference.word_lists import (
    Report,
    describe_character,
    format_alignment,
    format_lines,
    open_input,
    open_output,
    printable,
    pronounce_stream,
    read_words,
)
from tests.conftest import TinyRun

LONGEST_LINE = 1000
MEGABYTE = 2**20


class EchoPronouncer:
    """Says every letter as it is, and knows no digits; remembers the sizes of its batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def pronounce(
        self,
        words: list[str],
        n_best: int = 1,
        beam_size: int | None = None,
        with_alignment: bool = False,
    ) -> list[Pronunciation]:
        self.batches.append(len(words))
        return [
            Pronunciation(word, tuple(word[:5]), 0.5, (), tuple(filter(str.isdigit, word[:5])))
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


def read(content: bytes, longest_line: int = LONGEST_LINE) -> list[str]:
    return list(read_words(io.BytesIO(content), longest_line))


def pronounce(
    pronouncer: Pronouncer | EchoPronouncer, words: Iterable[str], words_per_batch: int = 100
) -> tuple[str, Report]:
    lines: list[str] = []
    report = Report(limit=3)
    pronounce_stream(pronouncer, words, lines.append, 1, None, words_per_batch, report)
    return "".join(lines), report


def peak_memory(pieces: Iterator[bytes], longest_line: int) -> tuple[int, int, int]:
    """Stream bytes through everything; return words, bytes of output, peak bytes of memory."""
    written = 0

    def write(line: str) -> None:
        nonlocal written
        written += len(line)

    report = Report(limit=20)
    tracemalloc.start()
    try:
        words = read_words(io.BufferedReader(EndlessFile(pieces)), longest_line)
        pronounce_stream(EchoPronouncer(), words, write, 1, None, 8192, report)
        return report.words, written, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"\n\none\n\n", ["", "", "one", ""]),
        (b"\xef\xbb\xbfone\ntwo", ["one", "two"]),
        (b"one\n\xef\xbb\xbftwo\n", ["one", "\ufefftwo"]),
        (b"\xef\xbb\xbf", [""]),
        (b" one \t\n", [" one \t"]),
        ("\u2028é\u0085\n".encode(), ["\u2028é\u0085"]),
        (b"one\rtwo\n", ["one\rtwo"]),
        (b"a\0b\n\0\n", ["a\0b", "\0"]),
    ],
)
def test_lines(content: bytes, words: list[str]) -> None:
    assert read(content) == words


def test_bytes_that_are_no_utf8_come_out_as_they_went_in(tmp_path: Path) -> None:
    content = b"caf\xe9\n\xff\xfe\n\xc3\nfine\n\xed\xa0\x80\n"
    words = read(content)
    assert words[3] == "fine" and len(words) == 5
    target = tmp_path / "out.tsv"
    with open_output(str(target)) as write:
        for word in words:
            write(format_lines(Pronunciation(word, (), 0.0), 1))
    assert target.read_bytes().replace(b"\t", b"") == content


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=20))
def test_every_line_is_one_word(lines: list[bytes]) -> None:
    words = read(b"".join(line + b"\n" for line in lines))
    assert len(words) == len(lines)
    for number, (word, line) in enumerate(zip(words, lines, strict=True)):
        expected = line.rstrip(b"\r")
        if number == 0:
            expected = expected.removeprefix(b"\xef\xbb\xbf")
        assert word.encode("utf-8", "surrogateescape") == expected


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("length", [9, 10, 11, 19, 20, 21, 30, 35])
def test_overlong_lines_are_cut_and_stay_one(length: int, ending: bytes) -> None:
    content = b"one\n" + b"x" * length + ending + (b"two\n" if ending else b"")
    words = read(content, longest_line=10)
    expected = min(length, 10)
    assert [words[0], *words[2:]] == ["one", *(["two"] if ending else [])]
    assert set(words[1]) == {"x"} and len(words[1]) == expected


def test_order_and_report() -> None:
    echo = EchoPronouncer()
    words = ["ab", "c1c", "", "22", "3", "4", "d"]
    text, report = pronounce(echo, iter(words), words_per_batch=3)
    assert text == "ab\ta b\nc1c\tc 1 c\n\t\n22\t2 2\n3\t3\n4\t4\nd\td\n"
    assert echo.batches == [3, 3, 1]
    assert (report.words, report.unknown_count) == (7, 4)
    # Only so many are kept, every character once.
    assert report.unknown == [("c1c", ("1",)), ("22", ("2",)), ("3", ("3",))]


def test_no_words() -> None:
    text, report = pronounce(EchoPronouncer(), [])
    assert (text, report.words, report.unknown_count) == ("", 0, 0)


def test_words_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def words() -> Iterator[str]:
        for number in range(7):
            taken.append(number)
            yield "word"

    seen: list[int] = []
    report = Report(limit=1)
    pronounce_stream(
        EchoPronouncer(), words(), lambda line: seen.append(len(taken)), 1, None, 3, report
    )
    assert seen == [3, 3, 3, 6, 6, 6, 7]


def test_white_space_inside_a_word_makes_no_column_or_line() -> None:
    answer = Pronunciation("a\tb\rc\nd\x0be", ("K",), 1.0)
    assert format_lines(answer, 1) == "a b c d\x0be\tK\n"


def test_lines_with_probabilities() -> None:
    others = (Alternative(("K", "L"), 0.25), Alternative((), 0.0000004))
    answer = Pronunciation("word", ("K",), 0.5, others)
    assert format_lines(answer, 3) == "word\tK\t0.500000\nword\tK L\t0.250000\nword\t\t0.000000\n"
    assert format_lines(answer, 1) == "word\tK\n"


def test_lines_with_sources() -> None:
    answer = Pronunciation("word", ("K",), 0.5, (Alternative((), 0.25),))
    assert format_lines(answer, 1, show_source=True) == "word\tK\tmodel\n"
    assert format_lines(answer, 2, show_source=True) == (
        "word\tK\t0.500000\tmodel\nword\t\t0.250000\tmodel\n"
    )
    looked_up = Pronunciation("word", ("K",), 1.0, source="dictionary")
    assert format_lines(looked_up, 1, show_source=True) == "word\tK\tdictionary\n"
    assert format_lines(looked_up, 1) == "word\tK\n"


@pytest.mark.parametrize(
    ("alignment", "shown"),
    [
        ((), ""),
        ((("b", ("B",)), ("o", ("AA1",)), ("x", ("K", "S"))), "b→B o→AA1 x→K+S"),
        ((("k", ()), ("n", ("N",))), "k→_ n→N"),
        (((" ", ()), ("\n", ("T",))), "␣→_ ␣→T"),
    ],
)
def test_alignments_are_shown(
    alignment: tuple[tuple[str, tuple[str, ...]], ...], shown: str
) -> None:
    assert format_alignment(alignment) == shown


def test_columns_keep_their_order() -> None:
    other = Alternative(("S",), 0.25, (("x", ("S",)),))
    answer = Pronunciation("x", ("K", "S"), 0.5, (other,), alignment=(("x", ("K", "S")),))
    assert format_lines(answer, 1, True, True) == "x\tK S\tx→K+S\tmodel\n"
    assert format_lines(answer, 1, show_alignment=True) == "x\tK S\tx→K+S\n"
    assert format_lines(answer, 2, True, True) == (
        "x\tK S\t0.500000\tx→K+S\tmodel\nx\tS\t0.250000\tx→S\tmodel\n"
    )
    nothing = Pronunciation("7", (), 0.0, (), ("7",))
    assert format_lines(nothing, 1, True, True) == "7\t\t\tmodel\n"


def test_real_model_answers_every_line(tiny_run: TinyRun) -> None:
    pronouncer = Pronouncer(tiny_run.model, threads=1)
    content = "stone\r\n\n caf\u00e9 \nnaïve\n".encode() + b"\xff\nkitten\n" + b"s" * 5000 + b"\n"
    text, report = pronounce(pronouncer, read(content, longest_line=100), words_per_batch=2)
    lines = [line.split("\t") for line in text.splitlines()]
    assert [line[0] for line in lines[:6]] == ["stone", "", " café ", "naïve", "\udcff", "kitten"]
    assert len(lines) == 7 and all(len(line) == 2 for line in lines)
    assert [bool(line[1]) for line in lines] == [True, False, True, True, False, True, True]
    assert report.unknown[-1] == ("\udcff", ("\udcff",))


def test_hundreds_of_megabytes_need_little_memory() -> None:
    piece = b"".join(b"%s%07d\n" % (b"x" * 500, number) for number in range(2000))
    few, _, small_peak = peak_memory(iter([piece] * 10), MEGABYTE)
    words, written, peak = peak_memory(iter([piece] * 300), MEGABYTE)
    assert 300 * len(piece) > 290 * MEGABYTE
    assert (few, words) == (20_000, 600_000)
    assert written > 300 * len(piece)
    assert peak < 1.2 * small_peak and peak < 16 * MEGABYTE


def test_short_words_come_in_batches_that_do_not_grow() -> None:
    piece = b"".join(b"w%d\n" % number for number in range(50_000))
    words, _, peak = peak_memory(iter([piece] * 4), MEGABYTE)
    assert words == 200_000 and peak < 16 * MEGABYTE


@pytest.mark.parametrize("line", [b"x" * MEGABYTE, b"x" * (MEGABYTE - 1) + b"\n"])
def test_endless_lines_need_little_memory(line: bytes) -> None:
    """One line that never ends, and many that take long to."""
    words, written, peak = peak_memory(iter([line] * 200), MEGABYTE)
    assert words == 200 if line.endswith(b"\n") else words == 1
    assert written < words * 2 * MEGABYTE
    assert peak < 16 * MEGABYTE


def test_missing_input(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="cannot read .*: No such file"),
        open_input(str(tmp_path / "none.txt")),
    ):
        pass


def test_folder_as_input(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="cannot read .*: Is a directory"),
        open_input(str(tmp_path)),
    ):
        pass


def test_input_that_breaks_off() -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(UserError, match="cannot read the input: Input/output error"):
        list(read_words(io.BufferedReader(Broken()), 100))


def test_folder_as_output_is_refused_before_any_work(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="cannot write .*: it is a folder"),
        open_output(str(tmp_path)),
    ):
        pytest.fail("the work was begun")
    assert list(tmp_path.iterdir()) == []


def test_error_of_the_work_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(ConnectionError, match="elsewhere"),
        open_output(str(tmp_path / "out.tsv")),
    ):
        raise ConnectionError("elsewhere")


def test_input_is_bytes(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"one\r\n\xff")
    with open_input(str(path)) as file:
        assert file.read() == b"one\r\n\xff"


def test_standard_streams(monkeypatch: pytest.MonkeyPatch, capfdbinary) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\r\n")))
    with open_input("-") as file:
        assert file.read() == b"one\r\n"
    with open_output("-") as write:
        write("é\udcff\n")
    assert capfdbinary.readouterr().out == b"\xc3\xa9\xff\n"


def test_output_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    target.write_text("yesterday")
    with open_output(str(target)) as write:
        write("one\n")
        assert target.read_text() == "yesterday"
        assert (tmp_path / "out.tsv.partial").exists()
    assert target.read_text() == "one\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.tsv"]


def test_output_keeps_line_ends_and_is_utf8(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    with open_output(str(target)) as write:
        write("é\n")
    assert target.read_bytes() == b"\xc3\xa9\n"


def test_interrupted_output_does_not_take_the_name(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    target.write_text("yesterday")
    with pytest.raises(KeyboardInterrupt), open_output(str(target)) as write:
        write("one\n")
        raise KeyboardInterrupt
    assert target.read_text() == "yesterday"


@pytest.mark.parametrize("name", ["missing/out.tsv", "."])
def test_output_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(UserError, match="cannot write"),
        open_output(str(tmp_path / name)) as write,
    ):
        write("one\n")


def test_faults_of_the_input_are_not_blamed_on_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="cannot read"),
        open_output(str(tmp_path / "out.tsv")),
        open_input(str(tmp_path / "none.txt")),
    ):
        pass


@pytest.mark.parametrize(
    ("character", "described"),
    [
        ("é", "'é' U+00E9 LATIN SMALL LETTER E WITH ACUTE"),
        ("\0", "U+0000 no name"),
        ("\u200d", "U+200D ZERO WIDTH JOINER"),
        ("😀", "'😀' U+1F600 GRINNING FACE"),
        ("\udcff", "byte 0xFF (not UTF-8)"),
    ],
)
def test_characters_are_described(character: str, described: str) -> None:
    assert describe_character(character) == described


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("plain é", "plain é"),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("\0\n\udcff", "\\x00\\n\\udcff"),
        ("x" * 50, "x" * 40 + "…"),
    ],
)
def test_words_are_fit_for_a_message(word: str, shown: str) -> None:
    assert printable(word) == shown


def test_report_is_fresh_for_every_list() -> None:
    one, other = Report(limit=1), Report(limit=1)
    one.add(Pronunciation("7", (), 0.0, (), ("7",)))
    assert (other.words, other.unknown) == (0, [])
