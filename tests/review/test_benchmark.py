"""The errors that the benchmark plants, and the pair n-grams that it compares with."""

from collections import Counter
from math import exp

import pytest

from benchmarks.lexicon_review import KINDS, SWAPPED, PairNgrams, plant, read_as_foreign
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling
from grapheme_to_phoneme.training.alignment import AlignedEntry
from tests.conftest import TinyLexicon


def test_planted_errors_are_errors(tiny_lexicon: TinyLexicon) -> None:
    clean = tiny_lexicon.train[:3000]
    entries, planted = plant(clean, 0.02, seed=1)
    assert [entry.spelling for entry in entries] == [entry.spelling for entry in clean]
    changed = [(one, other) for one, other in zip(clean, entries, strict=True) if one != other]
    assert len(changed) == len(planted) == 60
    assert Counter(planted.values()) == dict.fromkeys(KINDS, 20)
    accepted = group_by_spelling(clean)
    for before, after in changed:
        assert after.phones not in accepted[after.spelling]
        assert (after.spelling, after.phones) in planted
    swapped = [pair for pair in changed if planted[pair[1].spelling, pair[1].phones] == SWAPPED]
    assert Counter(before.phones for before, _ in swapped) == Counter(
        after.phones for _, after in swapped
    )
    assert plant(clean, 0.02, seed=1) == (entries, planted)
    assert plant(clean, 0.02, seed=2)[1] != planted


@pytest.mark.parametrize(
    ("spelling", "said"),
    [("knight", "K N IY1 G T"), ("taxi", "T AA1 K S IY0"), ("banana", "B AA0 N AA1 N AA0")],
)
def test_foreign_reading(spelling: str, said: str) -> None:
    assert " ".join(read_as_foreign(spelling)) == said


@pytest.fixture(scope="module")
def ngrams() -> PairNgrams:
    words = {"abc": "XYZ", "abd": "XYW", "bca": "YZX", "cab": "UXY", "bab": "YXY"}
    entries = [
        AlignedEntry(word, tuple((phone,) for phone in said)) for word, said in words.items()
    ]
    return PairNgrams(entries, order=3)


def test_probabilities_add_up(ngrams: PairNgrams) -> None:
    tokens = [(letter, (phone,)) for letter, phone in zip("abcdc", "XYZWU", strict=True)]
    for history in (ngrams.start, (("", ()), tokens[0]), (tokens[0], tokens[1])):
        total = sum(map(exp, ngrams.log_probabilities(history, tokens)))
        # The rest is for what was never seen.
        assert 0.85 < total < 1.0


def test_best_score_is_that_of_the_best_alignment(ngrams: PairNgrams) -> None:
    scores = [
        ngrams.score(AlignedEntry("cab", ((first,), ("X",), ("Y",)))) for first in ("Z", "U")
    ]
    assert ngrams.best_score("cab", beam_size=8) == pytest.approx(max(scores))


def test_entries_that_stay(tiny_lexicon: TinyLexicon) -> None:
    clean = [Entry("abc", ("AH", "B")), Entry("abd", ("AH", "D"))]
    assert plant(clean, 0.02, seed=1) == (clean, {})
