"""A lexicon of one's own gets the checks that CMUdict gets."""

from pathlib import Path

import pytest

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.data import load_data
from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.lexicon.splitting import split_sha256
from tests.conftest import compose_lexicon_config

TRAIN = "".join(f"mot{letter}\tm o ˈ{letter}\n" for letter in "abcdefghijklmnopqrst")


def write(tmp_path: Path, name: str, content: str) -> Path:
    path = tmp_path / name
    path.write_text(content)
    return path


def load(*overrides: str):
    return load_data(compose_lexicon_config(*overrides, data="lexicon"))


def test_files(tmp_path: Path) -> None:
    train = write(tmp_path, "train.tsv", f"{TRAIN}MOTA\tm o ˈa\nmotA\tm ɔ a\n")
    dev = write(tmp_path, "dev.tsv", "neuf\tn œ f\n")
    test = write(tmp_path, "test.tsv", "dix\td i s\n")
    data = load(
        f"data.train_path={train}",
        f"data.dev_path={dev}",
        f"data.test_path={test}",
        "data.language=fr",
        "data.notation=ipa",
    )
    # The repeated line is dropped, the second pronunciation is beside the first.
    assert data.train[:3] == [
        Entry("mota", ("m", "o", "ˈa")),
        Entry("mota", ("m", "ɔ", "a")),
        Entry("motb", ("m", "o", "ˈb")),
    ]
    assert data.dev == [Entry("neuf", ("n", "œ", "f"))]
    assert data.test == [Entry("dix", ("d", "i", "s"))]
    assert data.hashes["dev"] == split_sha256(data.dev)
    assert set(data.hashes) == {"train", "dev", "test"}
    assert (data.language, data.notation, data.normalization.case) == ("fr", "ipa", "lower")


def test_held_out_dev(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    train = write(tmp_path, "train.tsv", TRAIN)
    data = load(f"data.train_path={train}")
    assert len(data.dev) == 2 and len(data.train) == 18
    assert not {entry.spelling for entry in data.train} & {entry.spelling for entry in data.dev}
    assert data.test is None and set(data.hashes) == {"train", "dev"}
    assert "no data.dev_path: 10% of the words are held out" in caplog.text
    assert load(f"data.train_path={train}") == data
    assert load(f"data.train_path={train}", "preprocessing.split.seed=3").dev != data.dev


def test_stripped_stress(tmp_path: Path) -> None:
    train = write(tmp_path, "train.tsv", TRAIN)
    data = load(f"data.train_path={train}", "preprocessing.stress=strip")
    assert all("ˈ" not in phone for entry in data.train for phone in entry.phones)


@pytest.mark.parametrize("part", ["dev", "test"])
def test_overlap(tmp_path: Path, part: str, caplog) -> None:
    train = write(tmp_path, "train.tsv", TRAIN)
    # The same words once they are normalised.
    other = write(tmp_path, "other.tsv", "MOTA\tx\nMotb\tx\nneuf\tn œ f\n")
    overrides = (f"data.train_path={train}", f"data.{part}_path={other}")
    with pytest.raises(UserError, match=f"2 words in both the train and the {part} lexicon: 'mot"):
        load(*overrides)
    data = load(*overrides, "data.allow_overlap=true")
    assert len(getattr(data, part)) == 3
    assert f"2 words are in both train and {part}" in caplog.text


@pytest.mark.parametrize(
    ("content", "fault"),
    [("", "is empty"), ("mot\nmots\n", "2 malformed lines: line 1: 'mot' is one column")],
)
@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_bad_files_are_named(tmp_path: Path, part: str, content: str, fault: str) -> None:
    paths = {"train": write(tmp_path, "train.tsv", TRAIN)}
    paths[part] = write(tmp_path, "bad.tsv", content)
    with pytest.raises(UserError, match=f"bad.tsv .*{fault}"):
        load(*(f"data.{name}_path={path}" for name, path in paths.items()))


def test_train_path_is_needed() -> None:
    with pytest.raises(UserError, match="data.train_path=FILE"):
        load()


def test_one_word_cannot_be_divided(tmp_path: Path) -> None:
    train = write(tmp_path, "train.tsv", "mot\tm o\n")
    with pytest.raises(UserError, match="data.dev_path=FILE"):
        load(f"data.train_path={train}")
