"""A memory of the lexicon: what each letter became wherever the same letters stood around it.

These are the counts of a pair n-gram model (Bisani and Ney, 2008, "Joint-sequence models for
grapheme-to-phoneme conversion"), kept as look-ups that a network reads instead of learning them
by heart. While it trains, a word's own counts are left out, as in the estimation of discounts by
leaving one out (Ney, Essen and Kneser, 1995): so the network learns how far the evidence of
*other* words can be trusted, which is all that there is for a word that it has never seen.

The table is a hash table of buckets of a few slots, so that reading it takes the same few
vector operations for any number of letters. Training needs its counts; prediction reads what
they say, in far fewer bytes: the :class:`~grapheme_to_phoneme.training.evidence.Evidence`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from grapheme_to_phoneme.training.alignment import AlignedEntry
from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets
from grapheme_to_phoneme.training.evidence import (
    HASH_MODULUS,
    READ_CHUNKS,
    SHARE_STEPS,
    Evidence,
    FixedTensors,
    Window,
    is_inside,
    levels_of,
    shares_of,
)

#: Multipliers of the hash: a polynomial over ids in 64-bit integers.
HASH_BASE = 1_000_003
HASH_LETTER_FACTOR = 7_919
HASH_FINAL_FACTOR = 48_271

#: Words whose codes are computed together; bounds the memory.
WORDS_AT_ONCE = 4096

#: Slots of a bucket.
WAYS = 16

#: Share of the slots that a table is meant to fill; fuller ones lose more to crowded buckets.
LOAD = 0.6

#: In place of the own chunks of words that a table has not seen: there is nothing to leave out.
UNSEEN_ID = -1

#: Chunks counted for a context: one more than are read, since one may be the word's own.
KEPT_CHUNKS = READ_CHUNKS + 1


def context_codes(letters: Tensor, windows: Sequence[Window]) -> Tensor:
    """Return the hashed contexts of every letter.

    Args:
        letters: letter ids, 0 at padding, (batch, letters).
        windows: the contexts' extents.

    Returns:
        Codes from 0 to :data:`HASH_MODULUS` - 1, 64-bit integers, (batch, letters, windows).
    """
    length = letters.shape[1]
    reach = max(max(-first, last) for first, last in windows)
    width = 2 * reach + 1
    factors, beginnings = _polynomials(windows, reach)
    # Beyond a word all is padding, so that its codes do not depend on the batch around it.
    padded = functional.pad(letters, (reach, reach), value=PADDING_ID)
    places = torch.arange(length).unsqueeze(-1) + torch.arange(width)
    around = padded.index_select(1, places.flatten().to(letters.device))
    around = around.view(letters.shape[0], length, width)
    factors, beginnings = factors.to(letters.device), beginnings.to(letters.device)
    if torch.compiler.is_exporting():
        # A quarter of the time, but PyTorch has no product of integer matrices on a GPU.
        sums = around @ factors.T
    else:
        sums = (around.unsqueeze(-2) * factors).sum(dim=-1)
    return (sums + beginnings) % HASH_MODULUS


def _polynomials(windows: Sequence[Window], reach: int) -> tuple[Tensor, Tensor]:
    """Return the hashes of windows as sums, by Horner's rule multiplied out.

    Returns:
        What each neighbour is multiplied by, (windows, 2 * reach + 1), and what tells windows of
        the same letters apart, (windows,).
    """
    # Written to tensors one by one, they would be most of what an export traces.
    factors = np.zeros((len(windows), 2 * reach + 1), dtype=np.int64)
    beginnings = np.zeros(len(windows), dtype=np.int64)
    for i, (first, last) in enumerate(windows):
        power = 1
        for place in range(reach + last, reach + first - 1, -1):
            factors[i, place] = power * HASH_LETTER_FACTOR % HASH_MODULUS
            power = power * HASH_BASE % HASH_MODULUS
        beginnings[i] = (reach + first + 1) * power % HASH_MODULUS
    return torch.from_numpy(factors), torch.from_numpy(beginnings)


def buckets_of(codes: Tensor, buckets: int) -> Tensor:
    """Return the bucket that holds each code, if any does."""
    return codes * HASH_FINAL_FACTOR % HASH_MODULUS % buckets


@dataclass(frozen=True, eq=False)
class MemoryTable(FixedTensors):
    """Counts of chunks by context.

    Attributes:
        codes: the codes of the contexts, -1 in empty slots, int32, (buckets, ways). The
            arrays below are indexed by bucket * ways + way.
        totals: number of words with the context, int32, (slots,).
        chunks: the most frequent chunks of the letter in it, best first, 0 where there are
            fewer, int32, (slots, kept chunks).
        counts: number of those words in which the letter gives each chunk, int32, alike.
        repeats: whether a smaller context of the same letter says always the same chunk as
            this one does, bool, (slots,).
    """

    codes: Tensor
    totals: Tensor
    chunks: Tensor
    counts: Tensor
    repeats: Tensor

    @classmethod
    def empty(cls) -> "MemoryTable":
        """Return the table that knows nothing."""
        return cls(
            torch.full((1, WAYS), -1, dtype=torch.int32),
            torch.zeros(WAYS, dtype=torch.int32),
            torch.zeros(WAYS, KEPT_CHUNKS, dtype=torch.int32),
            torch.zeros(WAYS, KEPT_CHUNKS, dtype=torch.int32),
            torch.zeros(WAYS, dtype=torch.bool),
        )

    @property
    def contexts(self) -> int:
        """Number of contexts that the table holds."""
        return int((self.codes >= 0).sum())

    def look_up_others(self, codes: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look contexts of training words up, without what those words themselves gave.

        Args:
            codes: :func:`context_codes`, (batch, letters, windows).
            own: the chunks that the letters give in all pronunciations of their words,
                (batch, letters, pronunciations); :data:`UNSEEN_ID` for words that the table
                has not seen.

        Returns:
            As :meth:`Evidence.look_up`.
        """
        slots, found = find(codes, self.codes)
        chunks = self.chunks[slots]  # (batch, letters, windows, kept chunks)
        counts = self.counts[slots] * found.unsqueeze(-1)
        totals = self.totals[slots] * found
        is_own = (chunks.unsqueeze(-1) == own[:, :, None, None]).any(dim=-1)
        counts = (counts - is_own.to(counts.dtype)).clamp(min=0)
        is_seen = (own != UNSEEN_ID).any(dim=-1, keepdim=True)
        totals = (totals - is_seen.to(totals.dtype)).clamp(min=0)
        counts, order = counts.sort(dim=-1, descending=True, stable=True)
        chunks = chunks.gather(-1, order)[..., :READ_CHUNKS]
        shares = shares_of(counts, totals) / SHARE_STEPS
        return chunks.long().mT.flatten(2), shares.mT.flatten(2), levels_of(totals)

    def evidence(self, windows: Sequence[Window]) -> Evidence:
        """Return what all the words say, for words that are not among them.

        Args:
            windows: the contexts' extents.
        """
        codes, slots = self.codes.flatten().sort(stable=True)
        is_first = torch.ones_like(codes, dtype=torch.bool)
        # Of contexts with the same code, look-ups here and there find the first.
        is_first[1:] = codes[1:] != codes[:-1]
        kept = slots[is_first & (codes >= 0)]
        return Evidence.build(
            windows,
            self.codes.flatten()[kept].long(),
            self.chunks[kept, :READ_CHUNKS],
            shares_of(self.counts[kept], self.totals[kept]),
            levels_of(self.totals[kept]),
            self.repeats[kept],
        )


def find(codes: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Look contexts up in the codes of a table, (buckets, ways).

    Returns:
        The slot of each code, and whether the table holds it, both in the shape of
        ``codes``. The slot of what it does not hold is meaningless, but exists.
    """
    bucket = buckets_of(codes, len(table))
    matches = table[bucket] == codes.to(torch.int32).unsqueeze(-1)
    way = matches.to(torch.int32).argmax(dim=-1)
    return bucket * table.shape[1] + way, matches.any(dim=-1)


def siblings_of(entries: Sequence[AlignedEntry]) -> NDArray[np.int64]:
    """Return, for every entry, the entries of the same spelling, (entries, most of any spelling).

    The first of them is repeated where there are fewer.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        groups[entry.spelling].append(index)
    most = max(map(len, groups.values()), default=1)
    siblings = np.empty((len(entries), most), dtype=np.int64)
    for indices in groups.values():
        siblings[indices] = indices + indices[:1] * (most - len(indices))
    return siblings


def remember(
    entries: Sequence[AlignedEntry],
    alphabets: Alphabets,
    windows: Sequence[Window],
    most_slots: int,
) -> MemoryTable:
    """Count what the letters of a lexicon become in their contexts.

    A word counts once for each chunk that any of its pronunciations gives a letter.

    Args:
        entries: the aligned training entries.
        alphabets: the ids of letters and chunks.
        windows: the contexts' extents.
        most_slots: contexts that the table can hold at most. In a crowded bucket the
            contexts of the most words stay.
    """
    if not windows:
        return MemoryTable.empty()
    codes, places, chunks = _places(entries, alphabets, windows)
    parts: list[tuple[NDArray[np.int64], ...]] = []
    always = np.zeros(codes.shape, dtype=bool)
    # From small to large, so that what a window lies around is counted before it.
    order = sorted(range(len(windows)), key=lambda number: windows[number][1] - windows[number][0])
    for number in order:
        contexts, rows, row_of = np.unique(
            codes[:, number], return_index=True, return_inverse=True
        )
        counted = _count(contexts, codes[places, number], chunks, np.bincount(row_of))
        inner = [is_inside(window, windows[number]) for window in windows]
        repeats = always[rows][:, inner].any(axis=1)
        totals, _, counts = counted
        is_single = (counts[:, 0] == totals) & (counts[:, 1] == 0)
        always[:, number] = is_single[row_of]
        parts.append((contexts, *counted, repeats & is_single))
    return _table([np.concatenate(arrays) for arrays in zip(*parts, strict=True)], most_slots)


def _places(
    entries: Sequence[AlignedEntry], alphabets: Alphabets, windows: Sequence[Window]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """List every letter of every distinct spelling, and the chunks it gives.

    Returns:
        The contexts' codes, (letters in all, windows); and, for each distinct pair of a
        letter and a chunk that it gives, the letter's row there and the chunk, (pairs,).
    """
    spellings: dict[str, list[AlignedEntry]] = defaultdict(list)
    for entry in entries:
        spellings[entry.spelling].append(entry)
    by_length: dict[int, list[str]] = defaultdict(list)
    for spelling in spellings:
        by_length[len(spelling)].append(spelling)
    codes, places, chunks = [], [], []
    rows = 0
    for length, group in by_length.items():
        letters = torch.tensor([alphabets.encode(spelling) for spelling in group])
        codes.extend(
            context_codes(part, windows).flatten(end_dim=1).numpy()
            for part in letters.split(WORDS_AT_ONCE)
        )
        for spelling in group:
            given = {
                (i, alphabets.chunk_ids[chunk])
                for entry in spellings[spelling]
                for i, chunk in enumerate(entry.chunks)
            }
            for i, chunk in sorted(given):
                places.append(rows + i)
                chunks.append(chunk)
            rows += length
    return np.concatenate(codes), np.array(places), np.array(chunks)


def _count(
    contexts: NDArray[np.int64],
    context_of_place: NDArray[np.int64],
    chunks: NDArray[np.int64],
    totals: NDArray[np.int64],
) -> tuple[NDArray[np.int64], ...]:
    """Count one window's contexts: their totals again, best chunks and counts."""
    factor = int(chunks.max()) + 1
    pairs, counts = np.unique(context_of_place * factor + chunks, return_counts=True)
    context_of_pair, chunk_of_pair = np.divmod(pairs, factor)
    # Best first within each context; ties by chunk id, which are ordered by frequency.
    order = np.lexsort((chunk_of_pair, -counts, context_of_pair))
    starts = np.searchsorted(context_of_pair, contexts)
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    kept_chunks = np.zeros((len(contexts), KEPT_CHUNKS), dtype=np.int64)
    kept_counts = np.zeros_like(kept_chunks)
    rows = np.searchsorted(contexts, context_of_pair)
    inside = ranks < KEPT_CHUNKS
    kept_chunks[rows[inside], ranks[inside]] = chunk_of_pair[order][inside]
    kept_counts[rows[inside], ranks[inside]] = counts[order][inside]
    return totals, kept_chunks, kept_counts


def _table(counted: Sequence[NDArray[np.int64]], most_slots: int) -> MemoryTable:
    codes, totals, chunks, counts, repeats = counted
    buckets = max(1, min(ceil(len(codes) / LOAD / WAYS), most_slots // WAYS))
    bucket = buckets_of(torch.from_numpy(codes), buckets).numpy()
    order = np.lexsort((codes, -totals, bucket))
    starts = np.searchsorted(bucket[order], np.arange(buckets))
    ranks = np.arange(len(order)) - starts[bucket[order]]
    kept = order[ranks < WAYS]
    slot = bucket[kept] * WAYS + ranks[ranks < WAYS]

    def spread(values: NDArray[np.int64], fill: int) -> Tensor:
        kind = bool if values.dtype == bool else np.int32
        array = np.full((buckets * WAYS, *values.shape[1:]), fill, dtype=kind)
        array[slot] = values[kept]
        return torch.from_numpy(array)

    return MemoryTable(
        spread(codes, -1).reshape(buckets, WAYS),
        spread(totals, 0),
        spread(chunks, START_ID),
        spread(counts, 0),
        spread(repeats, False),
    )
