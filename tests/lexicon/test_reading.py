"""Lexicons are read whole, or refused with one line that names what is wrong."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.data import AS_WRITTEN
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling, ungroup
from grapheme_to_phoneme.lexicon.reading import LEXICON_FORMATS, check_disjoint, read_lexicon
from grapheme_to_phoneme.lexicon.writing import write_tsv
from grapheme_to_phoneme.normalization import Normalization


@pytest.fixture(scope="module")
def scratch_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reading") / "lexicon.tsv"


def read_text(tmp_path: Path, content: str | bytes, *arguments, **options) -> list[Entry]:
    path = tmp_path / "lexicon.tsv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_lexicon(path, *arguments, **options)


def test_tsv(tmp_path: Path) -> None:
    entries = read_text(tmp_path, "New York\tn uː  j ɔː k\nrock\u2019n\tr ɒ k ə n\n\n")
    assert entries == [
        Entry("new york", ("n", "uː", "j", "ɔː", "k")),
        Entry("rock'n", ("r", "ɒ", "k", "ə", "n")),
    ]


def test_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    entries = read_text(tmp_path, b"\xef\xbb\xbfcat\tK AE1 T\r\ndog\tD AO1 G\r\n")
    assert entries == [Entry("cat", ("K", "AE1", "T")), Entry("dog", ("D", "AO1", "G"))]


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    entries = read_text(tmp_path, "a\u2028b\tA\n")
    assert entries == [Entry("a\u2028b", ("A",))]


def test_cmudict(tmp_path: Path) -> None:
    content = (
        ";;; an older release's comment\n"
        "READ  R EH1 D\n"
        "read(2) R IY1 D # the present\n"
        "# nothing else\n"
        "a.m. EY2 EH1 M\n"
    )
    assert read_text(tmp_path, content) == [
        Entry("read", ("R", "EH1", "D")),
        Entry("read", ("R", "IY1", "D")),
        Entry("a.m.", ("EY2", "EH1", "M")),
    ]


def test_real_cmudict_keeps_every_line(cmudict_path: Path) -> None:
    entries = read_lexicon(cmudict_path)
    assert len(entries) == 135_166
    groups = group_by_spelling(entries)
    assert len(groups) == 126_052
    assert groups["associate"][:2] == [
        ("AH0", "S", "OW1", "S", "IY0", "AH0", "T"),
        ("AH0", "S", "OW1", "S", "IY0", "EY2", "T"),
    ]
    # Two lines repeat a pronunciation.
    assert len(ungroup(groups)) == 135_164


@pytest.mark.parametrize(
    ("written", "stripped"),
    [
        ("K AE1 T AH0 L AO2 G", ("K", "AE", "T", "AH", "L", "AO", "G")),
        ("ˈk æ ˌt", ("k", "æ", "t")),
        ("ˈ k æ", ("k", "æ")),
        # Tone digits are not stress, nor are X-SAMPA's vowels 1 and 2.
        ("a5 n1", ("a5", "n1")),
        ("b l 2 9 1", ("b", "l", "2", "9", "1")),
    ],
)
def test_strip_stress(tmp_path: Path, written: str, stripped: tuple[str, ...]) -> None:
    (entry,) = read_text(tmp_path, f"word\t{written}\n", strip_stress=True)
    assert entry.phones == stripped


def test_normalization_is_the_given_one(tmp_path: Path) -> None:
    content = "Cafe\u0301\tk a f e\n"
    (lower,) = read_text(tmp_path, content)
    (kept,) = read_text(tmp_path, content, normalization=Normalization(case="keep"))
    (written,) = read_text(tmp_path, content, normalization=AS_WRITTEN)
    assert [entry.spelling for entry in (lower, kept, written)] == [
        "caf\u00e9",
        "Caf\u00e9",
        "Cafe\u0301",
    ]


@pytest.mark.parametrize(
    ("content", "lexicon_format", "faults"),
    [
        ("cat\tK\ndog\n", "auto", ["1 malformed line: line 2: 'dog' is one column"]),
        ("cat\tK\ndog\t\n", "auto", ["line 2: 'dog' has no phones"]),
        ("cat\tK\ndog\t \t\n", "auto", ["line 2: 'dog' is followed by 2 columns"]),
        ("cat\tK\n\tD AO G\n", "auto", ["line 2: the spelling is empty"]),
        ("cat\tK\n\u200b\tD\n", "auto", ["line 2: nothing is left of the spelling '\\u200b'"]),
        ("cat\tK\n\ufeff \u00ad\tD\n", "auto", ["line 2: nothing is left"]),
        ("cat\ndog\n", "auto", ["2 malformed lines: line 1: 'cat'", "line 2: 'dog' is one col"]),
        # A list of phrases must not be taken for spellings with pronunciations.
        ("new york\nlos angeles\n", "auto", ["line 1: 'new york' is one column"]),
        ("cat K AE1 T\ndog\n", "auto", ["line 2: 'dog' has no phones"]),
        ("cat\ndog D\n", "cmudict", ["line 1: 'cat' has no phones"]),
        ("cat D\n(2) D\n", "cmudict", ["line 2: the spelling is empty"]),
        ("cat D\ndog # D\n", "cmudict", ["line 2: 'dog' has no phones"]),
        (b"cat\tK\nd\xffg\tD\n", "auto", ["not UTF-8 in 1 line: line 2: byte 0xff"]),
        (b"\xff\xfec\x00a\x00", "auto", ["is UTF-16"]),
        (b"", "auto", ["is empty"]),
        (b"\r\n \n", "tsv", ["is empty"]),
        (b"\xef\xbb\xbf", "tsv", ["is empty"]),
        ("# only a comment\n", "cmudict", ["holds no entries"]),
        ("cat\tK\rdog\tD\r", "auto", ["line 1: a carriage return alone ends no line"]),
        ("cat K\ndog D\rfox F\n", "cmudict", ["line 2: a carriage return alone"]),
    ],
)
def test_malformed(
    tmp_path: Path, content: str | bytes, lexicon_format: str, faults: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        read_text(tmp_path, content, lexicon_format)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "lexicon.tsv"))
    assert "\n" not in message
    for fault in faults:
        assert fault in message


def test_stress_alone_is_no_pronunciation(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1: nothing is left of the phones of 'cat'"):
        read_text(tmp_path, "cat\tˈ ˌ\n", strip_stress=True)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    content = "good\tG\n" + "bad\n" * 1_234
    with pytest.raises(UserError) as caught:
        read_text(tmp_path, content, "tsv")
    message = str(caught.value)
    assert "1,234 malformed lines" in message
    assert "line 6:" in message and "line 7:" not in message
    assert "and 1,229 more" in message


def test_long_and_hostile_words_are_shown_short(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_text(tmp_path, f"\x1b[31m{'a' * 10_000}\n", "tsv")
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("absent.tsv", "there is no file"),
        (".", "is a folder"),
        ("a" * 300, "cannot read"),
        ("nul\0.tsv", "cannot read"),
    ],
)
def test_unreadable(tmp_path: Path, name: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        read_lexicon(tmp_path / name)


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose one of auto, tsv, cmudict"):
        read_text(tmp_path, "cat\tK\n", "csv")


@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.text(alphabet="aB1é'\u0301\u200b #;()2\t\n\r\0", max_size=60).map(str.encode),
    ),
    lexicon_format=st.sampled_from(LEXICON_FORMATS),
    strip_stress=st.booleans(),
)
def test_any_bytes_give_entries_or_one_line(
    scratch_path: Path, content: bytes, lexicon_format: str, strip_stress: bool
) -> None:
    scratch_path.write_bytes(content)
    try:
        entries = read_lexicon(scratch_path, lexicon_format, strip_stress=strip_stress)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert entries
    for entry in entries:
        assert entry.spelling == entry.spelling.strip() != ""
        assert "\t" not in entry.spelling and "\n" not in entry.spelling
        assert entry.phones and all(entry.phones)
        assert not any(character.isspace() for phone in entry.phones for character in phone)
    write_tsv(scratch_path, entries)
    assert read_lexicon(scratch_path, "tsv", AS_WRITTEN) == entries


@given(
    st.lists(
        st.tuples(
            st.text(alphabet="abcé'- ", min_size=1, max_size=8).filter(str.strip),
            st.lists(st.text(alphabet="AKæˈ1", min_size=1, max_size=3), min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_well_formed_lines_are_all_read(
    scratch_path: Path, pairs: list[tuple[str, list[str]]], line_end: str
) -> None:
    lines = [f"{spelling}\t{' '.join(phones)}{line_end}" for spelling, phones in pairs]
    scratch_path.write_bytes("".join(lines).encode())
    assert read_lexicon(scratch_path) == [
        Entry(spelling.strip(), tuple(phones)) for spelling, phones in pairs
    ]


def test_disjoint() -> None:
    train = [Entry(f"w{number:02}", ("A",)) for number in range(20)]
    assert check_disjoint(train, [Entry("other", ("A",))]) == []
    with pytest.raises(UserError) as caught:
        check_disjoint(train, [Entry("other", ("A",)), *train[3:]])
    message = str(caught.value)
    assert "17 words in both the train and the dev lexicon: 'w03', 'w04'" in message
    assert "and 12 more" in message
    assert "data.allow_overlap=true" in message
    assert check_disjoint(train, train[:2], allow_overlap=True) == ["w00", "w01"]


def test_writing_fails_clearly_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    write_tsv(path, [Entry("old", ("O",))])

    def interrupted():
        yield Entry("new", ("N",))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tsv(path, interrupted())
    assert path.read_text() == "old\tO\n"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot write .*or choose another folder$"):
        write_tsv(path / "below_a_file.tsv", [Entry("new", ("N",))])


@pytest.mark.parametrize("name", ["", ".", "..", "folder", "folder/.."])
def test_folder_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    (tmp_path / "folder" / "folder").mkdir()
    with pytest.raises(UserError, match="cannot write .*: it is a folder"):
        write_tsv(Path(name), [Entry("new", ("N",))])
    assert len(list(tmp_path.rglob("*"))) == 2


def test_link_is_replaced_and_its_file_stays(tmp_path: Path) -> None:
    link, target = tmp_path / "link.tsv", tmp_path / "cached.tsv"
    link.symlink_to(target)
    target.write_text("old")
    write_tsv(link, [Entry("new", ("N",))])
    assert not link.is_symlink() and link.read_text() == "new\tN\n"
    assert target.read_text() == "old"


def test_pipe_stays_and_its_reader_gets_the_lexicon(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_tsv(pipe, [Entry("new", ("N",))])
    reader.join(60)
    assert received == [b"new\tN\n"]
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
