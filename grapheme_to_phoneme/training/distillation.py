"""What teachers think of words, for a smaller network to learn.

Several large networks, each trained alone, are right more often together than any of them; a
small one learns from what they think of every letter (Hinton, Vinyals and Dean, 2015,
"Distilling the Knowledge in a Neural Network"), on the lexicon's words and on words without
pronunciations, which they pronounce first (Sun et al., 2019, "Token-Level Ensemble Distillation
for Grapheme-to-Phoneme Conversion").
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grapheme_to_phoneme.training.alignment import AlignedEntry
from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets
from grapheme_to_phoneme.training.data_module import (
    AlignedDataset,
    LengthBatchSampler,
    SpellingDataset,
)
from grapheme_to_phoneme.training.lessons import SHARE_PARTS, Lessons
from grapheme_to_phoneme.training.network import Network


@torch.no_grad()
def teach(
    teachers: Sequence[Network],
    alphabets: Alphabets,
    entries: Sequence[AlignedEntry],
    spellings: Sequence[str],
    kept_chunks: int,
    letters_per_batch: int,
) -> Lessons:
    """Ask teachers together what they think of every letter.

    Args:
        teachers: networks of the same alphabets, on one device.
        alphabets: these alphabets.
        entries: the lexicon's aligned entries, all of them, which the teachers learnt from.
        spellings: further words, of which the teachers know every letter.
        kept_chunks: chunks to keep of each letter.
        letters_per_batch: letters, padding included, that pass through the teachers at once.
    """
    device = next(teachers[0].parameters()).device
    for teacher in teachers:
        teacher.eval()
    dataset = AlignedDataset(entries, alphabets, is_remembered=True)
    opinions: list[tuple[NDArray, NDArray] | None] = [None] * (len(entries) + len(spellings))
    for indices in LengthBatchSampler(dataset.lengths, letters_per_batch):
        batch = {name: part.to(device) for name, part in dataset.__getitems__(indices).items()}
        thought = opinion(teachers, batch["letters"], batch["chunks"], batch["own"])
        for index, kept in zip(
            indices, _most_probable(thought, batch["letters"], kept_chunks), strict=True
        ):
            opinions[index] = kept
    words = SpellingDataset(spellings, alphabets)
    paths: list[list[int]] = [[] for _ in spellings]
    for indices in LengthBatchSampler(words.lengths, letters_per_batch):
        letters = words.__getitems__(indices)["letters"].to(device)
        path, thought = pronounce_together(teachers, letters)
        for index, row, kept in zip(
            indices, path.tolist(), _most_probable(thought, letters, kept_chunks), strict=True
        ):
            opinions[len(entries) + index] = kept
            paths[index] = row[: len(kept[0])]
    imagined = [
        AlignedEntry(spelling, tuple(alphabets.chunks[chunk - 1] for chunk in path))
        for spelling, path in zip(spellings, paths, strict=True)
    ]
    chunks, shares = zip(*(kept for kept in opinions if kept is not None), strict=True)
    return Lessons(imagined, np.concatenate(chunks), np.concatenate(shares))


def opinion(
    teachers: Sequence[Network], letters: Tensor, chunks: Tensor, own: Tensor | None
) -> Tensor:
    """Return the teachers' joint log-probabilities, (batch, letters, chunks - 1).

    They are the geometric mean of what each thinks, given the chunks before. The start symbol,
    the first chunk, is no answer.

    Args:
        teachers: the networks.
        letters: letter ids, 0 at padding, (batch, letters).
        chunks: the chunks that the letters give, alike.
        own: as :meth:`Network.forward` takes it.
    """
    total = torch.zeros((), device=letters.device)
    for teacher in teachers:
        logits = teacher(letters, chunks, own)[..., START_ID + 1 :].float().log_softmax(dim=-1)
        # The members of a joint network come first.
        total = total + (logits.mean(dim=0) if logits.ndim > chunks.ndim + 1 else logits)
    return (total / len(teachers)).log_softmax(dim=-1)


def pronounce_together(teachers: Sequence[Network], letters: Tensor) -> tuple[Tensor, Tensor]:
    """Pronounce words by greedy search.

    Args:
        teachers: the networks.
        letters: letter ids, 0 at padding, (batch, letters).

    Returns:
        The chunks that they agree on, (batch, letters), and what they think of every letter
        then, as :func:`opinion` says it.
    """
    prepared = [teacher.decoder.prepare(teacher.encoder(letters)) for teacher in teachers]
    tables = [teacher.decoder.history_table() for teacher in teachers]
    states = [
        gates.new_zeros(len(letters), 1, teacher.decoder.state_size)
        for teacher, (gates, _) in zip(teachers, prepared, strict=True)
    ]
    previous = letters.new_full((len(letters), 1), START_ID)
    path, thought = [], []
    for i in range(letters.shape[1]):
        total = torch.zeros((), device=letters.device)
        for number, teacher in enumerate(teachers):
            gates, hidden = prepared[number]
            said, states[number] = teacher.decoder.step(
                tables[number], gates[i], hidden[i], previous, states[number]
            )
            total = total + said
        thought.append(total / len(teachers))
        previous = total.argmax(dim=-1) + START_ID + 1
        path.append(previous)
    chosen = torch.where(letters != PADDING_ID, torch.cat(path, dim=1), START_ID)
    return chosen, torch.cat(thought, dim=1).log_softmax(dim=-1)


def _most_probable(
    thought: Tensor, letters: Tensor, kept_chunks: int
) -> list[tuple[NDArray[np.uint16], NDArray[np.uint8]]]:
    """Return each word's most probable chunks and their shares, (its letters, kept) both."""
    kept = min(kept_chunks, thought.shape[-1])
    shares, chunks = thought.exp().topk(kept, dim=-1)
    ids = (chunks + START_ID + 1).cpu().numpy().astype(np.uint16)
    parts = (shares * SHARE_PARTS).round().cpu().numpy().astype(np.uint8)
    lengths = (letters != PADDING_ID).sum(dim=1).tolist()
    return [
        (row_ids[:length], row_parts[:length])
        for row_ids, row_parts, length in zip(ids, parts, lengths, strict=True)
    ]
