"""Lexicons that are turned round."""

import pytest

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.direction import is_reverse, recode, reverse, reverse_parts
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling
from grapheme_to_phoneme.normalization import Normalization

KNIGHT = Entry("knight", ("N", "AY1", "T"))
NIGHT = Entry("night", ("N", "AY1", "T"))
TEN = Entry("ten", ("T", "EH1", "N"))
NET = Entry("net", ("N", "EH1", "T"))


def test_homophones_are_spellings_of_one_input() -> None:
    parts, normalization = reverse_parts({"train": [KNIGHT, NIGHT, TEN], "dev": [NET]})
    assert normalization.symbols == ("AY1", "EH1", "N", "T")
    assert group_by_spelling(parts["train"]) == {
        normalization.apply("N AY1 T"): [tuple("knight"), tuple("night")],
        normalization.apply("T EH1 N"): [tuple("ten")],
    }
    assert parts["dev"] == [Entry(normalization.apply("N EH1 T"), tuple("net"))]


def test_what_sounds_like_a_training_word_is_not_scored_on() -> None:
    parts, normalization = reverse_parts({"train": [KNIGHT, TEN], "dev": [NIGHT, NET], "test": []})
    assert [entry.phones for entry in parts["dev"]] == [tuple("net")]
    assert parts["test"] == []


def test_phones_of_every_part_have_a_symbol() -> None:
    _, normalization = reverse_parts({"train": [TEN], "dev": [Entry("oi", ("OY1",))]})
    assert "OY1" in normalization.symbols


def test_words_with_spaces_are_left_out() -> None:
    normalization = Normalization(symbols=("N", "T"))
    entries = [Entry("ad hoc", ("T",)), Entry("a\u3000b", ("T",)), Entry("tn", ("T", "N"))]
    assert [entry.phones for entry in reverse(entries, normalization)] == [("t", "n")]


def test_another_lexicons_symbols() -> None:
    parts, normalization = reverse_parts({"train": [TEN]})
    models = Normalization(symbols=("A", "B", "EH1", "T"))
    (entry,) = recode(parts["train"], normalization, models)
    # The model does not know N: it stays what it is, and is told of as unknown.
    assert entry.spelling == models.apply("T EH1") + "N"


@pytest.mark.parametrize(
    ("direction", "expected"), [("grapheme-to-phoneme", False), ("phoneme-to-grapheme", True)]
)
def test_directions(direction: str, expected: bool) -> None:
    assert is_reverse(direction) is expected


def test_unknown_direction() -> None:
    with pytest.raises(UserError, match="unknown direction 'sideways'"):
        is_reverse("sideways")
