"""What a lexicon's contexts say, in a few bytes each: what prediction reads of a memory.

Most contexts of a letter have a smaller one around the same letter that says already what the
letter becomes, always and in all words. Of these it is enough to know that they exist: so the
evidence is kept in two maps, a large one of a byte a cell for them, and a small one for all the
others. The maps keep no keys. A key's value is the sum of three cells that its hashes name
(Majewski et al., 1996, "A family of perfect hashing methods"; with keys that may be absent, a
Bloomier filter: Chazelle et al., 2004), so every look-up is the same few vector operations, in
PyTorch and in ONNX alike. An absent key is taken for a present one now and then; but a context
cannot exist without every smaller one in it, which catches nearly all of these errors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import ceil
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

#: First and last letter of a context, relative to the letter that it surrounds.
Window = tuple[int, int]

#: Modulus of all hashes, a prime: products of two codes fit 64-bit integers.
HASH_MODULUS = 2_147_483_647

#: Chunks that the network reads of a context.
READ_CHUNKS = 2

#: Classes of contexts by the number of their words: none, 1, 2 to 3, 4 to 7 and so on.
LEVELS = 11

#: The shares of the chunks are rounded to this many parts.
SHARE_STEPS = 31

#: Highest level of the contexts that a byte is enough for; few are above it.
NESTED_LEVELS = 4

#: Cells that a map's keys share the sums of.
CELLS_PER_KEY = 3

#: Cells for each key: below 1.222 there is no solution, and near it seldom.
ROOM = 1.24

#: Cells more than that, so that a map of few keys has a solution, too.
LEAST_ROOM = 24

#: Sums of cells are taken modulo these, for cells of a byte and of four.
BYTE_MODULUS = 2**8
WORD_MODULUS = 2**31


@dataclass(frozen=True, eq=False)
class FixedTensors:
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
class Evidence(FixedTensors):
    """What is known of contexts, by their codes.

    Attributes:
        multipliers: those of the hashes, 64-bit integers, (cells per key + 1,); the last is
            for the check that tells present keys from absent ones.
        statements: cells of the map from a context to its row in ``facts``, int32, (cells,).
        facts: what the contexts say, distinct, of the smallest kind of integer that holds it:
            the most frequent chunks, best first; the shares of the context's words that give
            them, in parts of :data:`SHARE_STEPS`; and the class of the number of words, (rows,
            2 * read chunks + 1).
        repetitions: cells of the map from a context that says what a smaller one says to its
            level, less one, uint8, (cells,).
        is_inside: 1 where the window of the column lies inside the window of the row, float32,
            (windows, windows).
    """

    multipliers: Tensor
    statements: Tensor
    facts: Tensor
    repetitions: Tensor
    is_inside: Tensor

    @classmethod
    def build(
        cls,
        windows: Sequence[Window],
        codes: Tensor,
        chunks: Tensor,
        shares: Tensor,
        levels: Tensor,
        repeats: Tensor,
    ) -> "Evidence":
        """Lay contexts out.

        Args:
            windows: the extents of all contexts, in the order of the codes' last dimension in
                :meth:`look_up`.
            codes: the contexts' codes, distinct, (contexts,).
            chunks: their chunks, best first, (contexts, read chunks).
            shares: the chunks' shares, in parts of :data:`SHARE_STEPS`, alike.
            levels: classes of the numbers of words, at least 1, (contexts,).
            repeats: whether a smaller context of the same letter gives the same chunk in all of
                its words, (contexts,).
        """
        repeats = repeats & (levels <= NESTED_LEVELS)
        statements = torch.cat((chunks * (shares > 0), shares, levels.unsqueeze(-1)), dim=-1)
        rows, row_of = _distinct_rows(statements[~repeats].long().numpy())
        kinds = (torch.uint8, torch.int16, torch.int32)
        smallest = next(kind for kind in kinds if rows.max() <= torch.iinfo(kind).max)
        nested_levels = levels[repeats].long() - 1
        multipliers, stated, repeated = _solve(
            (codes[~repeats].numpy(), row_of, len(rows), WORD_MODULUS),
            (codes[repeats].numpy(), nested_levels.numpy(), NESTED_LEVELS, BYTE_MODULUS),
        )
        return cls(
            torch.from_numpy(multipliers),
            torch.from_numpy(stated.astype(np.int32)),
            torch.from_numpy(rows).to(smallest),
            torch.from_numpy(repeated.astype(np.uint8)),
            torch.tensor([[is_inside(inner, outer) for inner in windows] for outer in windows])
            .float()
            .view(len(windows), len(windows)),
        )

    def look_up(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look contexts up.

        Args:
            codes: the codes of a letter's contexts in all windows, (batch, letters, windows).

        Returns:
            The chunks, 64-bit integers, and their shares of the words, 0 to 1, both (batch,
            letters, read chunks * windows), the best chunks of all windows before the second
            ones; and the levels of the words' number, 64-bit integers, (batch, letters,
            windows). Of unknown contexts, shares and level are 0.
        """
        # What there are few of comes first, in all of this: short rows are slow to work on.
        hashes = codes * self.multipliers.view(-1, 1, 1, 1) % HASH_MODULUS
        row, is_stated = _find(hashes, self.statements, len(self.facts), WORD_MODULUS)
        repeated, is_repeated = _find(hashes, self.repetitions, NESTED_LEVELS, BYTE_MODULUS)
        said = functional.embedding(row, self.facts).to(self.is_inside.dtype)
        best, second, share, other_share, level = said.permute(3, 0, 1, 2).split(1)
        # What smaller contexts say always: all of them agree, for they have words in common.
        single = torch.where(is_stated & (share == SHARE_STEPS), best, 0.0)
        inherited = (single.unsqueeze(-2) * self.is_inside).amax(dim=-1)
        is_repeated = is_repeated & ~is_stated & (inherited > 0)
        is_found = is_stated | is_repeated
        missing_inside = (~is_found).to(self.is_inside.dtype) @ self.is_inside.T
        is_found = is_found & (missing_inside == 0)
        known = is_found.to(said.dtype)
        best = torch.where(is_repeated, inherited, best)
        share = torch.where(is_repeated, SHARE_STEPS, share)
        other_share = torch.where(is_repeated, 0.0, other_share)
        level = torch.where(is_repeated, (repeated + 1).to(said.dtype), level) * known
        chunks = torch.cat((best, second), dim=-1)
        shares = torch.cat((share, other_share), dim=-1) / SHARE_STEPS
        shares = shares * torch.cat((known, known), dim=-1)
        return chunks.squeeze(0).long(), shares.squeeze(0), level.squeeze(0).long()


def is_inside(inner: Window, outer: Window) -> bool:
    """Tell whether a window is a part of another."""
    return inner != outer and outer[0] <= inner[0] and inner[1] <= outer[1]


def shares_of(counts: Tensor, totals: Tensor) -> Tensor:
    """Return the shares of the best chunks, in parts of :data:`SHARE_STEPS`, rounded."""
    shares = counts[..., :READ_CHUNKS] / totals.clamp(min=1).unsqueeze(-1)
    return torch.round(shares * SHARE_STEPS)


def levels_of(totals: Tensor) -> Tensor:
    """Return the classes of numbers of words: 0, 1, 2 to 3, 4 to 7, up to a last one."""
    bounds = 2 ** torch.arange(LEVELS - 1, device=totals.device)
    return torch.bucketize(totals, bounds, right=True)


def _distinct_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct rows, one of zeros where there are none, and the place of each row."""
    if not len(rows):
        return np.zeros((1, rows.shape[1]), dtype=np.int64), np.empty(0, dtype=np.int64)
    # As one number each they are sorted ten times as fast.
    sizes = tuple(rows.max(axis=0) + 1)
    numbers, row_of = np.unique(np.ravel_multi_index(tuple(rows.T), sizes), return_inverse=True)
    return np.stack(np.unravel_index(numbers, sizes), axis=-1), row_of


def _find(hashes: Tensor, cells: Tensor, values: int, modulus: int) -> tuple[Tensor, Tensor]:
    """Look keys up in a map.

    Args:
        hashes: the keys' hashes, (cells per key + 1, ...).
        cells: the map.
        values: how many values there are.
        modulus: the modulus of the sums of cells.

    Returns:
        The keys' values, any of those that there are for absent keys, and whether the keys are
        present, both (...).
    """
    part = len(cells) // CELLS_PER_KEY
    starts = part * torch.arange(CELLS_PER_KEY, device=hashes.device).view(-1, 1, 1, 1)
    places = hashes[:CELLS_PER_KEY] % part + starts
    sums = _take(cells, places).long().sum(dim=0) % modulus
    value = sums - _check(hashes[CELLS_PER_KEY]) % (modulus // values) * values
    possible = value.clamp(0, values - 1)
    return possible, possible == value


def _take(values: Tensor, places: Tensor) -> Tensor:
    """Return the values, (values,), at some places, in the shape of ``places``.

    Indexing does the same; this becomes another operator of ONNX, several times as fast.
    """
    return values.gather(0, places.flatten()).view(places.shape)


def _check(last: Tensor | NDArray[np.int64]) -> Tensor | NDArray[np.int64]:
    """Return what tells present keys from absent ones, from their last hash.

    Squared: codes are polynomials of letters, so that some are sums of others, and so would the
    sums of cells be with a hash that keeps sums.
    """
    # TensorRT has no power of integers.
    return last * last % HASH_MODULUS


def _solve(
    *maps: tuple[NDArray[np.int64], NDArray[np.int64], int, int],
) -> tuple[NDArray[np.int64], ...]:
    """Choose multipliers and cells for maps, each given by keys, values, their number, modulus.

    A draw of the multipliers fails with small probability, and is then repeated.
    """
    seed = 0
    while True:
        generator = np.random.default_rng(seed)
        multipliers = generator.integers(1, HASH_MODULUS, CELLS_PER_KEY + 1)
        solutions = [_solve_map(multipliers, *parts) for parts in maps]
        if all(cells is not None for cells in solutions):
            return multipliers, *solutions
        seed += 1


def _solve_map(
    multipliers: NDArray[np.int64],
    keys: NDArray[np.int64],
    values: NDArray[np.int64],
    distinct: int,
    modulus: int,
) -> NDArray[np.int64] | None:
    """Fill the cells of a map, or return None where these multipliers have no solution.

    A cell that one key alone uses can be set at the end to give that key any value: the key is
    put aside, which frees other cells, and so on until none is left.
    """
    part = ceil((ROOM * len(keys) + LEAST_ROOM) / CELLS_PER_KEY)
    hashes = keys[:, None] * multipliers % HASH_MODULUS
    places = hashes[:, :CELLS_PER_KEY] % part + part * np.arange(CELLS_PER_KEY)
    sums = (_check(hashes[:, CELLS_PER_KEY]) % (modulus // distinct) * distinct + values) % modulus
    users = np.bincount(places.ravel(), minlength=CELLS_PER_KEY * part)
    # The sum of the keys that use a cell is the key itself where there is one.
    user = np.zeros(CELLS_PER_KEY * part, dtype=np.int64)
    np.add.at(user, places.ravel(), np.repeat(np.arange(len(keys)), CELLS_PER_KEY))
    rounds = []
    candidates = np.flatnonzero(users == 1)
    left = len(keys)
    while len(candidates):
        settled, first = np.unique(user[candidates], return_index=True)
        rounds.append((settled, candidates[first]))
        left -= len(settled)
        freed = places[settled].ravel()
        np.subtract.at(users, freed, 1)
        np.subtract.at(user, freed, np.repeat(settled, CELLS_PER_KEY))
        candidates = freed[users[freed] == 1]
    if left:
        return None
    cells = np.zeros(CELLS_PER_KEY * part, dtype=np.int64)
    for settled, own in reversed(rounds):
        cells[own] = (sums[settled] - cells[places[settled]].sum(axis=1)) % modulus
    return cells
