"""How probable a given pronunciation is under a network, and what the network would have said."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import Tensor

from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.training.alignment import Chunk
from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets
from grapheme_to_phoneme.training.data_module import LengthBatchSampler
from grapheme_to_phoneme.training.network import Network

#: Log probability of a chunk that the network does not know: less than it gives to most that
#: it knows and finds wrong, and bounded, so that one such chunk is not the end of all comparison.
UNKNOWN_CHUNK = -12.0


@dataclass(frozen=True)
class Judgement:
    """What a network that has not learnt from an entry thinks of it.

    Attributes:
        spelling: the entry's spelling.
        given: the chunk of its pronunciation that each letter gives, in the most probable
            alignment that was found.
        proposed: the chunks of the network's own answer; the given ones where it finds none
            that is more probable.
        log_ratio: how much more probable the proposal is, in decades: the common logarithm of
            the ratio of their probabilities, 0 or more.
    """

    spelling: str
    given: tuple[Chunk, ...]
    proposed: tuple[Chunk, ...]
    log_ratio: float

    @property
    def given_phones(self) -> tuple[str, ...]:
        """The pronunciation that the entry has."""
        return sum(self.given, ())

    @property
    def proposed_phones(self) -> tuple[str, ...]:
        """The pronunciation that the network proposes."""
        return sum(self.proposed, ())


@torch.no_grad()
def judge(
    network: Network,
    alphabets: Alphabets,
    entries: Sequence[Entry],
    beam_size: int,
    letters_per_batch: int,
) -> list[Judgement]:
    """Compare the pronunciations of entries with what a network would have said.

    Args:
        network: a network in evaluation mode that has not learnt from the entries.
        alphabets: its alphabets. Letters that are not among them give no phones.
        entries: the entries.
        beam_size: hypotheses that either search keeps.
        letters_per_batch: letters that pass through the network at once.

    Returns:
        A judgement for each entry, in their order.
    """
    judgements: dict[int, Judgement] = {}
    ids = [alphabets.encode(entry.spelling) for entry in entries]
    lengths = np.array([len(row) for row in ids])
    for batch in LengthBatchSampler(lengths, letters_per_batch):
        letters = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(ids[index] or [PADDING_ID]) for index in batch],
            batch_first=True,
            padding_value=PADDING_ID,
        )
        paths, proposed_scores = network.search(letters, beam_size)
        pronunciations = [entries[index].phones for index in batch]
        sizes, given_scores = force(network, alphabets, letters, pronunciations, beam_size)
        for row, index in enumerate(batch):
            entry = entries[index]
            # Without a known letter there is no step of the search that could place the phones.
            chunks = _cut(entry.phones, sizes[row].tolist()) if ids[index] else [entry.phones]
            given = _spread(entry, alphabets, chunks)
            proposed = _spread(
                entry,
                alphabets,
                [alphabets.phones_of([chunk]) for chunk in paths[row, 0].tolist()],
            )
            ratio = float(proposed_scores[row, 0] - given_scores[row]) / log(10)
            if ratio <= 0 or sum(proposed, ()) == entry.phones:
                proposed, ratio = given, 0.0
            judgements[index] = Judgement(entry.spelling, given, proposed, ratio)
    return [judgements[index] for index in range(len(entries))]


@torch.no_grad()
def force(
    network: Network,
    alphabets: Alphabets,
    letters: Tensor,
    pronunciations: Sequence[tuple[str, ...]],
    beam_size: int,
) -> tuple[Tensor, Tensor]:
    """Find the most probable alignment of letters with given phones, by beam search.

    It is the search of :meth:`Network.search` among those chunk sequences that spell the
    pronunciations. A chunk that the network does not know counts :data:`UNKNOWN_CHUNK`, and may
    be as long as is needed to place all phones.

    Args:
        network: the network, in evaluation mode.
        alphabets: its alphabets.
        letters: letter ids, 0 at padding, (batch, letters).
        pronunciations: the phones of every word.
        beam_size: hypotheses kept.

    Returns:
        The number of phones that each letter gives, (batch, letters), and the log
        probabilities of these alignments, (batch,).
    """
    batch, length = letters.shape
    counts = torch.tensor([len(phones) for phones in pronunciations])
    lengths = (letters != PADDING_ID).sum(dim=1)
    needed = int((-(-counts // lengths.clamp(min=1))).max())
    longest = max(needed, max(map(len, alphabets.chunks)))
    known = _chunk_table(alphabets, pronunciations, longest)  # (batch, places, sizes)
    step_sizes = torch.arange(longest + 1)
    gates, hidden = network.decoder.prepare(network.encoder(letters))
    table = network.decoder.history_table()
    state = gates.new_zeros(batch, beam_size, network.decoder.state_size)
    previous = letters.new_full((batch, beam_size), START_ID)
    scores = gates.new_full((batch, beam_size), float("-inf"))
    scores[:, 0] = 0.0
    placed = letters.new_zeros(batch, beam_size)
    path = letters.new_zeros(batch, beam_size, 0)
    rows = torch.arange(batch).unsqueeze(-1)
    unmoved = torch.arange(beam_size)
    for i in range(length):
        log_probabilities, advanced = network.decoder.step(
            table, gates[i], hidden[i], previous, state
        )
        chunks = known[rows, placed]  # (batch, beam, sizes)
        chosen = log_probabilities.gather(-1, (chunks - START_ID - 1).clamp(min=0))
        said = torch.where(chunks == START_ID, UNKNOWN_CHUNK, chosen)
        after = placed.unsqueeze(-1) + step_sizes
        left = counts.view(-1, 1, 1) - after
        letters_left = (lengths - i - 1).clamp(min=0).view(-1, 1, 1)
        is_possible = (left >= 0) & (left <= letters_left * longest)
        totals = (scores.unsqueeze(-1) + said).masked_fill(~is_possible, float("-inf"))
        best, found = totals.flatten(start_dim=1).topk(beam_size, dim=-1)
        inside = (letters[:, i] != PADDING_ID).unsqueeze(-1)
        source = torch.where(inside, found // len(step_sizes), unmoved)
        size = torch.where(inside, found % len(step_sizes), 0)
        previous = torch.where(inside, chunks.flatten(start_dim=1).gather(1, found), START_ID)
        scores = torch.where(inside, best, scores)
        # What is impossible can be chosen for want of more, and then stays at the end.
        placed = torch.minimum(placed.gather(1, source) + size, counts.unsqueeze(-1))
        moved = advanced.gather(1, source.unsqueeze(-1).expand_as(advanced))
        state = torch.where(inside.unsqueeze(-1), moved, state)
        path = path.gather(1, source.unsqueeze(-1).expand(-1, -1, i))
        path = torch.cat((path, size.unsqueeze(-1)), dim=-1)
    scores = torch.where(lengths.unsqueeze(-1) == 0, UNKNOWN_CHUNK, scores)
    return path[:, 0], scores[:, 0]


def _chunk_table(
    alphabets: Alphabets, pronunciations: Sequence[tuple[str, ...]], longest: int
) -> Tensor:
    """Return the chunk that begins at each place of each pronunciation, for every size.

    Returns:
        Ids, :data:`START_ID` where the network does not know the chunk, (batch, longest
        pronunciation + 1, longest chunk + 1).
    """
    most = max(map(len, pronunciations))
    table = torch.full((len(pronunciations), most + 1, longest + 1), START_ID)
    for row, phones in enumerate(pronunciations):
        table[row, : len(phones) + 1] = torch.tensor(
            [
                [
                    alphabets.chunk_ids.get(phones[place : place + size], START_ID)
                    for size in range(longest + 1)
                ]
                for place in range(len(phones) + 1)
            ]
        )
    return table


def _cut(phones: tuple[str, ...], sizes: Sequence[int]) -> list[Chunk]:
    chunks, start = [], 0
    for size in sizes:
        chunks.append(phones[start : start + size])
        start += size
    return chunks


def _spread(entry: Entry, alphabets: Alphabets, chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
    """Give every letter of a spelling its chunk: those that the network does not know have none.

    Of a word without any known letter, the first is given all phones.
    """
    known = iter(chunks)
    spread = [next(known) if letter in alphabets.letter_ids else () for letter in entry.spelling]
    if all(letter not in alphabets.letter_ids for letter in entry.spelling):
        spread[0] = sum(chunks, ())
    return tuple(spread)
