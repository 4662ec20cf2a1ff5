"""Lexicons of several languages are put together with tags, each in its own normal form."""

from pathlib import Path

import pytest

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.data import LexiconData, load_data, training_spellings
from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.presets import automatic_overrides
from tests.conftest import compose_lexicon_config

FIRST, SECOND = "\ue000", "\ue001"


def write(path: Path, words: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{word}\t{phones}\n" for word, phones in words.items()))
    return path


def load(*overrides: str) -> LexiconData:
    return load_data(compose_lexicon_config(*overrides, data="multilingual"))


@pytest.fixture
def lexicons(tmp_path: Path) -> str:
    """An override that names a lexicon of French and one of Korean."""
    parts = {
        "fre": ({"Été": "e t e", "mot": "m o"}, {"thé": "t e"}),
        "kor": ({"산술": "s a n s u l"}, {"술": "s u l"}),
    }
    named = []
    for code, (train, dev) in parts.items():
        paths = (
            write(tmp_path / code / "train.tsv", train),
            write(tmp_path / code / "dev.tsv", dev),
        )
        named.append(f"{code}:{{group:lexicon,train_path:'{paths[0]}',dev_path:'{paths[1]}'}}")
    return f"data.lexicons={{{','.join(named)}}}"


def test_tags_and_normal_forms(lexicons: str) -> None:
    data = load(lexicons, "data.unicode_forms={kor:NFD}")
    apart = "".join(map(chr, (0x1109, 0x1161, 0x11AB, 0x1109, 0x116E, 0x11AF)))
    assert data.train == [
        Entry(f"{FIRST}été", ("e", "t", "e")),
        Entry(f"{FIRST}mot", ("m", "o")),
        Entry(f"{SECOND}{apart}", ("s", "a", "n", "s", "u", "l")),
    ]
    assert [entry.spelling[0] for entry in data.dev] == [FIRST, SECOND]
    assert data.test is None and set(data.hashes) == {"train", "dev"}
    assert data.language == "mul"
    french, korean = data.languages
    assert (french.code, french.tag, french.language) == ("fre", FIRST, "fre")
    assert french.normalization.unicode_form == "NFC"
    assert korean.normalization.unicode_form == "NFD"


def test_languages_of_a_group(tmp_path: Path) -> None:
    for part in ("train", "dev"):
        write(tmp_path / "low" / f"ice_{part}.tsv", {f"ice{part}": "a b"})
    lexicon = write(tmp_path / "tok.tsv", {word: "t o" for word in ("toki", "pona", "mi")})
    settings = f"{{group:sigmorphon2021,root:'{tmp_path}',verify:false}}"
    data = load(f"data.lexicons={{tok:'{lexicon}',ice:{settings}}}")
    assert [language.code for language in data.languages] == ["tok", "ice"]
    # The group says the BCP 47 tag of its languages.
    assert [language.language for language in data.languages] == ["tok", "is"]
    assert Entry(f"{SECOND}icetrain", ("a", "b")) in data.train
    # A lexicon without a dev part gives some of its words.
    assert [entry.spelling[0] for entry in data.dev] == [FIRST, SECOND]
    with pytest.raises(UserError, match="SHA-256"):
        load("data.languages=[ice]", f"data.root={tmp_path}")


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ((), "needs languages"),
        (("data.languages=[ita,ita]",), "'ita' comes twice"),
        (("data.languages=[ita]", "data.lexicons={ita:a.tsv}"), "'ita' comes twice"),
        (("data.lexicons={ita:{group:nothing}}",), "data.lexicons.ita must be a file"),
        (("data.lexicons={ita:{group:multilingual}}",), "data.lexicons.ita must be a file"),
        (("data.lexicons={ita:{train_path:a.tsv}}",), "data.lexicons.ita must be a file"),
        (("data.lexicons={ita:{group:wikipron,pat:a}}",), "data.lexicons.ita: Key 'pat'"),
        (("data.languages=[ita]", "data.unicode_forms={kor:NFD}"), "not there: kor"),
        (("data.languages=[xyzzy]",), "no language 'xyzzy'"),
    ],
)
def test_what_is_no_set_of_languages(overrides: tuple[str, ...], named: str) -> None:
    with pytest.raises(UserError, match=named):
        load(*overrides)


def test_spelling_that_could_be_a_tag(tmp_path: Path) -> None:
    lexicon = write(tmp_path / "tok.tsv", {"toki": "t", "po\ue123": "p", "mi": "m"})
    with pytest.raises(UserError, match="private use area"):
        load(f"data.lexicons={{tok:'{lexicon}'}}")


def test_korean_alone_is_taken_apart(lexicons: str) -> None:
    overrides = ["data=multilingual", lexicons, "experiment=default"]
    config = compose_config(overrides)
    assert training_spellings(config) == {f"{FIRST}été", f"{FIRST}mot", f"{SECOND}산술"}
    assert automatic_overrides(config, overrides) == ["data.unicode_forms={kor:NFD}"]
    overrides.append("data.unicode_forms={kor:NFC}")
    assert automatic_overrides(compose_config(overrides), overrides) == []
