"""A model file says of itself all that it takes to use it and to make it again."""

import json
from dataclasses import replace

import pytest

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import (
    BATCH_PROPERTY,
    DESCRIPTION_PROPERTY,
    FORMAT_PROPERTY,
    FORMAT_VERSION,
    ModelLanguage,
    ModelMetadata,
)
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.lexicon.splitting import split_sha256
from grapheme_to_phoneme.normalization import Normalization
from grapheme_to_phoneme.training.tracking import git_state
from tests.conftest import TINY_EPOCHS, TINY_TRAIN_WORDS, TinyRun

METADATA = ModelMetadata(
    letters=("a", "ß", "😀", "'", '"'),
    phones=("ˈe", "tʃ", "AH0"),
    normalization=Normalization(case="upper", unicode_form="NFKD", drop_invisible=False),
    language="de-AT",
    notation="ipa",
    split_sha256={"train": "0f", "dev": "1e"},
    scores={"dev_wer": 12.345},
    git_commit="c0ffee",
    git_dirty="true",
    package_version="1.2.3",
    training={"seed": 3, "data": "lexicon"},
    letters_per_batch=1536,
)


def test_round_trip() -> None:
    assert ModelMetadata.from_properties(METADATA.to_properties(), "model") == METADATA


def test_files_that_say_no_size_of_batches() -> None:
    properties = METADATA.to_properties()
    del properties[BATCH_PROPERTY]
    read = ModelMetadata.from_properties(properties, "model")
    assert read == replace(METADATA, letters_per_batch=1024)


def test_description_is_readable_json() -> None:
    properties = METADATA.to_properties()
    assert properties[FORMAT_PROPERTY] == str(FORMAT_VERSION) == "1"
    description = json.loads(properties[DESCRIPTION_PROPERTY])
    assert set(description) == {
        "letters",
        "phones",
        "normalization",
        "language",
        "notation",
        "split_sha256",
        "scores",
        "git_commit",
        "git_dirty",
        "package_version",
        "training",
        "precision",
        "direction",
    }
    assert "ß" in properties[DESCRIPTION_PROPERTY]


def test_trained_model_says_where_it_comes_from(tiny_run: TinyRun) -> None:
    metadata = Pronouncer(tiny_run.model).metadata
    assert set("abcdefghijklmnopqrstuvwxyz'") <= set(metadata.letters)
    phones = {phone for entry in tiny_run.lexicon.train for phone in entry.phones}
    assert set(metadata.phones) == phones
    assert metadata.normalization == Normalization()
    assert (metadata.language, metadata.notation) == ("en-US", "arpabet")
    assert metadata.split_sha256 == {
        "train": split_sha256(tiny_run.lexicon.train),
        "dev": split_sha256(tiny_run.lexicon.dev),
    }
    assert set(metadata.scores) == {"dev_wer", "dev_per", "dev_ece"}
    # A commit may have been made since; what it is compared with in test_tracking may not.
    commit = metadata.git_commit
    assert commit == "unknown" if git_state()["git_commit"] == "unknown" else len(commit) == 40
    assert metadata.git_dirty in ("true", "false", "unknown")
    assert metadata.package_version[0].isdigit()
    assert 0.5 <= metadata.training.pop("temperature") <= 2.0
    assert metadata.training.pop("smoothing") in (0.0, 0.05)
    assert metadata.training == {
        "data": "lexicon",
        "seed": 1,
        "max_epochs": TINY_EPOCHS,
        "training_words": TINY_TRAIN_WORDS,
    }


def test_foreign_files_and_other_versions_are_told_apart() -> None:
    with pytest.raises(UserError, match="model is an ONNX file, but no model"):
        ModelMetadata.from_properties({}, "model")
    properties = {**METADATA.to_properties(), FORMAT_PROPERTY: "2"}
    with pytest.raises(UserError, match="format version 2, this program reads 1"):
        ModelMetadata.from_properties(properties, "model")


@pytest.mark.parametrize(
    "description",
    [
        None,
        "no JSON",
        "{}",
        "[]",
        json.dumps({**vars(METADATA), "normalization": {"case": "lower", "surprise": 1}}),
        json.dumps({**vars(METADATA), "normalization": {}, "surprise": 1}),
    ],
    ids=["missing", "not-json", "empty", "list", "unknown-normalization", "unknown-field"],
)
def test_damaged_description(description: str | None) -> None:
    properties = METADATA.to_properties()
    del properties[DESCRIPTION_PROPERTY]
    if description is not None:
        properties[DESCRIPTION_PROPERTY] = description
    with pytest.raises(UserError, match="model is damaged"):
        ModelMetadata.from_properties(properties, "model")


def test_scores_can_be_added_later() -> None:
    scored = replace(METADATA, scores={"dev_wer": 1.0})
    assert ModelMetadata.from_properties(scored.to_properties(), "model").scores == {
        "dev_wer": 1.0
    }


def test_languages_of_a_model_of_several() -> None:
    korean = ModelLanguage("kor", "\ue001", "ko", Normalization(unicode_form="NFD"))
    languages = (ModelLanguage("fre", "\ue000", "fr", Normalization()), korean)
    several = replace(METADATA, language="mul", languages=languages)
    assert ModelMetadata.from_properties(several.to_properties(), "model") == several
    assert several.find_language("FRE").tag == several.find_language("fr").tag == "\ue000"
    assert several.normalize("\ue000ÉTÉ") == "\ue000été"
    assert several.normalize("\ue001가") == "\ue001\u1100\u1161"
    assert several.normalize("\ue001 ") == ""
    for wrong in ("été", ""):
        with pytest.raises(UserError, match="say one of fre, kor"):
            several.normalize(wrong)
    with pytest.raises(UserError, match="no language 'ita': say one of fre, kor"):
        several.find_language("ita")
    # A model of one language knows it by its tag alone.
    assert METADATA.find_language("DE-at") is None
    with pytest.raises(UserError, match="it is of de-AT"):
        METADATA.find_language("ita")


def test_model_that_spells_is_refused_where_pronunciations_are_needed() -> None:
    METADATA.require_pronunciations("this")
    spelling = replace(METADATA, direction="phoneme-to-grapheme")
    assert spelling.spells and not METADATA.spells
    assert ModelMetadata.from_properties(spelling.to_properties(), "model") == spelling
    with pytest.raises(UserError, match="this needs a model that pronounces"):
        spelling.require_pronunciations("this")
