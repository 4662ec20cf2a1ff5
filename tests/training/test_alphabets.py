"""Ids mean what they meant, and unknown letters have none."""

import random

from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.training.alignment import AlignedEntry
from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets

ENTRIES = (
    AlignedEntry("fox", (("F",), ("AA",), ("K", "S"))),
    AlignedEntry("off", (("AO",), ("F",), ())),
    AlignedEntry("of", (("AH",), ("V",))),
)
CHUNKS = st.lists(st.sampled_from(["AA", "K", "ˈe", "tʃ"]), max_size=3).map(tuple)
ALIGNED = st.lists(st.tuples(st.characters(), CHUNKS), min_size=1, max_size=8).map(
    lambda pairs: AlignedEntry(
        "".join(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
    )
)


def test_ids() -> None:
    alphabets = Alphabets.of_entries(ENTRIES)
    assert alphabets.letters == ("f", "o", "x")
    # The most frequent first, ties by content.
    assert alphabets.chunks == (("F",), (), ("AA",), ("AH",), ("AO",), ("K", "S"), ("V",))
    assert alphabets.encode("fox") == [1, 2, 3]
    assert alphabets.chunk_ids[("K", "S")] == 6
    assert alphabets.phones == ["AA", "AH", "AO", "F", "K", "S", "V"]


def test_zero_is_no_letter_and_no_chunk() -> None:
    alphabets = Alphabets.of_entries(ENTRIES)
    assert PADDING_ID not in alphabets.letter_ids.values()
    assert START_ID not in alphabets.chunk_ids.values()


def test_unknown_letters_are_left_out() -> None:
    alphabets = Alphabets.of_entries(ENTRIES)
    assert alphabets.encode("fö😀x") == [1, 3]
    assert alphabets.encode("") == alphabets.encode("zzz") == []


def test_phones_of_a_padded_path() -> None:
    alphabets = Alphabets.of_entries(ENTRIES)
    path = [alphabets.chunk_ids[chunk] for chunk in ENTRIES[0].chunks]
    assert alphabets.phones_of([*path, START_ID, START_ID]) == ("F", "AA", "K", "S")
    assert alphabets.phones_of([]) == ()


@given(st.lists(ALIGNED, min_size=1, max_size=6), st.integers())
def test_order_of_the_entries_does_not_matter(entries: list[AlignedEntry], seed: int) -> None:
    shuffled = random.Random(seed).sample(entries, len(entries))
    assert Alphabets.of_entries(shuffled) == Alphabets.of_entries(entries)


@given(st.lists(ALIGNED, min_size=1, max_size=6))
def test_round_trips(entries: list[AlignedEntry]) -> None:
    alphabets = Alphabets.of_entries(entries)
    assert Alphabets.from_dict(alphabets.to_dict()) == alphabets
    for entry in entries:
        ids = alphabets.encode(entry.spelling)
        assert "".join(alphabets.letters[index - 1] for index in ids) == entry.spelling
        path = [alphabets.chunk_ids[chunk] for chunk in entry.chunks]
        assert alphabets.phones_of(path) == sum(entry.chunks, ())
