"""Words are made up that a lexicon could have, the same ones every time."""

from grapheme_to_phoneme.training.imagination import imagine

WORDS = ["banana", "bandana", "cabana", "canal", "anna", "band"]


def test_words_are_new_different_and_the_same_again() -> None:
    imagined = imagine(WORDS, 20, known={*WORDS, "ban"}, seed=1, order=5)
    assert len(imagined) == len(set(imagined)) == 20
    assert not {*WORDS, "ban", ""}.intersection(imagined)
    assert imagined == imagine(WORDS, 20, known={*WORDS, "ban"}, seed=1, order=5)
    assert imagined != imagine(WORDS, 20, known=WORDS, seed=2, order=5)


def test_words_are_made_of_what_the_lexicon_has() -> None:
    pairs = {pair for word in WORDS for pair in zip(f"^{word}", f"{word}$", strict=True)}
    imagined = imagine(WORDS, 30, known=WORDS, seed=1, order=5)
    assert max(map(len, imagined)) <= max(map(len, WORDS))
    assert set("".join(imagined)) <= set("".join(WORDS))
    seen = [pair in pairs for word in imagined for pair in zip(f"^{word}", word, strict=False)]
    assert sum(seen) > 0.8 * len(seen)


def test_frequent_sequences_come_whole() -> None:
    """In a context that has always been followed by the same letter, most often it is again."""
    words = [f"{first}ough{last}" for first in "bcdfghklmn" for last in "aeiou"]
    imagined = imagine(words, 40, known=(), seed=1, order=5)
    assert sum(word in words for word in imagined) > 20


def test_letters_that_allow_few_words() -> None:
    assert imagine(["a"], 5, known=["a"], seed=1, order=5) == []
    assert imagine(["ab", "ba"], 50, known=["ab"], seed=1, order=5) == ["a", "aa", "b", "ba", "bb"]
