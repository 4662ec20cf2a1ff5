"""Prepared files are made once, made again when anything changed, and only then used."""

import hashlib
import json
from pathlib import Path

import pytest
from omegaconf import DictConfig

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon import preprocessing
from grapheme_to_phoneme.lexicon.data import load_data
from grapheme_to_phoneme.lexicon.preprocessing import (
    PreparedPaths,
    ensure_example,
    ensure_prepared,
    preprocess,
)
from tests.conftest import compose_lexicon_config

RAW = "".join(f"word{number:03} W ER1 D AH0\n" for number in range(200))


@pytest.fixture
def raw_path(tmp_path: Path) -> Path:
    path = tmp_path / "raw.dict"
    path.write_text(RAW)
    return path


def compose_small(tmp_path: Path, raw_path: Path, *overrides: str) -> DictConfig:
    return compose_lexicon_config(
        f"paths.root={tmp_path}",
        f"data.raw_path={raw_path}",
        "data.sha256=null",
        "data.split_sha256=null",
        "preprocessing.example.words=5",
        *overrides,
    )


def state_of(paths: PreparedPaths) -> list[tuple[int, bytes]]:
    return [(path.stat().st_mtime_ns, path.read_bytes()) for path in paths]


def test_files_and_example(tmp_path: Path, raw_path: Path) -> None:
    paths = preprocess(compose_small(tmp_path, raw_path))
    counts = {name: len(path.read_text().splitlines()) for name, path in paths.parts.items()}
    assert counts == {"train": 162, "dev": 18, "test": 20}
    assert paths.train.read_text().splitlines()[0].endswith("\tW ER1 D AH0")
    dev_words = [line.split("\t")[0] for line in paths.dev.read_text().splitlines()]
    assert paths.example_words.read_text().split() == dev_words[:5]
    assert paths.sample_words.read_text().split() == dev_words
    assert paths.example_words == tmp_path / "data" / "example" / "words.txt"


def test_strip(tmp_path: Path, raw_path: Path) -> None:
    paths = preprocess(compose_small(tmp_path, raw_path, "preprocessing.stress=strip"))
    assert paths.train.parent.name == "cmudict-stress-strip"
    assert paths.train.read_text().splitlines()[0].endswith("\tW ER D AH")


def test_up_to_date_files_are_left_alone(tmp_path: Path, raw_path: Path) -> None:
    config = compose_small(tmp_path, raw_path)
    before = state_of(preprocess(config))
    assert state_of(preprocess(config)) == before
    assert state_of(ensure_prepared(config)) == before
    forced = state_of(preprocess(config, force=True))
    assert [content for _, content in forced] == [content for _, content in before]
    assert forced != before


@pytest.mark.parametrize("name", PreparedPaths._fields)
def test_missing_files_are_made_again(tmp_path: Path, raw_path: Path, name: str) -> None:
    config = compose_small(tmp_path, raw_path)
    paths = preprocess(config)
    whole = [path.read_bytes() for path in paths]
    getattr(paths, name).unlink()
    assert [path.read_bytes() for path in ensure_prepared(config)] == whole


@pytest.mark.parametrize("name", ["train", "dev", "test"])
def test_truncated_parts_are_made_again(tmp_path: Path, raw_path: Path, name: str) -> None:
    config = compose_small(tmp_path, raw_path)
    path = getattr(preprocess(config), name)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert getattr(ensure_prepared(config), name).read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"settings": 1}', b"\xff"])
def test_broken_manifest(tmp_path: Path, raw_path: Path, content: bytes) -> None:
    config = compose_small(tmp_path, raw_path)
    paths = preprocess(config)
    whole = paths.manifest.read_bytes()
    paths.manifest.write_bytes(content)
    assert ensure_prepared(config).manifest.read_bytes() == whole


def test_changed_part_is_not_used(tmp_path: Path, raw_path: Path) -> None:
    config = compose_small(tmp_path, raw_path)
    paths = preprocess(config)
    whole = paths.dev.read_bytes()
    paths.dev.write_bytes(paths.train.read_bytes())
    assert ensure_prepared(config).dev.read_bytes() == whole


@pytest.mark.parametrize(
    "override", ["split.seed=2", "split.dev_fraction=0.2", "normalization.case=upper"]
)
def test_other_settings_make_other_files(tmp_path: Path, raw_path: Path, override: str) -> None:
    before = preprocess(compose_small(tmp_path, raw_path)).train.read_bytes()
    config = compose_small(tmp_path, raw_path, f"preprocessing.{override}")
    assert ensure_prepared(config).train.read_bytes() != before


def test_changed_raw_lexicon_makes_other_files(tmp_path: Path, raw_path: Path) -> None:
    config = compose_small(tmp_path, raw_path)
    preprocess(config)
    raw_path.write_text(RAW.replace("AH0", "IH0"))
    assert "IH0" in ensure_prepared(config).train.read_text()


def test_interrupted_run_is_not_taken_for_whole(
    tmp_path: Path, raw_path: Path, monkeypatch
) -> None:
    config = compose_small(tmp_path, raw_path)
    preprocess(config)
    other = compose_small(tmp_path, raw_path, "preprocessing.split.seed=2")

    def interrupt(*arguments) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(preprocessing, "write_words", interrupt)
        with pytest.raises(KeyboardInterrupt):
            preprocess(other)
    # The parts are seed 2's already: seed 1729's must not find its own manifest beside them.
    train = ensure_prepared(config).train
    manifest = json.loads(train.with_name("manifest.json").read_text())
    assert manifest["settings"]["split"]["seed"] == 1729
    assert hashlib.sha256(train.read_bytes()).hexdigest() == manifest["file_sha256"]["train"]


def test_example_alone(tmp_path: Path, raw_path: Path) -> None:
    config = compose_small(tmp_path, raw_path)
    path = ensure_example(config)
    assert len(path.read_text().splitlines()) == 5
    path.write_text("mine\n")
    assert ensure_example(config).read_text() == "mine\n"


def test_raw_lexicon_missing(tmp_path: Path, raw_path: Path) -> None:
    config = compose_small(tmp_path, raw_path)
    raw_path.unlink()
    with pytest.raises(UserError, match="no raw lexicon .*g2p download-data"):
        preprocess(config)


def test_unknown_stress(tmp_path: Path, raw_path: Path) -> None:
    config = compose_small(tmp_path, raw_path, "preprocessing.stress=maybe")
    for command in (preprocess, ensure_prepared):
        with pytest.raises(UserError, match="choose one of keep, strip"):
            command(config)


def test_lexicon_files_need_no_preprocessing() -> None:
    with pytest.raises(UserError, match="needs no preprocessing"):
        preprocess(compose_lexicon_config(data="lexicon"))


@pytest.mark.parametrize("stress", ["keep", "strip"])
def test_real_data(tmp_path: Path, cmudict_path: Path, stress: str) -> None:
    config = compose_lexicon_config(
        f"paths.root={tmp_path}",
        f"data.raw_path={cmudict_path}",
        f"preprocessing.stress={stress}",
        "storage.push=false",
    )
    data = load_data(config)
    assert data.hashes == dict(config.data.split_sha256[stress])
    assert (data.language, data.notation) == ("en-US", "arpabet")
    assert len(ensure_example(config).read_text().splitlines()) == 100


def test_real_data_divided_otherwise_is_refused(tmp_path: Path, cmudict_path: Path) -> None:
    config = compose_lexicon_config(
        f"paths.root={tmp_path}", f"data.raw_path={cmudict_path}", "preprocessing.split.seed=1"
    )
    with pytest.raises(UserError, match="not the recorded one.*data.split_sha256=null"):
        load_data(config)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
