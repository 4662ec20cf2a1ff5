"""Many-to-many alignment of letters with phones by expectation maximisation.

Every letter of a spelling is given a chunk of zero or more consecutive phones, so that the
chunks in order spell the pronunciation. The model is one multinomial over chunks per letter,
as in Jiampojamarn, Kondrak and Sherif (2007), "Applying Many-to-Many Alignments and Hidden
Markov Models to Letter-to-Phoneme Conversion", with the letter side fixed at one letter: each
alignment of a word then has the same number of factors, and long chunks gain no advantage.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.entries import Entry

LOGGER = logging.getLogger(__name__)

Chunk = tuple[str, ...]

#: Up to so many possible arcs a table over all of them finds an arc; beyond, a binary search.
DENSE_TABLE_LIMIT = 2**24

#: Added to every expected count, so that an arc not seen in the sample stays possible.
COUNT_FLOOR = 1e-6


@dataclass(frozen=True)
class AlignedEntry:
    """An entry with the chunk of phones that each of its letters gives.

    Attributes:
        spelling: the normalised spelling.
        chunks: one chunk per letter of ``spelling``; their concatenation is the
            pronunciation.
    """

    spelling: str
    chunks: tuple[Chunk, ...]


def choose_max_phones_per_letter(
    entries: Sequence[Entry], smallest: int, largest: int, tolerated_loss: float
) -> int:
    """Return the shortest chunk length that leaves few entries without an alignment.

    Args:
        entries: the training entries.
        smallest: the least length to return.
        largest: the greatest length to return.
        tolerated_loss: share of the entries (0 to 1) that may stay unaligned.
    """
    needed = [-(-len(entry.phones) // max(1, len(entry.spelling))) for entry in entries]
    for length in range(smallest, largest):
        lost = sum(count > length for count in needed)
        if lost <= tolerated_loss * len(entries):
            return length
    return largest


def without_rare_chunks(
    entries: Sequence[AlignedEntry], tolerated_loss: float
) -> tuple[list[AlignedEntry], list[AlignedEntry]]:
    """Leave out the entries with the rarest chunks, mostly abbreviations and errors.

    A third of the chunks of a large lexicon have been seen once, in a word that tells nothing of
    others; but every one costs time at every letter.

    Args:
        entries: aligned entries.
        tolerated_loss: share of the entries (0 to 1) that may be left out.

    Returns:
        The entries that stay, and those that do not, in their order.
    """
    users: dict[Chunk, set[int]] = defaultdict(set)
    for index, entry in enumerate(entries):
        for chunk in entry.chunks:
            users[chunk].add(index)
    lost: set[int] = set()
    # Ties are ordered by content, so that the choice does not depend on the order of entries.
    for _, chunk in sorted((len(indices), chunk) for chunk, indices in users.items()):
        lost_with_it = lost | users[chunk]
        if len(lost_with_it) > tolerated_loss * len(entries):
            break
        lost = lost_with_it
    stay = [entry for index, entry in enumerate(entries) if index not in lost]
    return stay, [entries[index] for index in sorted(lost)]


class Aligner:
    """Aligns letters with chunks of phones, by probabilities learnt from entries.

    Args:
        entries: the training entries.
        max_phones_per_letter: the longest chunk.
        iterations: rounds of expectation maximisation.
        sample_size: how many of the entries the estimate uses.
        extra_phone_prior: factor on the probability of a chunk for every phone after its
            first, in every round. Below 1 it keeps a letter from taking its neighbour's phone
            and leaving that letter silent, which is as likely where both are consistent.
        seed: seeds the choice of the sample.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        max_phones_per_letter: int,
        iterations: int,
        sample_size: int,
        extra_phone_prior: float,
        seed: int,
    ) -> None:
        self._coding = _ChunkCoding(entries, max_phones_per_letter)
        chosen = np.random.default_rng(seed).permutation(len(entries))[:sample_size]
        sample = [entries[index] for index in sorted(chosen.tolist())]
        groups = list(_lattice_groups(sample, self._coding))
        self._arcs = _Arcs(groups, self._coding)
        positions = [self._arcs.positions_of(group) for group in groups]
        preference = extra_phone_prior ** np.maximum(0.0, self._arcs.sizes - 1.0)
        # A flat start, but for the preference.
        self._probabilities = self._arcs.normalize(preference)
        for iteration in range(iterations):
            counts = np.full(len(self._arcs.keys), COUNT_FLOOR)
            log_likelihood = sum(
                _accumulate(group, arcs, self._probabilities, counts)
                for group, arcs in zip(groups, positions, strict=True)
            )
            self._probabilities = self._arcs.normalize(counts * preference)
            LOGGER.debug("alignment round %d: log likelihood %.0f", iteration + 1, log_likelihood)

    def align(self, entries: Sequence[Entry]) -> list[AlignedEntry | None]:
        """Return the most probable alignment of every entry.

        None stands for an entry that has none: it has more phones than its letters can
        take, no letter or phone at all, or one that the training entries did not have.
        """
        aligned: list[AlignedEntry | None] = [None] * len(entries)
        for group in _lattice_groups(entries, self._coding):
            sizes = _viterbi(group, self._arcs.positions_of(group), self._probabilities)
            for row, index in enumerate(group.indices):
                entry = entries[index]
                aligned[index] = AlignedEntry(entry.spelling, _cut(entry.phones, sizes[row]))
        return aligned


def _cut(phones: Sequence[str], sizes: NDArray[np.int64]) -> tuple[Chunk, ...]:
    ends = np.cumsum(sizes).tolist()
    starts = [0, *ends[:-1]]
    return tuple(tuple(phones[start:end]) for start, end in zip(starts, ends, strict=True))


def tagged(entry: AlignedEntry, tag: str) -> AlignedEntry:
    """Put the tag of its language, a letter that gives nothing, in front of an entry."""
    if not tag:
        return entry
    return AlignedEntry(tag + entry.spelling, ((), *entry.chunks))


@dataclass(frozen=True)
class _Group:
    """Entries of one spelling length and one pronunciation length.

    Attributes:
        indices: positions in the list of all entries.
        chunk_keys: for every chunk size the key of each (letter, chunk) arc,
            shape (entries, letters, phones - size + 1).
    """

    indices: list[int]
    letters: int
    phones: int
    chunk_keys: list[NDArray[np.int64]]


class _ChunkCoding:
    """Packs a letter and a chunk of phones into one 64-bit key.

    Raises:
        UserError: if the alphabets are too large for chunks of this length.
    """

    def __init__(self, entries: Sequence[Entry], max_phones_per_letter: int) -> None:
        letters = sorted({letter for entry in entries for letter in entry.spelling})
        phones = sorted({phone for entry in entries for phone in entry.phones})
        self.letter_ids = {letter: index for index, letter in enumerate(letters)}
        self.phone_ids = {phone: index + 1 for index, phone in enumerate(phones)}
        self.max_phones_per_letter = max_phones_per_letter
        self.base = len(phones) + 1
        self.letter_factor = self.base**max_phones_per_letter
        if len(letters) * self.letter_factor >= 2**63:
            raise UserError(
                f"{len(letters)} letters and {len(phones)} phones are too many for up to "
                f"{max_phones_per_letter} phones a letter: lower alignment.max_phones_per_letter"
            )

    def accepts(self, entry: Entry) -> bool:
        """Return whether ``entry`` has an alignment at all."""
        return (
            0 < len(entry.phones) <= len(entry.spelling) * self.max_phones_per_letter
            and all(letter in self.letter_ids for letter in entry.spelling)
            and all(phone in self.phone_ids for phone in entry.phones)
        )

    def chunk_keys(self, entries: Sequence[Entry]) -> list[NDArray[np.int64]]:
        """Return :attr:`_Group.chunk_keys` of entries with equal lengths."""
        spellings = [[self.letter_ids[letter] for letter in entry.spelling] for entry in entries]
        spoken = [[self.phone_ids[phone] for phone in entry.phones] for entry in entries]
        letter_part = np.array(spellings, dtype=np.int64)[:, :, None] * self.letter_factor
        phone_ids = np.array(spoken, dtype=np.int64)
        keys = []
        for size in range(min(self.max_phones_per_letter, phone_ids.shape[1]) + 1):
            starts = phone_ids.shape[1] - size + 1
            code = np.zeros((len(entries), starts), dtype=np.int64)
            for offset in range(size):
                code = code * self.base + phone_ids[:, offset : offset + starts]
            keys.append(letter_part + code[:, None, :])
        return keys


def _lattice_groups(entries: Sequence[Entry], coding: _ChunkCoding) -> Iterator[_Group]:
    """Yield the alignment lattices of entries, grouped so that NumPy can run over them."""
    members = defaultdict(list)
    for index, entry in enumerate(entries):
        if coding.accepts(entry):
            members[len(entry.spelling), len(entry.phones)].append(index)
    for (letters, phones), indices in sorted(members.items()):
        keys = coding.chunk_keys([entries[index] for index in indices])
        yield _Group(indices, letters, phones, keys)


class _Arcs:
    """The distinct (letter, chunk) arcs of some lattices and their place in flat arrays.

    Attributes:
        keys: the arcs' keys, sorted.
        letters: the letter of every arc.
        sizes: the number of phones of every arc.
    """

    def __init__(self, groups: Sequence[_Group], coding: _ChunkCoding) -> None:
        self._table: NDArray[np.int64] | None = None
        possible = len(coding.letter_ids) * coding.letter_factor
        if possible <= DENSE_TABLE_LIMIT:
            self._table = np.full(possible, -1, dtype=np.int64)
            for group in groups:
                for keys in group.chunk_keys:
                    self._table[keys] = 0
            self.keys = np.flatnonzero(self._table == 0)
            self._table[self.keys] = np.arange(len(self.keys))
        else:
            found = [np.unique(keys) for group in groups for keys in group.chunk_keys]
            self.keys = np.unique(np.concatenate(found))
        self.letters = self.keys // coding.letter_factor
        self.sizes = np.zeros(len(self.keys), dtype=np.int64)
        codes = self.keys % coding.letter_factor
        while codes.any():
            self.sizes += codes > 0
            codes //= coding.base

    def positions_of(self, group: _Group) -> list[NDArray[np.int64]]:
        """Return the place in :attr:`keys` of every arc of ``group``, -1 if it has none.

        The shapes are those of the group's ``chunk_keys``.
        """
        if self._table is not None:
            return [self._table[keys] for keys in group.chunk_keys]
        positions = []
        for keys in group.chunk_keys:
            found = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
            positions.append(np.where(self.keys[found] == keys, found, -1))
        return positions

    def normalize(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``weights`` as probabilities of the chunks given their letter."""
        totals = np.bincount(self.letters, weights=weights)
        return weights / totals[self.letters]


def _accumulate(
    group: _Group,
    positions: list[NDArray[np.int64]],
    probabilities: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> float:
    """Add the expected count of every arc to ``counts``; return the log likelihood.

    This is the forward-backward algorithm over all entries of a group at once.
    """
    weights = [probabilities[position] for position in positions]
    entries = len(group.indices)
    forward = np.zeros((group.letters + 1, entries, group.phones + 1))
    forward[0, :, 0] = 1.0
    for i in range(group.letters):
        for size, weight in enumerate(weights):
            stop = group.phones + 1 - size
            forward[i + 1, :, size:] += forward[i, :, :stop] * weight[:, i]
    backward = np.zeros_like(forward)
    backward[-1, :, -1] = 1.0
    for i in reversed(range(group.letters)):
        for size, weight in enumerate(weights):
            stop = group.phones + 1 - size
            backward[i, :, :stop] += backward[i + 1, :, size:] * weight[:, i]
    total = forward[-1, :, -1]
    for size, (position, weight) in enumerate(zip(positions, weights, strict=True)):
        stop = group.phones + 1 - size
        posterior = (
            forward[:-1, :, :stop].transpose(1, 0, 2)
            * weight
            * backward[1:, :, size:].transpose(1, 0, 2)
            / total[:, None, None]
        )
        counts += np.bincount(position.ravel(), posterior.ravel(), minlength=len(counts))
    return float(np.log(total).sum())


def _viterbi(
    group: _Group, positions: list[NDArray[np.int64]], probabilities: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the chunk sizes of the best alignment, shape (entries, letters)."""
    # Arcs that the sample did not hold get a probability below any that it held.
    log_probabilities = np.log(np.append(probabilities, COUNT_FLOOR**2))
    scores = [log_probabilities[position] for position in positions]
    entries = len(group.indices)
    best = np.full((entries, group.phones + 1), -np.inf)
    best[:, 0] = 0.0
    choices = np.zeros((group.letters, entries, group.phones + 1), dtype=np.int64)
    for i in range(group.letters):
        extended = np.full_like(best, -np.inf)
        for size, score in enumerate(scores):
            candidate = best[:, : group.phones + 1 - size] + score[:, i]
            better = candidate > extended[:, size:]
            extended[:, size:][better] = candidate[better]
            choices[i, :, size:][better] = size
        best = extended
    sizes = np.zeros((entries, group.letters), dtype=np.int64)
    reached = np.full(entries, group.phones)
    rows = np.arange(entries)
    for i in reversed(range(group.letters)):
        sizes[:, i] = choices[i, rows, reached]
        reached -= sizes[:, i]
    return sizes
