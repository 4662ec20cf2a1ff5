"""The user's dictionary: it overrides the model, word by word."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from grapheme_to_phoneme import Alternative, Pronouncer, Pronunciation
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import DESCRIPTION_PROPERTY
from grapheme_to_phoneme.inference.pronouncer import SOURCE_DICTIONARY, SOURCE_MODEL
from tests.conftest import TinyRun
from tests.inference.test_pronouncer import copy_with_properties

#: A phone that no model here has.
OWN_PHONE = "ǂ"


@pytest.fixture(scope="module")
def plain(tiny_run: TinyRun) -> Pronouncer:
    """The trained model without a dictionary."""
    return Pronouncer(tiny_run.model, threads=1)


def found(word: str, *pronunciations: str, probability: float = 1.0) -> Pronunciation:
    """Return the answer that a dictionary gives, from phones separated by spaces."""
    best, *others = (tuple(text.split()) for text in pronunciations)
    # As precise as the model's own.
    probability = float(np.float32(probability))
    alternatives = tuple(Alternative(phones, probability) for phones in others)
    return Pronunciation(word, best, probability, alternatives, (), source=SOURCE_DICTIONARY)


def test_words_of_the_dictionary_override_the_model(tiny_run: TinyRun, plain: Pronouncer) -> None:
    own = Pronouncer(tiny_run.model, threads=1, dictionary={"stone": [("Z", OWN_PHONE)]})
    words = ["kitten", "stone", "stones", "ston", "stone"]
    for n_best in (1, 3):
        answers = own.pronounce(words, n_best=n_best)
        assert answers[1] == answers[4] == found("stone", f"Z {OWN_PHONE}")
        assert [answers[i] for i in (0, 2, 3)] == plain.pronounce(
            ["kitten", "stones", "ston"], n_best=n_best
        )
        assert [answer.source for answer in answers[:3]] == ["model", "dictionary", "model"]


def test_source_without_a_dictionary(plain: Pronouncer) -> None:
    assert {answer.source for answer in plain.pronounce(["stone", "", "7"])} == {SOURCE_MODEL}


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("stone", " STONE "),
        ("STONE", "stone"),
        (" stone\n", "stone"),
        ("o'neil", "O’Neil"),
        ("O’Neil", "o'neil"),
        ("oʼneil", "o＇neil"),
        ("caf\u00e9", "cafe\u0301"),
        ("CAFE\u0301", "caf\u00e9"),
        ("co\u00adop", "coop"),
        ("coop", "co\u200bop"),
    ],
)
def test_spellings_are_normalised(plain: Pronouncer, key: str, word: str) -> None:
    plain.use_dictionary({key: [("Z",)]})
    try:
        assert plain.pronounce([word]) == [found(word, "Z")]
    finally:
        plain.use_dictionary({})


def test_model_says_how_spellings_are_normalised(tiny_run: TinyRun, tmp_path: Path) -> None:
    description = Pronouncer(tiny_run.model).metadata.to_properties()[DESCRIPTION_PROPERTY]
    path = copy_with_properties(
        tiny_run.model,
        tmp_path / "kept.onnx",
        **{DESCRIPTION_PROPERTY: description.replace('"case": "lower"', '"case": "keep"')},
    )
    own = Pronouncer(path, dictionary={"Stone": [("Z",)]})
    capital, small = own.pronounce(["Stone", "stone"])
    assert (capital.source, small.source) == (SOURCE_DICTIONARY, SOURCE_MODEL)


@pytest.mark.parametrize("n_best", [1, 2, 3, 10])
def test_several_pronunciations(tiny_run: TinyRun, n_best: int) -> None:
    spoken = ["Z", "A", "K L"]
    own = Pronouncer(
        tiny_run.model, threads=1, dictionary={"stone": [tuple(text.split()) for text in spoken]}
    )
    assert own.pronounce(["stone"], n_best=n_best) == [
        found("stone", *spoken[:n_best], probability=1 / 3)
    ]


def test_repeated_pronunciations_count_once(tiny_run: TinyRun) -> None:
    own = Pronouncer(
        tiny_run.model,
        threads=1,
        dictionary={
            "Stone": [("Z",), ("Z",), ("A",)],
            "stone": [("A",), ("K",), ["Z"]],
            "STONE": [("Z",)],
        },
    )
    assert own.pronounce(["stone"], n_best=9) == [found("stone", "Z", "A", "K", probability=1 / 3)]


def test_unknown_characters_do_not_matter(tiny_run: TinyRun) -> None:
    own = Pronouncer(tiny_run.model, dictionary={"日本": [("N",)], "c3po": [("S", "IY")]})
    words = ["日本", "C3PO", "c3p"]
    japan, robot, other = own.pronounce(words)
    assert (japan, robot) == (found("日本", "N"), found("C3PO", "S IY"))
    assert other.unknown_characters == ("3",)


def test_model_is_not_asked(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Pronouncer(tiny_run.model, dictionary={"stone": [("Z",)], "s" * 1000: [("A",)]})

    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("the model was asked")

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", refuse)
    assert [answer.phones for answer in own.pronounce(["stone", "s" * 1000], n_best=3)] == [
        ("Z",),
        ("A",),
    ]


def test_dictionary_is_replaced_and_taken_away(tiny_run: TinyRun, plain: Pronouncer) -> None:
    given = {"stone": [("Z",)], "kitten": [("Z",)]}
    own = Pronouncer(tiny_run.model, threads=1, dictionary=given)
    # What becomes of the user's own mapping afterwards is their business.
    given["stone"].append(("A",))
    given.clear()
    assert own.pronounce(["stone"], n_best=2) == [found("stone", "Z")]
    own.use_dictionary({"kitten": [("A",)]})
    assert own.pronounce(["kitten"]) == [found("kitten", "A")]
    assert own.pronounce(["stone"]) == plain.pronounce(["stone"])
    own.use_dictionary({})
    assert own.pronounce(["kitten"]) == plain.pronounce(["kitten"])


@pytest.mark.parametrize(
    ("dictionary", "message"),
    [
        ("mine.tsv", "must map spellings to pronunciations, not name a file"),
        (Path("mine.tsv"), "not name a file"),
        ([("stone", [("Z",)])], "must map spellings to pronunciations"),
        ({"": [("Z",)]}, "nothing is left of the dictionary's spelling ''"),
        ({"\u200b\n": [("Z",)]}, r"nothing is left of the dictionary's spelling '\\u200b\\n'"),
        ({"stone": []}, "no phones for 'stone'"),
        ({"stone": [("Z",), ()]}, "no phones for 'stone'"),
        ({"stone": ""}, "no phones for 'stone'"),
        ({"stone": "S T"}, "pronunciations of 'stone' must be several strings"),
        ({"stone": ["S T"]}, "pronunciations of 'stone' must be several strings"),
        ({"stone": ("S", "T")}, "pronunciations of 'stone' must be several strings"),
    ],
)
def test_dictionary_of_something_else(
    tiny_run: TinyRun, plain: Pronouncer, dictionary: object, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Pronouncer(tiny_run.model, dictionary=dictionary)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=message):
        plain.use_dictionary(dictionary)
    assert plain.pronounce(["stone"])[0].source == SOURCE_MODEL
