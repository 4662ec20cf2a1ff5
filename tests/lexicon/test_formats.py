"""Every format is read as it is meant, told by content, and survives the way there and back."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import MissingDependencyError, UserError
from grapheme_to_phoneme.lexicon import formats, segmentation
from grapheme_to_phoneme.lexicon.conversion import Conversion, convert_lexicon
from grapheme_to_phoneme.lexicon.reading import LEXICON_FORMATS, LexiconReader, read_lexicon
from grapheme_to_phoneme.lexicon.records import Record
from tests.conftest import REPOSITORY, run_g2p

PLS_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<lexicon version="1.0" xmlns="http://www.w3.org/2005/01/pronunciation-lexicon"'
    ' alphabet="ipa" xml:lang="en-GB">\n'
)

#: The same two words in every format, as the tools that own the formats write them.
EXAMPLES = {
    "tsv": "tomato\tT AH0 M EY1 T OW2\ncat\tK AE1 T\n",
    "cmudict": ";;; comment\ntomato T AH0 M EY1 T OW2 # a fruit\ntomato(2) T AH0 M AA1 T OW2\n",
    "kaldi": "<UNK> spn\ntomate t o m a t ə\nkatze k a t͡s ə\n",
    "kaldi-probabilities": "tomato 0.75\tT AH0 M EY1 T OW2\ntomato 1.0\tT AH0 M AA1 T OW2\n",
    "mfa": "tomato\t0.99\t0.18\t1.61\t0.95\tt ə m ej t ow\ncat\t0.5\t0.2\t1.0\t1.2\tk æ t\n",
    "phonetisaurus": "tomato\t12.3456\tT AH0 M EY1 T OW2\ncat\t3.5\tK AE1 T\n",
    "answers": "tomato\tT AH0 M EY1 T OW2\t0.773158\ncat\tK AE1 T\t0.99\n",
    "jsonl": '{"word": "tomato", "phones": "T AH0 M"}\n{"spelling": "New York", "phones": ["N"]}',
    "pls": PLS_HEAD
    + "<lexeme role='n'><grapheme>tomato</grapheme><grapheme>Tomato</grapheme>"
    + "<phoneme prefer='true'>t ə m</phoneme><phoneme>t ɒ</phoneme></lexeme></lexicon>",
}

# What can be said in each format without being taken for something else there.
LETTERS = st.sampled_from("abzéßжชאع漢\u0301\u200d<&'\"-.ʼ")
SPELLINGS = st.text(LETTERS, min_size=1, max_size=6)
PHONES = st.lists(
    st.text(st.sampled_from('aAKt͡ʃæˈ123_\\"<&'), min_size=1, max_size=3),
    min_size=1,
    max_size=4,
)
NUMBERS = st.floats(0, 1e6, allow_nan=False, width=32)
RECORDS = st.builds(
    Record,
    SPELLINGS,
    PHONES.map(tuple),
    probability=st.none() | NUMBERS,
    silences=st.none() | st.tuples(NUMBERS, NUMBERS, NUMBERS),
    score=st.none() | NUMBERS,
    comment=st.text("abc #é", max_size=8).map(lambda text: " ".join(text.split())),
    preferred=st.booleans(),
    role=st.sampled_from(["", "noun", "claws:VVI claws:VV0"]),
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@cache
def default_settings() -> DictConfig:
    return compose_config([], "conversion").convert


def convert(source: Path, target: Path, *settings: str) -> Conversion:
    merged = OmegaConf.merge(default_settings(), OmegaConf.from_dotlist(list(settings)))
    return convert_lexicon(source, target, merged)


def records_of(path: Path, lexicon_format: str = "auto") -> list[Record]:
    return list(LexiconReader(path, lexicon_format))


def write_json(path: Path, records: list[Record]) -> None:
    written = [formats.FORMATTERS[formats.JSON_LINES](record) for record in records]
    path.write_bytes("".join(f"{line}\n" for line in written).encode())


@pytest.mark.parametrize("name", EXAMPLES)
def test_formats_are_told_by_content(tmp_path: Path, name: str) -> None:
    path = tmp_path / "lexicon"
    path.write_bytes(EXAMPLES[name].encode())
    reader = LexiconReader(path)
    records = list(reader)
    assert reader.format == name
    assert records == records_of(path, name)
    assert set(EXAMPLES) == set(formats.FORMATS) == set(LEXICON_FORMATS) - {"auto"}


def test_fields(tmp_path: Path) -> None:
    def read(name: str) -> list[Record]:
        path = tmp_path / "lexicon"
        path.write_bytes(EXAMPLES[name].encode())
        return records_of(path, name)

    phones = ("T", "AH0", "M", "EY1", "T", "OW2")
    other = ("T", "AH0", "M", "AA1", "T", "OW2")
    assert read("cmudict") == [
        Record("tomato", phones, comment="a fruit"),
        Record("tomato", other),
    ]
    assert read("kaldi")[0] == Record("<UNK>", ("spn",))
    assert read("kaldi-probabilities")[0] == Record("tomato", phones, probability=0.75)
    assert read("mfa")[0] == Record(
        "tomato",
        ("t", "ə", "m", "ej", "t", "ow"),
        probability=0.99,
        silences=(0.18, 1.61, 0.95),
    )
    assert read("phonetisaurus")[0] == Record("tomato", phones, score=12.3456)
    assert read("answers")[0] == Record("tomato", phones, probability=0.773158)
    assert read("jsonl") == [Record("tomato", ("T", "AH0", "M")), Record("New York", ("N",))]
    assert read("pls") == [
        Record(spelling, said, preferred=preferred, role="n")
        for spelling in ("tomato", "Tomato")
        for said, preferred in ((("t", "ə", "m"), True), (("t", "ɒ"), False))
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # An MFA dictionary with and without numbers.
        ("a\tə\nb 0.5 b iː\n", [("ə",), ("b", "iː")]),
        ("a\t0.5\tə\nb\tb iː\n", [("ə",), ("b", "iː")]),
        ("a ə\nb b iː\n", [("ə",), ("b", "iː")]),
        # Without a full stop it is a phone, as in X-SAMPA.
        ("a 2 n\n", [("2", "n")]),
    ],
)
def test_mfa_with_some_columns(
    tmp_path: Path, content: str, expected: list[tuple[str, ...]]
) -> None:
    path = tmp_path / "some.dict"
    path.write_text(content)
    assert [record.phones for record in records_of(path, "mfa")] == expected


@pytest.mark.parametrize(
    ("content", "lexicon_format", "fault"),
    [
        ("a A\n\nb\n", "kaldi", "line 3: 'b' has no phones"),
        ("a 1.0 A\nb\n", "kaldi-probabilities", "line 2: 'b' has no probability"),
        ("a 1.0 A\nb B B\n", "kaldi-probabilities", "line 2: 'B' is no probability"),
        ("a -0.5 A\n", "kaldi-probabilities", "line 1: '-0.5' is no probability"),
        ("a nan A\n", "kaldi-probabilities", "line 1: 'nan' is no probability"),
        ("a 1e999 A\n", "kaldi-probabilities", "line 1: '1e999' is no probability"),
        ("a\t0.1\t0.2\tA\n", "mfa", "line 1: 'a' is followed by 3 columns, not 1, 2 or 5"),
        ("a\t0.1\t0.2\tx\t1\tA\n", "mfa", "line 1: 'x' is no number"),
        ("a\tA\n", "phonetisaurus", "line 1: 'a' is followed by 1 columns, not score and phones"),
        ("a\tx\tA\n", "phonetisaurus", "line 1: 'x' is no score"),
        ("a\tA\n", "answers", "line 1: 'a' is followed by 1 columns, not phones and probability"),
        ('{"word": "a"}\n', "jsonl", "line 1: no text and no list of texts under 'phones'"),
        ('{"phones": "A"}\n', "jsonl", "line 1: no text under 'spelling'"),
        ('{"word": "a", "phones": []}\n', "jsonl", "line 1: 'a' has no phones"),
        ('{"word": "a", "phones": ["A B"]}\n', "jsonl", "line 1: 'A B' is no phone"),
        ('{"word": "a", "phones": [""]}\n', "jsonl", "line 1: '' is no phone"),
        ('{"word": "\\ud800", "phones": "A"}\n', "jsonl", "line 1: half of a surrogate pair"),
        ('{"word": "a", "phones": "A"}\n{"word"\n', "jsonl", "line 2: no JSON ("),
        ('{"word": "a", "phones": "A", "score": true}\n', "jsonl", "'True' is no score"),
        ('{"word": "a", "phones": "A", "silences": [1]}\n', "jsonl", "are not three numbers"),
        ('["a"]\n', "jsonl", "line 1: no JSON object"),
        ("[" * 50_000 + "\n", "jsonl", "line 1: the brackets are nested too deeply"),
        ('{"word": ' + "9" * 5_000 + "}\n", "jsonl", "line 1: no JSON (a number is too long)"),
        ("<lexicon>\n<lexeme>\n", "auto", "line 3: no well-formed XML"),
        ("<lexicon/>", "auto", "holds no entries"),
        ("<?xml version='1.0'?>\n<html/>", "auto", "line 2: the first element is 'html'"),
        ("", "pls", "line 1: no well-formed XML"),
        ("<?xml version='1.0' encoding='nonsense'?><lexicon/>", "pls", "encoding"),
        (
            "<lexicon><lexeme><grapheme> </grapheme><phoneme>a</phoneme></lexeme></lexicon>",
            "auto",
            "line 1: the spelling is empty",
        ),
        ("a" * 70_000, "auto", "line 1: more than 65,536 bytes without a line end"),
        ("a\tA\n" + "b\t" + "B " * 40_000, "tsv", "line 2: more than 65,536 bytes"),
    ],
)
def test_malformed(tmp_path: Path, content: str, lexicon_format: str, fault: str) -> None:
    path = tmp_path / "lexicon"
    path.write_bytes(content.encode())
    with pytest.raises(UserError) as caught:
        read_lexicon(path, lexicon_format)
    message = str(caught.value)
    assert fault in message and "\n" not in message and len(message) < 500


@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY % a SYSTEM "http://127.0.0.1:1/a.dtd">',
    ],
)
def test_entities_are_refused(tmp_path: Path, declaration: str) -> None:
    path = tmp_path / "bomb.pls"
    path.write_text(
        f"<?xml version='1.0'?>\n<!DOCTYPE lexicon [{declaration}]>\n<lexicon><lexeme>"
        "<grapheme>&a;</grapheme><phoneme>a</phoneme></lexeme></lexicon>"
    )
    with pytest.raises(UserError, match="line 2: entities are not allowed"):
        read_lexicon(path)


def test_entities_of_an_external_definition_are_not_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "external.pls"
    path.write_text(
        "<?xml version='1.0'?>\n<!DOCTYPE lexicon SYSTEM 'file:///etc/passwd'>\n<lexicon>"
        "<lexeme><grapheme>a&b;</grapheme><phoneme>a</phoneme></lexeme></lexicon>"
    )
    with pytest.raises(UserError, match="line 3: entities are not allowed"):
        read_lexicon(path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("<lexicon>" + "<a>" * 100, "more than 32 elements inside one another"),
        ("<lexicon><!--" + "a" * 500_000, "a tag or comment has more than"),
        ("<lexicon " + " ".join(f'a{number}=""' for number in range(60_000)), "a tag or comment"),
        ("<lexicon><lexeme><grapheme>" + "a" * 100_000, "a text has more than 65,536 characters"),
        (
            "<lexicon><lexeme>" + "<grapheme>a</grapheme>" * 500 + "<phoneme>a</phoneme>",
            "a lexeme of more than 128",
        ),
        (
            "<lexicon alphabet='ipa'><lexeme><phoneme alphabet='x-sampa'>a",
            "a phoneme in 'x-sampa' in a lexicon in 'ipa': give one alphabet to a file",
        ),
    ],
)
def test_xml_has_limits(tmp_path: Path, content: str, fault: str) -> None:
    path = tmp_path / "large.pls"
    path.write_text(content)
    with pytest.raises(UserError, match=f"line 1: {fault}"):
        read_lexicon(path)


def test_xml_in_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "encoded.pls"
    entry = "<lexicon><lexeme><grapheme>é</grapheme><phoneme>e</phoneme></lexeme></lexicon>"
    for encoding in ("utf-16", "iso-8859-1", "utf-8-sig"):
        declared = encoding.removesuffix("-sig")
        path.write_bytes(f"<?xml version='1.0' encoding='{declared}'?>{entry}".encode(encoding))
        assert records_of(path) == [Record("é", ("e",))]


@given(records=st.lists(RECORDS, min_size=1, max_size=5), target=st.sampled_from(formats.FORMATS))
def test_there_and_back_loses_what_is_listed_and_nothing_else(
    scratch: Path, records: list[Record], target: str
) -> None:
    source, there, back = (scratch / name for name in ("source.jsonl", "there", "back.jsonl"))
    write_json(source, records)
    assert records_of(source) == records
    try:
        result = convert(source, there, f"to_format={target}")
    except UserError as error:
        # Not a single entry can be said.
        assert f"{target} can say no entry" in str(error)
        return
    convert(there, back, f"from_format={target}", "to_format=jsonl")
    read_back = records_of(back)
    assert len(read_back) == result.written == len(records) - result.left_out
    sayable = iter(read_back)
    unsaid = set(formats.ALL_FIELDS) - set(formats.FIELDS[target])
    assert set(result.lost) <= unsaid
    for record in records:
        if not _can_say(record, target):
            continue
        found = next(sayable)
        assert (found.spelling, found.phones) == (record.spelling, record.phones)
        for name in formats.ALL_FIELDS:
            value = getattr(record, name)
            if name in formats.FIELDS[target]:
                is_added = f"{name} {1.0 if name == 'probability' else 0.0}" in result.added
                assert getattr(found, name) == value or (is_added and value is None)
            elif value not in (None, "", False):
                assert result.lost[name]
    assert next(sayable, None) is None


def _can_say(record: Record, target: str) -> bool:
    """Tell, apart from the writers, which of the records above a format has no words for."""
    if target == "cmudict":
        return "#" not in record.spelling + "".join(record.phones)
    return True


@given(data=st.data())
def test_what_is_written_is_told_by_its_content(scratch: Path, data: st.DataObject) -> None:
    """Realistic files, that is with more than one phone a word and numbers where they belong."""
    words = st.text("abcdefgh", min_size=2, max_size=6)
    phones = st.lists(st.sampled_from(["AA1", "B", "K", "T", "IH0"]), min_size=2, max_size=5)
    records = [
        Record(word, tuple(said), probability=0.25, silences=(0.5, 1.5, 0.75), score=7.5)
        for word, said in data.draw(st.lists(st.tuples(words, phones), min_size=3, max_size=6))
    ]
    source, target = scratch / "source.jsonl", scratch / "told"
    write_json(source, records)
    for name in formats.FORMATS:
        convert(source, target, f"to_format={name}")
        reader = LexiconReader(target)
        assert [record.phones for record in reader] == [record.phones for record in records]
        # Where nothing but the name differs, either is right.
        assert reader.format == ("cmudict" if name == "kaldi" else name)


def test_cmudict_comes_back_byte_by_byte(cmudict_path: Path, tmp_path: Path) -> None:
    source = cmudict_path.read_bytes()
    convert(cmudict_path, tmp_path / "some.jsonl")
    convert(tmp_path / "some.jsonl", tmp_path / "cmudict.dict")
    assert (tmp_path / "cmudict.dict").read_bytes() == source


def test_cmudict_survives_pls_in_ipa(cmudict_path: Path, tmp_path: Path) -> None:
    there = convert(
        cmudict_path,
        tmp_path / "some.pls",
        "from_notation=arpabet",
        "to_notation=ipa",
        "language=en-US",
    )
    assert there.written == 135_166 and not there.left_out
    assert there.remarks() == ["not in the pls file, which cannot say it: comment (22 times)"]
    back = convert(
        tmp_path / "some.pls",
        tmp_path / "lexicon.txt",
        "from_notation=ipa",
        "to_notation=arpabet",
    )
    assert back.written == 135_166
    assert back.remarks() == [
        "not in the kaldi file, which cannot say it: the file's language, 'en-US' (1 time)",
        "not in the kaldi file, which cannot say it: the file's alphabet, 'ipa' (1 time)",
    ]
    original, returned = read_lexicon(cmudict_path), read_lexicon(tmp_path / "lexicon.txt")
    assert original == returned


@pytest.mark.parametrize(
    ("record", "target", "reason"),
    [
        (Record("New York", ("N",)), "kaldi", "white space ends the spelling"),
        (Record("New York", ("N",)), "mfa", "white space ends the spelling"),
        (Record("a\tb", ("A",)), "tsv", "a tab or line end ends the spelling"),
        (Record("a\rb", ("A",)), "tsv", "a tab or line end ends the spelling"),
        (Record("c#", ("S",)), "cmudict", "'#' begins a comment"),
        (Record("f(2)", ("F",)), "cmudict", "counts pronunciations"),
        (Record(";;;a", ("A",)), "cmudict", "begins a comment"),
        (Record("a\0", ("A",)), "pls", "XML has no character U+0000"),
        (Record("\ufeffa", ("A",)), "tsv", "a byte order mark is no letter"),
    ],
)
def test_entries_that_cannot_be_said_are_named(
    tmp_path: Path, record: Record, target: str, reason: str
) -> None:
    source = tmp_path / "source.jsonl"
    write_json(source, [record, Record("good", ("G",))])
    result = convert(source, tmp_path / "target", f"to_format={target}")
    assert (result.written, result.left_out) == (1, 1)
    (remark,) = [text for text in result.remarks() if text.startswith("left out")]
    assert reason in remark
    assert [entry.spelling for entry in records_of(tmp_path / "target", target)] == ["good"]

    write_json(source, [record])
    (tmp_path / "target").unlink()
    with pytest.raises(UserError, match="can say no entry"):
        convert(source, tmp_path / "target", f"to_format={target}")
    assert not (tmp_path / "target").exists()


def test_what_a_format_must_say_is_added_and_told(tmp_path: Path) -> None:
    (tmp_path / "some.tsv").write_text(EXAMPLES["tsv"])
    result = convert(tmp_path / "some.tsv", tmp_path / "lexiconp.txt")
    assert (tmp_path / "lexiconp.txt").read_text().splitlines()[1] == "cat 1.0 K AE1 T"
    assert result.remarks() == [
        "added, since kaldi-probabilities must say it: probability 1.0 (2 times)"
    ]


def test_what_no_record_holds_is_told(tmp_path: Path) -> None:
    (tmp_path / "some.pls").write_text(
        PLS_HEAD + "<lexeme><grapheme>a</grapheme><alias>b</alias><phoneme>a</phoneme>"
        "<example>an a</example></lexeme></lexicon>"
    )
    remarks = convert(tmp_path / "some.pls", tmp_path / "some.tsv").remarks()
    assert [remark.partition("say it: ")[2] for remark in remarks] == [
        "alias (1 time)",
        "example (1 time)",
        "the file's language, 'en-GB' (1 time)",
        "the file's alphabet, 'ipa' (1 time)",
    ]
    (tmp_path / "some.jsonl").write_text('{"word": "a", "phones": "A", "source": "me"}\n')
    (remark,) = convert(tmp_path / "some.jsonl", tmp_path / "other.tsv").remarks()
    assert remark.endswith("say it: 'source' (1 time)")


def test_faults_leave_the_target_alone(tmp_path: Path) -> None:
    (tmp_path / "some.tsv").write_text("a\tA\n" * 2000 + "b\n")
    (tmp_path / "lexicon.txt").write_text("old A\n")
    with pytest.raises(UserError, match="line 2001: 'b' is one column"):
        convert(tmp_path / "some.tsv", tmp_path / "lexicon.txt")
    assert (tmp_path / "lexicon.txt").read_text() == "old A\n"


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("New York\tn uː\ncat\tk æ t\n")
    done = run_g2p("convert-lexicon", "in.tsv", "out.pls", "--language=en", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"out.pls: 2 entries, from tsv to pls" in done.stderr
    left_out = run_g2p("convert-lexicon", "out.pls", "lexicon.txt", cwd=tmp_path)
    assert left_out.returncode == 4
    assert b"left out: 'New York': white space ends the spelling" in left_out.stderr
    assert (tmp_path / "lexicon.txt").read_text() == "cat k æ t\n"
    for arguments, fault in (
        (("in.tsv",), b"takes two files"),
        (("in.tsv", "out.dict"), b"say --to-format with one of tsv, cmudict"),
        (("in.tsv", "out.tsv", "--from-format=csv"), b"unknown lexicon format 'csv'"),
        (("in.tsv", "out.tsv", "--to-notation=ipa"), b"--from-notation"),
        (("in.tsv", "out.tsv", "--format=tsv"), b"does not know --format"),
    ):
        refused = run_g2p("convert-lexicon", *arguments, cwd=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr.startswith(b"g2p: error: ") and fault in refused.stderr
        assert refused.stderr.count(b"\n") == 1


def test_ipa_without_spaces_is_divided(tmp_path: Path) -> None:
    pytest.importorskip("segments", reason="the extra 'ipa' is not installed")
    path = tmp_path / "some.pls"
    path.write_text(
        PLS_HEAD + "<lexeme><grapheme>catch</grapheme><phoneme>ˈkæt͡ʃ</phoneme></lexeme>"
        "<lexeme><grapheme>tomaten</grapheme><phoneme>toˈmaːtn̩</phoneme></lexeme></lexicon>"
    )
    assert [entry.phones for entry in read_lexicon(path, segment=True)] == [
        ("ˈk", "æ", "t͡ʃ"),
        ("t", "o", "ˈm", "aː", "t", "n̩"),
    ]
    path.write_text("a\tt͡\n")
    with pytest.raises(UserError, match="line 1: .* cannot be divided into phones"):
        read_lexicon(path, segment=True)


def test_dividing_needs_a_library(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(segmentation, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"grapheme-to-phoneme\[ipa\]"):
        LexiconReader(tmp_path / "any", segment=True)


def test_undivided_pronunciations_are_remarked(tmp_path: Path, caplog) -> None:
    path = tmp_path / "some.tsv"
    path.write_text("tomato\ttəˈmɑːtəʊ\ncat\tkæt\n")
    read_lexicon(path)
    assert "every pronunciation is a single phone" in caplog.text


def test_endless_inventories_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.tsv"
    path.write_text("".join(f"word{number}\tp{number}\n" for number in range(10_001)))
    with pytest.raises(UserError, match="more than 10,000 different phones"):
        read_lexicon(path)


@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.text(alphabet="aB1.é'#;()2\t\n\r\0{}[]\":,<>/&! ", max_size=80).map(str.encode),
        st.builds(
            lambda text, cut: text.encode()[:cut],
            st.sampled_from(list(EXAMPLES.values())),
            st.integers(0, 400),
        ),
        st.builds(
            lambda text, place, noise: text.encode()[:place] + noise + text.encode()[place:],
            st.sampled_from(list(EXAMPLES.values())),
            st.integers(0, 300),
            st.binary(min_size=1, max_size=8),
        ),
    ),
    lexicon_format=st.sampled_from(LEXICON_FORMATS),
)
def test_any_bytes_give_a_lexicon_or_one_line(
    scratch: Path, content: bytes, lexicon_format: str
) -> None:
    path, target = scratch / "fuzzed", scratch / "fuzzed.jsonl"
    path.write_bytes(content)
    try:
        entries = read_lexicon(path, lexicon_format)
    except UserError as error:
        message = str(error)
        assert "\n" not in message
        assert message.startswith(str(path))
        whole = ("is empty", "holds no entries", "is UTF-16", "not UTF-8 in")
        assert "line " in message or any(text in message for text in whole)
        return
    assert entries
    for entry in entries:
        assert entry.spelling and entry.phones and all(entry.phones)
        assert all(phone.split() == [phone] for phone in entry.phones)
    assume(not any("\ud800" <= letter <= "\udfff" for item in entries for letter in item.spelling))
    result = convert(path, target, f"from_format={lexicon_format}")
    assert result.written == len(records_of(target))


SIZE = 10_000_000


def numbered(line: bytes, line_size: int) -> bytes:
    """Repeat a line to the size of all files here, each time with another number in it."""
    return b"".join(line % number for number in range(SIZE // line_size))


#: Ten megabytes that are as hard on a reader's memory as we know how.
HOSTILE = {
    "empty lines": lambda: b"\n" * SIZE,
    "words without phones": lambda: b"a\n" * (SIZE // 2),
    "one line": lambda: b"a" * SIZE,
    "one long pronunciation": lambda: b"a\t" + b"ab " * (SIZE // 3),
    "many phones": lambda: numbered(b"a\t%d\n", 9),
    "short entries": lambda: numbered(b"%x\ta\n", 8),
    "distinct pronunciations": lambda: b"".join(
        b"a\t%d %d %d\n" % (number % 97, number // 97 % 97, number // 9409)
        for number in range(SIZE // 11)
    ),
    "invalid bytes": lambda: b"\xff\n" * (SIZE // 2),
    "ordinary": lambda: numbered(b"word%d\tW ER1 D AH0 N AH0 M B ER0\n", 37),
    "json": lambda: numbered(b'{"word":"%x","phones":"a b"}\n', 33),
    "json keys": lambda: numbered(b'{"word":"a","phones":"a","%x":1}\n', 36),
    "xml depth": lambda: b"<lexicon>" + b"<a>" * (SIZE // 3),
    "xml text": lambda: b"<lexicon><lexeme><grapheme>" + b"a" * SIZE,
    "xml comment": lambda: b"<lexicon><!--" + b"a" * SIZE,
    "xml attributes": lambda: b"<lexicon " + numbered(b' a%d=""', 11),
    "xml products": lambda: b"<lexicon>"
    + (
        b"<lexeme>"
        + b"<grapheme>ab</grapheme>" * 11
        + b"<phoneme>a b</phoneme>" * 11
        + b"</lexeme>"
    )
    * (SIZE // 530)
    + b"</lexicon>",
}

MEASURING = """
import sys
from pathlib import Path
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.reading import read_lexicon
try:
    print(len(read_lexicon(Path(sys.argv[1]))))
except UserError as error:
    print(error)
# What getrusage says counts the process that started this one.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process its peak")
@pytest.mark.parametrize("name", HOSTILE)
def test_ten_megabytes_stay_below_two_hundred(tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(HOSTILE[name]())
    done = subprocess.run(
        [sys.executable, "-c", MEASURING, path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    outcome, megabytes = done.stdout.splitlines()
    assert int(megabytes) < 200, outcome
