"""Words as lines: read whatever the bytes are, written with the columns that were asked for."""

import errno
import hashlib
import io
import itertools
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.pronouncer import Alternative, Pronouncer, Pronunciation
from grapheme_to_phoneme.inference.word_lists import (
    Layout,
    Position,
    Report,
    WordReader,
    answer_words,
    describe_character,
    format_alignment,
    format_lines,
    open_input,
    printable,
)
from tests.conftest import TinyRun

LONGEST_LINE = 1000


def read(content: bytes, longest_line: int = LONGEST_LINE) -> list[str]:
    return list(WordReader(io.BytesIO(content), longest_line))


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


def test_bytes_that_are_no_utf8_come_out_as_they_went_in(tiny_run: TinyRun) -> None:
    content = b"caf\xe9\n\xff\xfe\n\xc3\nfine\n\xed\xa0\x80\n"
    words = read(content)
    assert words[3] == "fine" and len(words) == 5
    answers = answer_words(Pronouncer(tiny_run.model, threads=1), words, Layout())
    assert b"".join(lines.split(b"\t")[0] + b"\n" for lines, _ in answers) == content


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


@given(st.lists(st.binary(max_size=12), max_size=12), st.integers(0, 12), st.integers(3, 12))
def test_reading_goes_on_after_any_word(
    pieces: list[bytes], taken: int, longest_line: int
) -> None:
    content = b"\n".join(pieces)
    reader = WordReader(io.BytesIO(content), longest_line)
    words = iter(reader)
    first = list(itertools.islice(words, taken))
    later = WordReader(io.BytesIO(content), longest_line)
    later.skip_to(reader.position)
    assert [*first, *later] == read(content, longest_line)


@pytest.mark.parametrize("content", [b"", b"one\n", b"one\ntwx\nthree\n"])
def test_reading_goes_on_in_the_same_input_alone(content: bytes) -> None:
    reader = WordReader(io.BytesIO(b"one\ntwo\nthree\n"), LONGEST_LINE)
    words = iter(reader)
    assert [next(words), next(words)] == ["one", "two"]
    with pytest.raises(UserError, match="is not what the interrupted run read"):
        WordReader(io.BytesIO(content), LONGEST_LINE).skip_to(reader.position)


def test_position_is_of_the_words_given() -> None:
    reader = WordReader(io.BytesIO(b"\xef\xbb\xbfone\r\ntwo"), 4)
    nothing = hashlib.sha256().hexdigest()
    assert reader.position == Position(0, nothing)
    words = iter(reader)
    next(words)
    assert reader.position.bytes_read == 8
    assert list(words) == ["two"] and reader.position.bytes_read == 11


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
        list(WordReader(io.BufferedReader(Broken()), 100))


def test_input_is_bytes(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"one\r\n\xff")
    with open_input(str(path)) as file:
        assert file.read() == b"one\r\n\xff"


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
    one.add("7", ("7",))
    assert (other.words, other.unknown) == (0, [])


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\r\n")))
    with open_input("-") as file:
        assert file.read() == b"one\r\n"


def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="it is closed; say --input"), open_input("-"):
        pytest.fail("the work was begun")


def test_real_model_answers_every_line(tiny_run: TinyRun) -> None:
    pronouncer = Pronouncer(tiny_run.model, threads=1)
    content = "stone\r\n\n caf\u00e9 \nnaïve\n".encode() + b"\xff\nkitten\n" + b"s" * 5000 + b"\n"
    answers = answer_words(pronouncer, read(content, longest_line=100), Layout())
    lines = [lines.decode("utf-8", "surrogateescape").split("\t") for lines, _ in answers]
    assert [line[0] for line in lines[:6]] == ["stone", "", " café ", "naïve", "\udcff", "kitten"]
    assert len(lines) == 7 and all(len(line) == 2 for line in lines)
    assert [line[1] != "\n" for line in lines] == [True, False, True, True, False, True, True]
    assert [unknown for _, unknown in answers[3:6]] == [("ï",), ("\udcff",), ()]


def test_answers_do_not_depend_on_the_words_beside_them(tiny_run: TinyRun) -> None:
    """What resuming, caching and several processes rest on, to the last digit."""
    pronouncer = Pronouncer(tiny_run.model, threads=1)
    words = [entry.spelling for entry in tiny_run.lexicon.dev[:300]]
    layout = Layout(n_best=3, show_alignment=True)
    together = answer_words(pronouncer, words, layout)
    few = [answer_words(pronouncer, words[i : i + 7], layout) for i in range(0, len(words), 7)]
    assert [answer for answers in few for answer in answers] == together
    backwards = answer_words(pronouncer, words[::-1], layout)
    assert backwards[::-1] == together
