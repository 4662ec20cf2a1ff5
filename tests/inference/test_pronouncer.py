"""The library: typed answers, in order, for anything that can be in a string."""

import shutil
import threading
from collections.abc import Sequence
from importlib import metadata
from math import inf
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grapheme_to_phoneme
from grapheme_to_phoneme import Alternative, Pronouncer, Pronunciation
from grapheme_to_phoneme.constants import DISTRIBUTION_NAME
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.graph import GraphPronouncer
from grapheme_to_phoneme.inference.metadata import (
    DESCRIPTION_PROPERTY,
    FORMAT_PROPERTY,
    ModelMetadata,
)
from tests.conftest import TinyRun

WORDS = ["stone", "kitten", "rest", "o'neil", "brand", "zzyzx"]


@pytest.fixture(scope="module")
def pronouncer(tiny_run: TinyRun) -> Pronouncer:
    """The trained model."""
    return Pronouncer(tiny_run.model, threads=1)


def phones_of(pronouncer: Pronouncer, word: str) -> tuple[str, ...]:
    (answer,) = pronouncer.pronounce([word])
    return answer.phones


def copy_with_properties(model: Path, target: Path, **properties: str | None) -> Path:
    """Copy a model file with other metadata properties; None takes one out."""
    proto = onnx.load(model)
    kept = {entry.key: entry.value for entry in proto.metadata_props} | properties
    del proto.metadata_props[:]
    onnx.helper.set_model_props(
        proto, {name: value for name, value in kept.items() if value is not None}
    )
    onnx.save_model(proto, target)
    return target


def test_answers_are_typed(pronouncer: Pronouncer) -> None:
    (answer,) = pronouncer.pronounce(["stone"], n_best=3)
    assert isinstance(answer, Pronunciation)
    assert answer.word == "stone"
    assert isinstance(answer.phones, tuple)
    assert set(answer.phones) <= set(pronouncer.metadata.phones)
    assert 0.0 < answer.probability <= 1.0 and type(answer.probability) is float
    assert isinstance(answer.alternatives, tuple) and len(answer.alternatives) == 2
    assert all(isinstance(alternative, Alternative) for alternative in answer.alternatives)
    assert answer.unknown_characters == ()
    with pytest.raises(AttributeError):
        answer.word = "other"


def test_most_easy_words_are_right(pronouncer: Pronouncer) -> None:
    """Eight words that a network which has learnt anything at all gets nearly all right."""
    expected = {
        "bat": "B AE T",
        "pin": "P IH N",
        "dent": "D EH N T",
        "stan": "S T AE N",
        "trip": "T R IH P",
        "band": "B AE N D",
        "lends": "L EH N D Z",
        "skip": "S K IH P",
    }
    answers = pronouncer.pronounce(expected)
    right = [answer.word for answer in answers if " ".join(answer.phones) == expected[answer.word]]
    assert len(right) >= 5, answers


@pytest.mark.parametrize("n_best", [2, 3, 10])
def test_alternatives_are_distinct_and_best_first(pronouncer: Pronouncer, n_best: int) -> None:
    for answer in pronouncer.pronounce(WORDS, n_best=n_best):
        probabilities = [answer.probability, *(other.probability for other in answer.alternatives)]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) <= 1.0 + 1e-6
        phones = [answer.phones, *(other.phones for other in answer.alternatives)]
        assert len(set(phones)) == len(phones) <= n_best
        assert len(phones) > 1


def test_one_answer_has_no_alternatives(pronouncer: Pronouncer) -> None:
    assert pronouncer.pronounce(["stone"])[0].alternatives == ()
    assert pronouncer.pronounce(["stone"], beam_size=5)[0].alternatives == ()


def test_more_answers_than_there_are(pronouncer: Pronouncer) -> None:
    (answer,) = pronouncer.pronounce(["a"], n_best=200)
    assert 2 < len(answer.alternatives) < 200
    assert all(other.probability > 0.0 for other in answer.alternatives)


def test_wider_beam_finds_no_less_probable_answer(pronouncer: Pronouncer) -> None:
    narrow = pronouncer.pronounce(WORDS, beam_size=2)
    wide = pronouncer.pronounce(WORDS, beam_size=30)
    for few, many in zip(narrow, wide, strict=True):
        assert many.probability >= few.probability - 1e-6


def test_order_and_duplicates(pronouncer: Pronouncer) -> None:
    words = ["stone", "a", "Stone", "kitten", "", "stone", "a"]
    answers = pronouncer.pronounce(words)
    assert [answer.word for answer in answers] == words
    assert answers[0].phones == answers[2].phones == answers[5].phones
    assert answers[1] == answers[6]


def test_others_in_the_list_do_not_matter(pronouncer: Pronouncer, tiny_run: TinyRun) -> None:
    others = [entry.spelling for entry in tiny_run.lexicon.dev[:300]]
    for n_best in (1, 3):
        alone = [pronouncer.pronounce([word], n_best=n_best)[0] for word in WORDS]
        together = pronouncer.pronounce([*others, *WORDS, *others], n_best=n_best)
        for one, other in zip(alone, together[len(others) :], strict=False):
            assert one.phones == other.phones
            assert one.probability == pytest.approx(other.probability, rel=1e-4)


def test_small_batches_say_the_same(tiny_run: TinyRun, pronouncer: Pronouncer) -> None:
    bounded = Pronouncer(tiny_run.model, threads=1, letters_per_batch=1)
    for one, other in zip(
        bounded.pronounce(WORDS * 3, n_best=3),
        pronouncer.pronounce(WORDS * 3, n_best=3),
        strict=True,
    ):
        assert one.phones == other.phones
        assert one.probability == pytest.approx(other.probability, rel=1e-4)


def test_any_iterable_of_words(pronouncer: Pronouncer) -> None:
    expected = pronouncer.pronounce(WORDS)
    assert pronouncer.pronounce(iter(WORDS)) == expected
    assert pronouncer.pronounce(dict.fromkeys(WORDS)) == expected
    assert pronouncer.pronounce(np.array(WORDS)) == expected


def test_no_words(pronouncer: Pronouncer) -> None:
    assert pronouncer.pronounce([]) == []


@pytest.mark.parametrize("word", ["", "   ", "\t\n", "\u200b"])
def test_word_of_nothing(pronouncer: Pronouncer, word: str) -> None:
    assert pronouncer.pronounce([word]) == [Pronunciation(word, (), 0.0, (), ())]


def test_spellings_are_normalised(pronouncer: Pronouncer) -> None:
    assert phones_of(pronouncer, " STONE ") == phones_of(pronouncer, "stone")
    assert phones_of(pronouncer, "O’Neil") == phones_of(pronouncer, "o'neil")
    answer = pronouncer.pronounce(["O’Neil"])[0]
    assert (answer.word, answer.unknown_characters) == ("O’Neil", ())


def test_unknown_characters_are_told(pronouncer: Pronouncer) -> None:
    (answer,) = pronouncer.pronounce(["s€to😀ne€"], n_best=2)
    assert answer.unknown_characters == ("€", "😀", "€")
    assert answer.phones == phones_of(pronouncer, "stone")
    assert answer.probability > 0.0


def test_accents_fall_back_to_their_letters(pronouncer: Pronouncer) -> None:
    for word in ("stöne", "sto\u0308ne", "STÖNE"):
        (answer,) = pronouncer.pronounce([word])
        assert answer.unknown_characters == ("ö",)
        assert answer.phones == phones_of(pronouncer, "stone")


@pytest.mark.parametrize(
    "word", ["😀", "\0", "\udcff\udc80", "\u0301", "日本語", "1234", "\u202e", "🏳️‍🌈", "\x1b[31m"]
)
def test_nothing_but_unknown_characters(pronouncer: Pronouncer, word: str) -> None:
    (answer,) = pronouncer.pronounce([word], n_best=3)
    assert answer.word == word
    known = [character for character in word if character in pronouncer.metadata.letters]
    assert len(answer.unknown_characters) == len(word) - len(known)
    if not known:
        assert (answer.phones, answer.probability, answer.alternatives) == ((), 0.0, ())


def test_nul_inside_a_word(pronouncer: Pronouncer) -> None:
    (answer,) = pronouncer.pronounce(["sto\0ne"])
    assert answer.unknown_characters == ("\0",)
    assert answer.phones == phones_of(pronouncer, "stone")


@pytest.mark.parametrize("n_best", [1, 3])
def test_word_of_ten_thousand_letters(pronouncer: Pronouncer, n_best: int) -> None:
    word = "stonekitten" * 910
    (answer,) = pronouncer.pronounce([word], n_best=n_best)
    assert answer.word == word and len(word) > 10_000
    assert 0.6 * len(word) < len(answer.phones) < len(word)
    assert 0.0 <= answer.probability <= 1.0


def test_long_words_are_taken_in_pieces(tiny_run: TinyRun, pronouncer: Pronouncer) -> None:
    pieces = Pronouncer(tiny_run.model, threads=1, longest_word=5)
    first, second, rest = pieces.pronounce(["stone", "kitte", "n"])
    (answer,) = pieces.pronounce(["stonekitten"])
    assert answer.phones == first.phones + second.phones + rest.phones
    product = first.probability * second.probability * rest.probability
    assert answer.probability == pytest.approx(product, rel=1e-4)
    # At the limit a word is still one.
    (whole,) = Pronouncer(tiny_run.model, threads=1, longest_word=11).pronounce(["stonekitten"])
    assert whole == pronouncer.pronounce(["stonekitten"])[0]


@given(words=st.lists(st.text() | st.text("abcdefgh'é"), max_size=5), n_best=st.integers(1, 3))
@settings(max_examples=60)
def test_any_text_is_answered(pronouncer: Pronouncer, words: list[str], n_best: int) -> None:
    answers = pronouncer.pronounce(words, n_best=n_best)
    assert [answer.word for answer in answers] == words
    for answer in answers:
        assert 0.0 <= answer.probability <= 1.0
        assert len(answer.alternatives) < n_best


@pytest.mark.parametrize("word", ["word", ""])
def test_one_string_is_no_list(pronouncer: Pronouncer, word: str) -> None:
    with pytest.raises(UserError, match="a list of words, not one string"):
        pronouncer.pronounce(word)


@pytest.mark.parametrize(("n_best", "beam_size"), [(0, None), (-1, None), (1, 0), (3, 2)])
def test_impossible_numbers(pronouncer: Pronouncer, n_best: int, beam_size: int | None) -> None:
    with pytest.raises(UserError, match="at least 1, and beam_size at least n_best"):
        pronouncer.pronounce(["stone"], n_best=n_best, beam_size=beam_size)


@pytest.mark.parametrize(
    ("n_best", "beam_size"), [(1, 2**63), (1, 10**9), (2**62, None), (10_000, 20_000)]
)
def test_numbers_beyond_all_memory(
    pronouncer: Pronouncer, n_best: int, beam_size: int | None
) -> None:
    with pytest.raises(UserError, match="must be at most 10000"):
        pronouncer.pronounce([], n_best=n_best, beam_size=beam_size)


class ScriptedPronouncer(GraphPronouncer):
    """Says of every word what it is told to: texts, and the logarithms of their probabilities."""

    def __init__(self, metadata: ModelMetadata, said: dict[str, float], longest_word: int) -> None:
        super().__init__(metadata, 1, 0, longest_word)
        self._said = said

    def _run(self, batch: Sequence[str], beam_size: int, outputs: Sequence[str]) -> list[list]:
        return [[list(values)] * len(batch) for values in (self._said, self._said.values())]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # What float64 takes for 0 is in its order all the same, and what is impossible is not.
        ({"Q K": -800.0, "K": -900.0, "Z": -inf}, [("Q", "K"), ("K",)]),
        ({"K": -700.0, "Q K": -800.0}, [("K",), ("Q", "K")]),
        # Greedy search, too, says the best that there is.
        ({"K": -inf, "Q K": -inf}, [("K",)]),
    ],
)
def test_improbable_words(
    pronouncer: Pronouncer, said: dict[str, float], expected: list[tuple[str, ...]]
) -> None:
    scripted = ScriptedPronouncer(pronouncer.metadata, said, longest_word=4)
    (answer,) = scripted.pronounce(["kit"], n_best=3)
    assert [answer.phones, *(other.phones for other in answer.alternatives)] == expected
    assert 0.0 <= answer.probability < 1e-300
    (pieces,) = scripted.pronounce(["kitkit"], n_best=3)
    assert pieces.phones == 2 * expected[0] and pieces.probability == 0.0


def test_piece_that_a_server_says_nothing_of(pronouncer: Pronouncer) -> None:
    class Speechless(ScriptedPronouncer):
        def _search_words(
            self, spellings: Sequence[str], *_: object
        ) -> dict[str, Sequence[Alternative]]:
            return {spelling: () for spelling in spellings}

    (answer,) = Speechless(pronouncer.metadata, {}, longest_word=4).pronounce(["kitkit"])
    assert (answer.phones, answer.probability) == ((), 0.0)


def test_several_threads_may_use_it(pronouncer: Pronouncer) -> None:
    expected = pronouncer.pronounce(WORDS, n_best=3)
    found: list[bool] = []

    def ask() -> None:
        for _ in range(10):
            found.append(pronouncer.pronounce(WORDS, n_best=3) == expected)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 40


def test_path_may_be_a_string(tiny_run: TinyRun, pronouncer: Pronouncer) -> None:
    assert Pronouncer(str(tiny_run.model)).metadata == pronouncer.metadata


def test_path_of_any_letters(tiny_run: TinyRun, tmp_path: Path, pronouncer: Pronouncer) -> None:
    folder = tmp_path / "Modèle für 日本"
    folder.mkdir()
    shutil.copyfile(tiny_run.model, folder / "a model.onnx")
    assert Pronouncer(folder / "a model.onnx").pronounce(WORDS) == pronouncer.pronounce(WORDS)


def test_names_of_the_package() -> None:
    assert sorted(grapheme_to_phoneme.__all__) == ["Alternative", "Pronouncer", "Pronunciation"]
    with pytest.raises(AttributeError, match="no attribute 'Pronounce'"):
        grapheme_to_phoneme.Pronounce


def test_version_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "__version__" not in vars(grapheme_to_phoneme)
    assert grapheme_to_phoneme.__version__ == metadata.version(DISTRIBUTION_NAME)
    # The copy inside a model that is served is not installed.
    monkeypatch.setattr(metadata.Distribution, "discover", lambda **_: iter(()))
    assert not hasattr(grapheme_to_phoneme, "__version__")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model file .* `g2p train`"):
        Pronouncer(tmp_path / "missing.onnx")


@pytest.mark.parametrize("content", [b"", b"stone\tS T OW N\n", b"\x08\x08" * 100])
def test_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "words.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        Pronouncer(path)
    assert "words.onnx is" in str(caught.value) and "\n" not in str(caught.value)


def test_half_a_file(tiny_run: TinyRun, tmp_path: Path) -> None:
    content = tiny_run.model.read_bytes()
    path = tmp_path / "half.onnx"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="half.onnx is no ONNX model that can be loaded"):
        Pronouncer(path)


def test_onnx_file_of_something_else(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("value", onnx.TensorProto.FLOAT, [1])
    same = onnx.helper.make_tensor_value_info("same", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["value"], ["same"])
    graph = onnx.helper.make_graph([node], "other", [value], [same])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save_model(model, tmp_path / "other.onnx")
    with pytest.raises(UserError, match="is an ONNX file, but no model that `g2p export` wrote"):
        Pronouncer(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({FORMAT_PROPERTY: "2"}, "has format version 2, this program reads 1"),
        ({FORMAT_PROPERTY: None}, "no model that `g2p export` wrote"),
        ({DESCRIPTION_PROPERTY: "{"}, "is damaged"),
        ({DESCRIPTION_PROPERTY: None}, "is damaged"),
    ],
)
def test_other_metadata(
    tiny_run: TinyRun, tmp_path: Path, properties: dict[str, str | None], message: str
) -> None:
    path = copy_with_properties(tiny_run.model, tmp_path / "changed.onnx", **properties)
    with pytest.raises(UserError, match=message) as caught:
        Pronouncer(path)
    assert "\n" not in str(caught.value)


def test_model_of_another_alphabet_case(tiny_run: TinyRun, tmp_path: Path) -> None:
    """The file says how spellings are normalised, not the program."""
    description = Pronouncer(tiny_run.model).metadata.to_properties()[DESCRIPTION_PROPERTY]
    path = copy_with_properties(
        tiny_run.model,
        tmp_path / "kept.onnx",
        **{DESCRIPTION_PROPERTY: description.replace('"case": "lower"', '"case": "keep"')},
    )
    (answer,) = Pronouncer(path).pronounce(["Stone"])
    assert answer.unknown_characters == ("S",)
