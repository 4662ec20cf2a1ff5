"""Which letter gave which phones."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grapheme_to_phoneme import Alternative, Pronouncer, Pronunciation
from tests.conftest import TinyRun

REAL_WORDS = 400


@pytest.fixture(scope="module")
def pronouncer(tiny_run: TinyRun) -> Pronouncer:
    """The trained model."""
    return Pronouncer(tiny_run.model, threads=1)


@pytest.fixture(scope="module")
def words(tiny_run: TinyRun) -> list[str]:
    """Real words that the model has not learnt from."""
    return list(dict.fromkeys(entry.spelling for entry in tiny_run.lexicon.dev))[:REAL_WORDS]


def choices_of(answer: Pronunciation) -> Iterator[Pronunciation | Alternative]:
    yield answer
    yield from answer.alternatives


def letters_of(choice: Pronunciation | Alternative) -> str:
    return "".join(letter for letter, _ in choice.alignment)


def check_alignments(answers: Sequence[Pronunciation], spellings: Sequence[str]) -> None:
    """Check that every pronunciation is said letter by letter."""
    for answer, spelling in zip(answers, spellings, strict=True):
        for choice in choices_of(answer):
            assert letters_of(choice) == spelling
            assert sum((phones for _, phones in choice.alignment), ()) == choice.phones


def without_alignment(answer: Pronunciation) -> Pronunciation:
    others = tuple(other._replace(alignment=()) for other in answer.alternatives)
    return answer._replace(alignment=(), alternatives=others)


@pytest.mark.parametrize("n_best", [1, 3])
def test_phones_are_those_of_the_letters(
    pronouncer: Pronouncer, words: list[str], n_best: int
) -> None:
    answers = pronouncer.pronounce(words, n_best=n_best, with_alignment=True)
    assert len(words) == REAL_WORDS
    check_alignments(answers, words)
    # Nothing else changes, and there is something to tell: silent letters and letters of two.
    assert [without_alignment(answer) for answer in answers] == pronouncer.pronounce(
        words, n_best=n_best
    )
    spoken = {len(phones) for answer in answers for _, phones in answer.alignment}
    assert {0, 1, 2} <= spoken


def test_alignment_is_typed(pronouncer: Pronouncer) -> None:
    (answer,) = pronouncer.pronounce(["stone"], n_best=2, with_alignment=True)
    for choice in choices_of(answer):
        assert isinstance(choice.alignment, tuple) and len(choice.alignment) == 5
        for letter, phones in choice.alignment:
            assert type(letter) is str and type(phones) is tuple
            assert set(phones) <= set(pronouncer.metadata.phones)
    assert answer.alignment[:2] == (("s", ("S",)), ("t", ("T",)))


def test_alignment_is_given_where_it_is_asked_for(pronouncer: Pronouncer) -> None:
    for answer in pronouncer.pronounce(["stone", "kitten"], n_best=3):
        assert all(choice.alignment == () for choice in choices_of(answer))


@pytest.mark.parametrize("n_best", [1, 3])
def test_others_in_the_list_do_not_matter(
    tiny_run: TinyRun, pronouncer: Pronouncer, words: list[str], n_best: int
) -> None:
    chosen = words[::10]
    options = {"n_best": n_best, "with_alignment": True}
    alone = [pronouncer.pronounce([word], **options)[0] for word in chosen]
    bounded = Pronouncer(tiny_run.model, threads=2, letters_per_batch=50)
    together = dict(zip(words, pronouncer.pronounce(words, **options), strict=True))
    backwards = dict(zip(words[::-1], bounded.pronounce(words[::-1], **options), strict=True))
    for word, answer in zip(chosen, alone, strict=True):
        for other in (together[word], backwards[word]):
            for one, same in zip(choices_of(answer), choices_of(other), strict=True):
                assert (one.phones, one.alignment) == (same.phones, same.alignment)
                assert one.probability == pytest.approx(same.probability, rel=1e-4)


def test_most_probable_alignment_counts(
    tiny_run: TinyRun, pronouncer: Pronouncer, words: list[str]
) -> None:
    session = onnxruntime.InferenceSession(tiny_run.model)
    beam_size = 12
    rivals = 0
    for word in words[:100]:
        inputs = {
            "words": np.array([word], dtype=object),
            "beam_size": np.array([beam_size], dtype=np.int64),
        }
        names = ["pronunciations", "log_probabilities", "chunks"]
        (texts,), (scores,), (chunks,) = session.run(names, inputs)
        (answer,) = pronouncer.pronounce(
            [word], n_best=4, beam_size=beam_size, with_alignment=True
        )
        for choice in choices_of(answer):
            saying = np.flatnonzero(texts == " ".join(choice.phones))
            best = max(saying, key=lambda place: scores[place])
            assert choice.alignment == tuple(
                (letter, tuple(chunk.split()))
                for letter, chunk in zip(word, chunks[best], strict=True)
            )
            rivals += len(saying) - 1
    # Else nothing was chosen from.
    assert rivals > 5


def test_letters_are_those_that_the_model_knows(pronouncer: Pronouncer) -> None:
    answers = pronouncer.pronounce(
        [" STONE ", "st€ö😀ne7", "sto\u0308ne", "O’Neil"], n_best=2, with_alignment=True
    )
    check_alignments(answers, ["stone", "stone", "stone", "o'neil"])
    assert answers[0].alignment == answers[1].alignment == answers[2].alignment


@pytest.mark.parametrize("word", ["", " ", "7", "日本"])
def test_nothing_to_align(pronouncer: Pronouncer, word: str) -> None:
    (answer,) = pronouncer.pronounce([word], n_best=2, with_alignment=True)
    assert (answer.phones, answer.alignment, answer.alternatives) == ((), (), ())


def test_dictionary_gives_no_alignment(tiny_run: TinyRun) -> None:
    own = Pronouncer(tiny_run.model, dictionary={"stone": [("S", "T"), ("Z",)]})
    looked_up, asked = own.pronounce(["stone", "kitten"], n_best=2, with_alignment=True)
    assert all(choice.alignment == () for choice in choices_of(looked_up))
    check_alignments([asked], ["kitten"])


def test_long_words_are_aligned_piece_by_piece(tiny_run: TinyRun, pronouncer: Pronouncer) -> None:
    for n_best in (1, 3):
        pieces = Pronouncer(tiny_run.model, threads=1, longest_word=5)
        parts = pieces.pronounce(["stone", "kitte", "n"], n_best=n_best, with_alignment=True)
        (answer,) = pieces.pronounce(["stonekitten"], n_best=n_best, with_alignment=True)
        assert answer.alignment == sum((part.alignment for part in parts), ())
        check_alignments([answer], ["stonekitten"])
        word = "stonekitten" * 910
        check_alignments(pronouncer.pronounce([word], n_best=n_best, with_alignment=True), [word])


def test_only_who_asks_waits_for_it(
    pronouncer: Pronouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    run = onnxruntime.InferenceSession.run

    def listen(session: object, outputs: Sequence[str], *arguments: object) -> list[np.ndarray]:
        asked.append(list(outputs))
        return run(session, outputs, *arguments)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", listen)
    pronouncer.pronounce(["stone"], n_best=3)
    pronouncer.pronounce(["stone"], n_best=3, with_alignment=True)
    assert asked == [
        ["pronunciations", "log_probabilities"],
        ["pronunciations", "log_probabilities", "chunks"],
    ]


@given(texts=st.lists(st.text() | st.text("abcdefgh'é"), max_size=5), n_best=st.integers(1, 3))
@settings(max_examples=60)
def test_any_text_is_aligned(pronouncer: Pronouncer, texts: list[str], n_best: int) -> None:
    for answer in pronouncer.pronounce(texts, n_best=n_best, with_alignment=True):
        check_alignments([answer], [letters_of(answer)])
        assert set(letters_of(answer)) <= set(pronouncer.metadata.letters)
