"""Words that cannot be learnt from are counted and named, and nothing is guessed."""

import pytest

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.data import LexiconData
from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.normalization import Normalization
from grapheme_to_phoneme.training.preparation import PreparedData, prepare

TRAIN = [Entry(word, tuple(word.upper())) for word in ("ab", "ba", "abc", "cab", "bac", "abba")]
DEV = [Entry("acb", ("A", "C", "B")), Entry("acb", ("A", "B"))]


def prepare_entries(train: list[Entry], dev: list[Entry], *overrides: str) -> PreparedData:
    config = compose_config(list(overrides))
    data = LexiconData(train, dev, None, {}, "und", "unknown", Normalization())
    return prepare(data, config.alignment, seed=1)


def test_aligned_parts(caplog) -> None:
    caplog.set_level("INFO")
    prepared = prepare_entries(TRAIN, DEV)
    assert [entry.spelling for entry in prepared.train] == [entry.spelling for entry in TRAIN]
    assert prepared.dev_references == {"acb": [("A", "C", "B"), ("A", "B")]}
    # The second pronunciation needs a silent c, which no training word has.
    assert [entry.chunks for entry in prepared.dev] == [(("A",), ("C",), ("B",))]
    assert prepared.alphabets.letters == ("a", "b", "c")
    assert "aligned 6 of 6 training entries, up to 2 phones a letter: 3 letters" in caplog.text


def test_unaligned_words_are_counted_and_named(caplog) -> None:
    long = [Entry(f"w{letter}", ("A",) * 9) for letter in "abcdefghijklmnopqrstuvwxy"]
    prepared = prepare_entries(TRAIN + long, DEV, "alignment.max_phones_per_letter=2")
    assert len(prepared.train) == len(TRAIN)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("25 entries are not learnt from")
    assert "wa, wb" in warning and warning.endswith("wt and 5 more")


def test_rare_chunks_are_left_out_and_their_words_named(caplog) -> None:
    odd = Entry("ac", ("A", "Z"))
    prepared = prepare_entries(TRAIN * 200 + [odd], [*DEV, odd])
    assert len(prepared.train) == len(TRAIN) * 200
    assert ("Z",) not in prepared.alphabets.chunks
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("1 entries are not learnt from") and warning.endswith(": ac")
    # It is scored all the same.
    assert prepared.dev_references["ac"] == [("A", "Z")]


def test_longer_chunks_are_taken_where_they_are_needed(caplog) -> None:
    long = [Entry("w" * count, ("A", "B", "C", "D") * count) for count in (1, 2, 3)]
    prepared = prepare_entries(TRAIN + long, DEV)
    assert len(prepared.train) == len(TRAIN) + 3
    assert ("A", "B", "C", "D") in prepared.alphabets.chunks
    assert caplog.records == []


def test_dev_words_with_unknown_letters_are_scored_all_the_same() -> None:
    prepared = prepare_entries(TRAIN, [*DEV, Entry("zz", ("Z",))])
    assert "zz" in prepared.dev_references
    assert {entry.spelling for entry in prepared.dev} == {"acb"}


def test_nothing_to_learn_from() -> None:
    with pytest.raises(UserError, match="alignment.max_phones_per_letter"):
        prepare_entries([Entry("a", ("B",) * 6)], DEV)


def test_nothing_to_choose_by() -> None:
    with pytest.raises(UserError, match="data.dev_path"):
        prepare_entries(TRAIN, [])
