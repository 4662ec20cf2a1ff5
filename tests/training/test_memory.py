"""The memory says exactly what the other words of the lexicon say, however it is laid out."""

from collections import Counter, defaultdict
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.training import memory as memory_module
from grapheme_to_phoneme.training.alignment import AlignedEntry
from grapheme_to_phoneme.training.alphabets import PADDING_ID, Alphabets
from grapheme_to_phoneme.training.evidence import (
    HASH_MODULUS,
    LEVELS,
    READ_CHUNKS,
    SHARE_STEPS,
)
from grapheme_to_phoneme.training.memory import (
    HASH_BASE,
    HASH_LETTER_FACTOR,
    MemoryTable,
    context_codes,
    find,
    remember,
    siblings_of,
)
from grapheme_to_phoneme.training.network import ContextMemory

WINDOWS = [(0, 0), (-1, 1), (0, 2), (-2, 0)]
ROOM = 10_000
LETTERS = "abc"
PHONES = "XYZ"


@st.composite
def lexicons(draw: st.DrawFn) -> list[AlignedEntry]:
    """Few letters and phones, so that words share contexts, and spellings come twice."""
    spellings = draw(st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=12))
    return [
        AlignedEntry(spelling, tuple((draw(st.sampled_from(PHONES)),) for _ in spelling))
        for spelling in spellings
    ]


def test_codes_are_those_of_horners_rule() -> None:
    letters = torch.tensor([[1, 2, 3, 28, 5], [30_000, 7, 1, 0, 0]])
    codes = context_codes(letters, WINDOWS)
    reach = max(max(-first, last) for first, last in WINDOWS)
    for row, spelling in enumerate(letters.tolist()):
        padded = [PADDING_ID] * reach + spelling + [PADDING_ID] * reach
        for place in range(len(spelling)):
            for number, (first, last) in enumerate(WINDOWS):
                code = reach + first + 1
                for letter in padded[reach + place + first : reach + place + last + 1]:
                    code = (code * HASH_BASE + letter * HASH_LETTER_FACTOR) % HASH_MODULUS
                assert codes[row, place, number] == code


def context_of(spelling: str, place: int, window: tuple[int, int]) -> str:
    padded = "#" * 9 + spelling + "#" * 9
    return padded[9 + place + window[0] : 9 + place + window[1] + 1]


def count(
    entries: list[AlignedEntry], left_out: str | None, window: tuple[int, int]
) -> dict[str, tuple[int, Counter]]:
    """Count contexts the slow way: total and chunks; ``left_out`` is one place of one word."""
    given: dict[tuple[str, int], set] = defaultdict(set)
    for entry in entries:
        for place, chunk in enumerate(entry.chunks):
            given[entry.spelling, place].add(chunk)
    totals: Counter = Counter()
    counts: dict[str, Counter] = defaultdict(Counter)
    for (spelling, place), chunks in given.items():
        if (spelling, place) != left_out:
            context = context_of(spelling, place, window)
            totals[context] += 1
            counts[context].update(chunks)
    return {context: (totals[context], counts[context]) for context in totals}


def make_memory(entries: list[AlignedEntry], alphabets: Alphabets) -> ContextMemory:
    memory = ContextMemory(WINDOWS, len(alphabets.chunks) + 1, 8, 8, dropout=0.0)
    # So roomy that no context is left out.
    with patch.object(memory_module, "LOAD", 0.05):
        memory.table = remember(entries, alphabets, WINDOWS, ROOM)
    return memory


def check_said(
    said: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    spelling: str,
    entries: list[AlignedEntry],
    alphabets: Alphabets,
    leaves_out: bool,
) -> None:
    chunks, shares, levels = (part[0] for part in said)
    for place in range(len(spelling)):
        for number, window in enumerate(WINDOWS):
            left_out = (spelling, place) if leaves_out else None
            counted = count(entries, left_out, window)
            total, expected = counted.get(context_of(spelling, place, window), (0, Counter()))
            # The evidence takes a new context for a known one now and then: see its own tests.
            if not total and not leaves_out:
                continue
            assert levels[place, number] == (total.bit_length() if total else 0)
            ranked = [share / total for _, share in expected.most_common(READ_CHUNKS)]
            ranked += [0.0] * (READ_CHUNKS - len(ranked))
            assert shares[place, number :: len(WINDOWS)].tolist() == pytest.approx(
                ranked, abs=0.5 / SHARE_STEPS + 1e-6
            )
            ids = chunks[place, number :: len(WINDOWS)].tolist()
            for index, share in zip(ids, ranked, strict=True):
                if share:
                    chunk = alphabets.chunks[index - 1]
                    assert expected[chunk] / total == pytest.approx(share)


@given(lexicons(), st.text(LETTERS, min_size=1, max_size=5))
def test_new_words_see_all_that_was_counted(entries: list[AlignedEntry], spelling: str) -> None:
    alphabets = Alphabets(tuple(LETTERS), tuple((phone,) for phone in PHONES))
    memory = make_memory(entries, alphabets)
    said = memory.look_up(torch.tensor([alphabets.encode(spelling)]), None)
    check_said(said, spelling, entries, alphabets, leaves_out=False)


def test_contexts_that_are_sums_of_others_are_told_apart() -> None:
    """Codes are polynomials of letters: a check that keeps sums took one context for another."""
    entries = [AlignedEntry("ac", (("X",),) * 2), AlignedEntry("ccc", (("Y",), ("X",), ("X",)))]
    alphabets = Alphabets(tuple(LETTERS), tuple((phone,) for phone in PHONES))
    memory = make_memory(entries, alphabets)
    said = memory.look_up(torch.tensor([alphabets.encode("ac")]), None)
    check_said(said, "ac", entries, alphabets, leaves_out=False)


@given(lexicons(), st.data())
def test_training_words_see_the_other_words_alone(
    entries: list[AlignedEntry], data: st.DataObject
) -> None:
    alphabets = Alphabets(tuple(LETTERS), tuple((phone,) for phone in PHONES))
    memory = make_memory(entries, alphabets)
    index = data.draw(st.integers(0, len(entries) - 1))
    spelling = entries[index].spelling
    own = torch.tensor(
        [
            [alphabets.chunk_ids[chunk] for chunk in entries[sibling].chunks]
            for sibling in siblings_of(entries)[index]
        ]
    ).T[None]
    said = memory.look_up(torch.tensor([alphabets.encode(spelling)]), own)
    check_said(said, spelling, entries, alphabets, leaves_out=True)


def test_a_word_alone_sees_nothing() -> None:
    """Nothing of the answer may leak into what the network is trained on."""
    entries = [AlignedEntry("abc", (("X",), ("Y",), ("Z",)))]
    alphabets = Alphabets.of_entries(entries)
    memory = make_memory(entries, alphabets)
    letters = torch.tensor([alphabets.encode("abc")])
    own = torch.tensor([[[alphabets.chunk_ids[chunk]] for chunk in entries[0].chunks]])
    _, shares, levels = memory.look_up(letters, own)
    assert not shares.any() and not levels.any()
    _, shares, levels = memory.look_up(letters, None)
    assert (shares[..., : len(WINDOWS)] == 1).all() and (levels == 1).all()


def test_padding_and_the_words_beside_it_change_nothing() -> None:
    entries = [AlignedEntry("ab", (("X",), ("Y",))), AlignedEntry("abcab", (("X",),) * 5)]
    alphabets = Alphabets.of_entries(entries)
    memory = make_memory(entries, alphabets)
    alone = memory.look_up(torch.tensor([alphabets.encode("ab")]), None)
    rows = [alphabets.encode("ab") + [0] * 3, alphabets.encode("abcab")]
    beside = memory.look_up(torch.tensor(rows), None)
    for one, other in zip(alone, beside, strict=True):
        assert torch.equal(one[0], other[0, :2])
    assert not beside[2][0, 2:].any()


def test_contexts_of_most_words_stay_where_there_is_no_room(monkeypatch) -> None:
    monkeypatch.setattr(memory_module, "WAYS", 2)
    entries = [
        AlignedEntry(letter * length, (("X",),) * length)
        for letter, longest in (("a", 4), ("b", 3), ("c", 1))
        for length in range(1, longest + 1)
    ]
    alphabets = Alphabets.of_entries(entries)
    table = remember(entries, alphabets, [(0, 0)], most_slots=2)
    assert table.contexts == 2
    _, found = find(context_codes(torch.tensor([[1, 2, 3]]), [(0, 0)]), table.codes)
    assert found[0, :, 0].tolist() == [True, True, False]


def test_a_table_fills_the_room_it_needs_and_no_more() -> None:
    entries = [AlignedEntry(chr(0x4E00 + number), (("X",),)) for number in range(2000)]
    alphabets = Alphabets.of_entries(entries)
    table = remember(entries, alphabets, [(0, 0)], ROOM)
    assert table.contexts > 1900
    assert table.codes.numel() < 4000
    assert remember(entries, alphabets, [(0, 0)], 100).codes.numel() <= 100


def test_without_windows_nothing_is_remembered() -> None:
    entries = [AlignedEntry("a", (("X",),))]
    assert remember(entries, Alphabets.of_entries(entries), [], ROOM).contexts == 0


def test_an_empty_table_finds_nothing() -> None:
    _, found = find(context_codes(torch.tensor([[1, 2]]), WINDOWS), MemoryTable.empty().codes)
    assert not found.any()


def test_the_table_travels_with_the_weights() -> None:
    entries = [AlignedEntry("ab", (("X",), ("Y",)))]
    memory = make_memory(entries, Alphabets.of_entries(entries))
    other = ContextMemory(WINDOWS, 3, 8, 8, dropout=0.0)
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.table.codes, memory.table.codes)
    moved = memory.to("meta")
    assert all(value.is_meta for value in moved.table.to_dict().values())


def test_numbers_of_words_fall_into_levels() -> None:
    """One word, two to three, four to seven and so on, up to a last class."""
    totals = [1, 2, 3, 4, 7, 8, 1200]
    entries = [
        AlignedEntry(chr(0x4E00 + row) + "a" * column, (("X",),) * (column + 1))
        for row, total in enumerate(totals)
        for column in range(total)
    ]
    alphabets = Alphabets.of_entries(entries)
    memory = ContextMemory([(0, 0)], 2, 8, 8, dropout=0.0)
    memory.table = remember(entries, alphabets, [(0, 0)], ROOM)
    letters = torch.tensor([[alphabets.letter_ids[chr(0x4E00 + row)] for row in range(7)]])
    _, _, levels = memory.look_up(letters, None)
    assert levels[0, :, 0].tolist() == [1, 2, 2, 3, 3, 4, LEVELS - 1]


@torch.no_grad()
def test_the_memory_says_the_same_when_it_is_exported(monkeypatch) -> None:
    entries = [AlignedEntry("ab", (("X",), ("Y",))), AlignedEntry("abcab", (("X",),) * 5)]
    alphabets = Alphabets.of_entries(entries)
    memory = make_memory(entries, alphabets)
    torch.nn.init.normal_(memory.gains.weight)
    letters = torch.tensor([alphabets.encode(spelling) for spelling in ("abcba", "ababb")])
    here = memory(letters)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(memory(letters), here)
