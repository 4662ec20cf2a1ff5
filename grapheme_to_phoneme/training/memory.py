"""A memory of the lexicon: what each letter became wherever the same letters stood around it.

These are the counts of a pair n-gram model (Bisani and Ney, 2008, "Joint-sequence models for
grapheme-to-phoneme conversion"), kept as look-ups that a network reads instead of learning them
by heart. While it trains, a word's own counts are left out, as in the estimation of discounts by
leaving one out (Ney, Essen and Kneser, 1995): so the network learns how far the evidence of
*other* words can be trusted, which is all that there is for a word that it has never seen.

The table is a hash table of buckets of a few slots, so that reading it takes the same few
vector operations for any number of letters, in PyTorch and in ONNX alike. Training needs its
counts; prediction needs a few bytes a context of what they say: the :class:`Evidence`.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import ceil
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from grapheme_to_phoneme.training.alignment import AlignedEntry
from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets

#: First and last letter of a context, relative to the letter that it surrounds.
Window = tuple[int, int]

#: Multipliers and modulus of the hash: a polynomial over ids in 64-bit integers.
HASH_BASE = 1_000_003
HASH_LETTER_FACTOR = 7_919
HASH_FINAL_FACTOR = 48_271
HASH_MODULUS = 2_147_483_647

#: Slots of a bucket.
WAYS = 16

#: Share of the slots that a table is meant to fill; fuller ones lose more to crowded buckets.
LOAD = 0.8

#: Chunks that the network reads of a context.
READ_CHUNKS = 2

#: Chunks counted for a context: one more than are read, since one may be the word's own.
KEPT_CHUNKS = READ_CHUNKS + 1

#: Classes of contexts by the number of their words: none, 1, 2 to 3, 4 to 7 and so on.
LEVELS = 11

#: The shares of the chunks are rounded to this many parts, so that a byte holds them.
SHARE_STEPS = 255


def context_codes(letters: Tensor, windows: Sequence[Window]) -> Tensor:
    """Return the hashed contexts of every letter.

    Args:
        letters: letter ids, 0 at padding, (batch, letters).
        windows: the contexts' extents; a place in the list is part of the code.

    Returns:
        Codes from 0 to :data:`HASH_MODULUS` - 1, 64-bit integers, (batch, letters, windows).
    """
    length = letters.shape[1]
    reach = max(max(-first, last) for first, last in windows)
    # Beyond a word all is padding, so that its codes do not depend on the batch around it.
    padded = functional.pad(letters, (reach, reach), value=PADDING_ID)
    codes = []
    for number, (first, last) in enumerate(windows, start=1):
        code = torch.full_like(letters, number)
        for offset in range(first, last + 1):
            start = reach + offset
            neighbour = padded[:, start : start + length]
            code = (code * HASH_BASE + neighbour * HASH_LETTER_FACTOR) % HASH_MODULUS
        codes.append(code)
    return torch.stack(codes, dim=-1)


def buckets_of(codes: Tensor, buckets: int) -> Tensor:
    """Return the bucket that holds each code, if any does."""
    return codes * HASH_FINAL_FACTOR % HASH_MODULUS % buckets


@dataclass(frozen=True, eq=False)
class _Tensors:
    """Tensors that nothing changes."""

    def __deepcopy__(self, memo: dict) -> Self:
        """Return the object itself: a copy would be as large, and no different."""
        return self

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return an object of the same kind with every tensor passed through ``function``."""
        return type(self)(**{name: function(value) for name, value in self.to_dict().items()})

    def to_dict(self) -> dict[str, Tensor]:
        """Return plain tensors, fit for a checkpoint that loads without arbitrary code."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, eq=False)
class MemoryTable(_Tensors):
    """Counts of chunks by context.

    Attributes:
        codes: the codes of the contexts, -1 in empty slots, int32, (buckets, ways). The
            arrays below are indexed by bucket * ways + way.
        totals: number of words with the context, int32, (slots,).
        chunks: the most frequent chunks of the letter in it, best first, 0 where there are
            fewer, int32, (slots, kept chunks).
        counts: number of those words in which the letter gives each chunk, int32, alike.
    """

    codes: Tensor
    totals: Tensor
    chunks: Tensor
    counts: Tensor

    @classmethod
    def empty(cls) -> "MemoryTable":
        """Return the table that knows nothing."""
        return cls(
            torch.full((1, WAYS), -1, dtype=torch.int32),
            torch.zeros(WAYS, dtype=torch.int32),
            torch.zeros(WAYS, KEPT_CHUNKS, dtype=torch.int32),
            torch.zeros(WAYS, KEPT_CHUNKS, dtype=torch.int32),
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
                (batch, letters, pronunciations).

        Returns:
            As :meth:`Evidence.look_up`.
        """
        slots, found = find(codes, self.codes)
        chunks = self.chunks[slots]  # (batch, letters, windows, kept chunks)
        counts = self.counts[slots] * found.unsqueeze(-1)
        totals = self.totals[slots] * found
        is_own = (chunks.unsqueeze(-1) == own[:, :, None, None]).any(dim=-1)
        counts = (counts - is_own.to(counts.dtype)).clamp(min=0)
        totals = (totals - 1).clamp(min=0)
        counts, order = counts.sort(dim=-1, descending=True, stable=True)
        chunks = chunks.gather(-1, order)[..., :READ_CHUNKS]
        return chunks.long(), shares_of(counts, totals) / SHARE_STEPS, levels_of(totals)

    def evidence(self) -> "Evidence":
        """Return what all the words say, for words that are not among them."""
        chunks = self.chunks[:, :READ_CHUNKS]
        kinds = (torch.uint8, torch.int16, torch.int32)
        smallest = next(kind for kind in kinds if int(chunks.max()) <= torch.iinfo(kind).max)
        return Evidence(
            self.codes,
            chunks.to(smallest),
            shares_of(self.counts, self.totals).to(torch.uint8),
            levels_of(self.totals).to(torch.uint8),
        )


@dataclass(frozen=True, eq=False)
class Evidence(_Tensors):
    """What a :class:`MemoryTable` says, in as few bytes as hold it; the slots are the same.

    Attributes:
        codes: those of the table, (buckets, ways).
        chunks: the most frequent chunks, best first, (slots, read chunks).
        shares: the shares of the context's words that give them, in parts of
            :data:`SHARE_STEPS`, (slots, read chunks).
        levels: the class of the number of words, (slots,); 0 in empty slots alone.
    """

    codes: Tensor
    chunks: Tensor
    shares: Tensor
    levels: Tensor

    def look_up(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look contexts up.

        Args:
            codes: :func:`context_codes`, (batch, letters, windows).

        Returns:
            The chunks, 64-bit integers, and their shares of the words, 0 to 1, both (batch,
            letters, windows, read chunks); and the levels of the words' number, 64-bit
            integers, (batch, letters, windows). Of unknown contexts, shares and level are 0.
        """
        slots, found = find(codes, self.codes)
        shares = self.shares[slots].float() / SHARE_STEPS * found.unsqueeze(-1)
        return self.chunks[slots].long(), shares, self.levels[slots].long() * found


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


def shares_of(counts: Tensor, totals: Tensor) -> Tensor:
    """Return the shares of the best chunks, in parts of :data:`SHARE_STEPS`, rounded."""
    shares = counts[..., :READ_CHUNKS] / totals.clamp(min=1).unsqueeze(-1)
    return torch.round(shares * SHARE_STEPS)


def levels_of(totals: Tensor) -> Tensor:
    """Return the classes of numbers of words: 0, 1, 2 to 3, 4 to 7, up to a last one."""
    bounds = 2 ** torch.arange(LEVELS - 1, device=totals.device)
    return torch.bucketize(totals, bounds, right=True)


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
    parts = [_count(codes[:, number], places, chunks) for number in range(len(windows))]
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
        codes.append(context_codes(letters, windows).flatten(end_dim=1).numpy())
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
    codes: NDArray[np.int64], places: NDArray[np.int64], chunks: NDArray[np.int64]
) -> tuple[NDArray[np.int64], ...]:
    """Count one window's contexts: their codes, totals, best chunks and counts."""
    contexts, totals = np.unique(codes, return_counts=True)
    factor = int(chunks.max()) + 1
    pairs, counts = np.unique(codes[places] * factor + chunks, return_counts=True)
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
    return contexts, totals, kept_chunks, kept_counts


def _table(counted: Sequence[NDArray[np.int64]], most_slots: int) -> MemoryTable:
    codes, totals, chunks, counts = counted
    buckets = max(1, min(ceil(len(codes) / LOAD / WAYS), most_slots // WAYS))
    bucket = buckets_of(torch.from_numpy(codes), buckets).numpy()
    order = np.lexsort((codes, -totals, bucket))
    starts = np.searchsorted(bucket[order], np.arange(buckets))
    ranks = np.arange(len(order)) - starts[bucket[order]]
    kept = order[ranks < WAYS]
    slot = bucket[kept] * WAYS + ranks[ranks < WAYS]

    def spread(values: NDArray[np.int64], fill: int) -> Tensor:
        array = np.full((buckets * WAYS, *values.shape[1:]), fill, dtype=np.int32)
        array[slot] = values[kept]
        return torch.from_numpy(array)

    return MemoryTable(
        spread(codes, -1).reshape(buckets, WAYS),
        spread(totals, 0),
        spread(chunks, START_ID),
        spread(counts, 0),
    )
