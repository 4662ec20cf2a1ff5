"""Letters get the phones that they stand for, and every entry is aligned whole or not at all."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.training import alignment
from grapheme_to_phoneme.training.alignment import (
    AlignedEntry,
    Aligner,
    choose_max_phones_per_letter,
    without_rare_chunks,
)
from tests.conftest import TinyLexicon

# A language in which every letter is a phone, but x, which is two, and h, which is silent.
PHONES_OF = {"a": ("AA",), "b": ("B",), "t": ("T",), "x": ("K", "S"), "h": ()}
REGULAR_WORDS = (
    "ab ba bat tab abba at ta tat bab aba baba tatt axa xa ax tax bax taxa abax hat bah tahb "
    "habt bahxa that tabxat"
).split()

ENTRIES = st.lists(
    st.builds(
        Entry,
        st.text("abcd", min_size=1, max_size=5),
        st.lists(st.sampled_from("KLMN"), min_size=1, max_size=8).map(tuple),
    ),
    min_size=1,
    max_size=20,
)


def make_aligner(entries: Sequence[Entry], longest: int = 2, **options) -> Aligner:
    settings = {"iterations": 8, "sample_size": 1000, "extra_phone_prior": 0.1, "seed": 1}
    return Aligner(entries, longest, **{**settings, **options})


def spell(word: str) -> Entry:
    return Entry(word, tuple(phone for letter in word for phone in PHONES_OF[letter]))


def show(aligned: AlignedEntry) -> str:
    """Return ``t=T a=AA x=K+S h=``."""
    return " ".join(
        f"{letter}={'+'.join(chunk)}"
        for letter, chunk in zip(aligned.spelling, aligned.chunks, strict=True)
    )


def joined(aligned: AlignedEntry) -> tuple[str, ...]:
    return sum(aligned.chunks, ())


def test_known_alignment_is_found() -> None:
    entries = [spell(word) for word in REGULAR_WORDS]
    for aligned in make_aligner(entries).align(entries):
        assert aligned.chunks == tuple(PHONES_OF[letter] for letter in aligned.spelling)


def test_no_letter_is_silent_for_its_neighbours_sake() -> None:
    # The n of a double n is silent now and then, and so might that of ng be, as likely as not.
    words = {
        "inna": "I N A",
        "anni": "A N I",
        "annin": "A N I N",
        "ig": "I K",
        "aging": "A K J NG K",
        "ringa": "R J NG K A",
        "ra": "R A",
    }
    entries = [Entry(word, tuple(phones.split())) for word, phones in words.items()]
    aligned = make_aligner(entries).align(entries)
    assert show(aligned[4]) == "a=A g=K i=J n=NG g=K"
    assert show(aligned[5]) == "r=R i=J n=NG g=K a=A"


def test_english_silent_and_double_letters(tiny_lexicon: TinyLexicon) -> None:
    aligner = make_aligner(tiny_lexicon.train, sample_size=4000)
    words = [
        Entry("fox", ("F", "AA", "K", "S")),
        Entry("knee", ("N", "IY")),
        Entry("make", ("M", "EY", "K")),
        Entry("lamb", ("L", "AE", "M")),
    ]
    shown = [show(aligned) for aligned in aligner.align(words)]
    assert shown[0] == "f=F o=AA x=K+S"
    assert shown[1] in ("k= n=N e=IY e=", "k=N n= e=IY e=", "k= n=N e= e=IY")
    assert shown[2] == "m=M a=EY k=K e="
    assert shown[3] == "l=L a=AE m=M b="


def test_real_lexicon_is_aligned_whole(tiny_lexicon: TinyLexicon) -> None:
    entries = tiny_lexicon.train[:3000]
    aligned = make_aligner(entries).align(entries)
    for entry, result in zip(entries, aligned, strict=True):
        fits = len(entry.phones) <= 2 * len(entry.spelling)
        assert (result is not None) == fits
        if result is not None:
            assert result.spelling == entry.spelling
            assert len(result.chunks) == len(entry.spelling)
            assert joined(result) == entry.phones


@given(ENTRIES, st.integers(1, 3))
def test_chunks_spell_the_pronunciation_or_there_are_none(
    entries: list[Entry], longest: int
) -> None:
    aligned = make_aligner(entries, longest, iterations=2).align(entries)
    assert len(aligned) == len(entries)
    for entry, result in zip(entries, aligned, strict=True):
        if len(entry.phones) > longest * len(entry.spelling):
            assert result is None
            continue
        assert result.spelling == entry.spelling
        assert len(result.chunks) == len(entry.spelling)
        assert joined(result) == entry.phones
        assert max(len(chunk) for chunk in result.chunks) <= longest


def test_more_phones_than_letters_can_take() -> None:
    entries = [Entry("ab", ("K", "L", "M")), Entry("ab", ("K", "L", "M", "N", "K"))]
    assert [result is None for result in make_aligner(entries).align(entries)] == [False, True]


def test_nothing_can_be_aligned() -> None:
    entries = [Entry("a", ("K", "L", "M"))]
    assert make_aligner(entries).align(entries) == [None]


def test_long_chunks() -> None:
    words = [Entry("w", ("D", "AH", "B", "AH")), Entry("ww", ("D", "AH", "B", "AH") * 2)]
    result = make_aligner(words, longest=4).align(words)
    assert result[1].chunks == (("D", "AH", "B", "AH"), ("D", "AH", "B", "AH"))


def test_letters_and_phones_that_training_did_not_have() -> None:
    aligner = make_aligner([spell(word) for word in REGULAR_WORDS])
    unseen = [Entry("bäb", ("B", "AA", "B")), Entry("bab", ("B", "ZH", "B"))]
    assert aligner.align(unseen) == [None, None]
    assert aligner.align([]) == []


def test_chunk_that_the_sample_did_not_hold_is_a_last_resort() -> None:
    # Every letter and phone is known, but b never says AA.
    aligner = make_aligner([spell(word) for word in REGULAR_WORDS])
    (result,) = aligner.align([Entry("bb", ("B", "AA"))])
    assert joined(result) == ("B", "AA")


def test_sample_depends_on_the_seed_alone(tiny_lexicon: TinyLexicon) -> None:
    entries = tiny_lexicon.train[:600]
    once, again = (make_aligner(entries, sample_size=100).align(entries) for _ in range(2))
    assert once == again
    other = make_aligner(entries, sample_size=100, seed=2).align(entries)
    assert other != once
    for entry, result in zip(entries, once, strict=True):
        assert result is None or joined(result) == entry.phones


def test_order_of_the_entries_does_not_matter() -> None:
    entries = [spell(word) for word in REGULAR_WORDS]
    backwards = make_aligner(entries[::-1]).align(entries[::-1])
    assert backwards[::-1] == make_aligner(entries).align(entries)


@given(entries=ENTRIES)
def test_large_alphabets_are_aligned_as_small_ones(entries: list[Entry]) -> None:
    by_table = make_aligner(entries, iterations=2).align(entries)
    others = [Entry("dcba", ("K", "L", "M")), Entry("aa", ("N",))]
    other_by_table = make_aligner(entries, iterations=2).align(others)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "DENSE_TABLE_LIMIT", 0)
        if any(result is not None for result in by_table):
            aligner = make_aligner(entries, iterations=2)
            assert aligner.align(entries) == by_table
            assert aligner.align(others) == other_by_table


def test_really_large_alphabets() -> None:
    """Some thousand letters, as in Korean or Chinese, take the way without a table."""
    letters = [chr(0xAC00 + number) for number in range(3000)]
    entries = [
        Entry(first + second, (f"p{i % 90}", f"q{(i + 1) % 80}"))
        for i, (first, second) in enumerate(zip(letters, letters[1:], strict=False))
    ]
    aligner = make_aligner(entries, longest=4, sample_size=5000)
    assert all(
        joined(result) == entry.phones
        for entry, result in zip(entries, aligner.align(entries), strict=True)
    )


def test_alphabets_beyond_all_bounds_are_refused() -> None:
    entries = [Entry(chr(0x4E00 + number), (f"p{number}",)) for number in range(3000)]
    with pytest.raises(UserError, match="too many for up to 5 phones a letter"):
        make_aligner(entries, longest=5)


@pytest.mark.parametrize(
    ("needed", "tolerated_loss", "expected"),
    [
        ([1, 2], 0.0, 2),
        ([1, 3], 0.0, 3),
        ([1, 3], 0.5, 2),
        ([9], 0.0, 5),
        ([1] * 99 + [4], 0.01, 2),
        ([1] * 99 + [4, 4], 0.01, 4),
        ([], 0.0, 2),
    ],
)
def test_shortest_chunks_that_lose_little(
    needed: list[int], tolerated_loss: float, expected: int
) -> None:
    entries = [Entry("ab", ("K",) * (2 * count)) for count in needed]
    assert choose_max_phones_per_letter(entries, 2, 5, tolerated_loss) == expected


def test_entries_with_the_rarest_chunks_are_left_out() -> None:
    def entry(spelling: str, *phones: str) -> AlignedEntry:
        return AlignedEntry(spelling, tuple((phone,) for phone in phones))

    usual = [entry("ab", "A", "B")] * 7
    odd = [entry("ab", "A", "X"), entry("ab", "Y", "B"), entry("ba", "Y", "A")]
    entries = [odd[0], *usual, *odd[1:]]
    assert without_rare_chunks(entries, 0.0) == (entries, [])
    # The chunk that one entry has, and not the one of two.
    assert without_rare_chunks(entries, 0.2) == ([*usual, *odd[1:]], odd[:1])
    assert without_rare_chunks(entries, 0.3) == (usual, odd)
    assert without_rare_chunks([], 0.3) == ([], [])
