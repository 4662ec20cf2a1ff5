"""What a training step minimises."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from grapheme_to_phoneme.training.alphabets import PADDING_ID
from grapheme_to_phoneme.training.data_module import Batch
from grapheme_to_phoneme.training.network import Network


def mean_inside(values: Tensor, letters: Tensor) -> Tensor:
    """Return the mean over letters, without padding.

    Args:
        values: one for each letter, ([members,] batch, letters).
        letters: letter ids, 0 at padding, (batch, letters).
    """
    # Not by selecting: the number of letters would have to be read back from a GPU.
    inside = (letters != PADDING_ID).to(values.dtype).expand_as(values)
    return (values * inside).sum() / inside.sum()


def cross_entropy(logits: Tensor, chunks: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of the true chunks, in nats, ([members,] batch, letters).

    Args:
        logits: ([members,] batch, letters, chunks).
        chunks: the true chunk ids, (batch, letters).
        label_smoothing: probability spread over all chunks in the target.
    """
    shape = logits.shape[:-1]
    return functional.cross_entropy(
        logits.flatten(end_dim=-2),
        chunks.expand(shape).flatten(),
        reduction="none",
        label_smoothing=label_smoothing,
    ).view(shape)


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Return how far two answers to the same letters are apart, in nats.

    Args:
        first: logits, (…, letters, chunks).
        second: likewise.

    Returns:
        The means of the Kullback-Leibler divergences in either direction, (…, letters).
    """
    first, second = (logits.float().log_softmax(dim=-1) for logits in (first, second))
    return 0.5 * ((first.exp() - second.exp()) * (first - second)).sum(dim=-1)


class Objective(nn.Module):
    """The loss of a batch, a module so that a GPU can record all of its operations.

    It is the cross-entropy of the true chunks and, where there are any, of the teachers'. With
    ``consistency`` the words pass twice, and it is the mean of both passes and what they say
    apart.

    Args:
        network: what is trained.
        label_smoothing: see :func:`cross_entropy`.
        consistency: weight of :func:`disagreement` between two passes; 0 for a single pass.
    """

    def __init__(self, network: Network, label_smoothing: float, consistency: float) -> None:
        super().__init__()
        self.network = network
        self.label_smoothing = label_smoothing
        self.consistency = consistency

    @property
    def passes(self) -> int:
        """Passes through the network."""
        return 2 if self.consistency else 1

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss in nats per letter, a scalar.

        Args:
            batch: what :class:`~grapheme_to_phoneme.training.data_module.AlignedDataset` or
                :class:`~grapheme_to_phoneme.training.data_module.TaughtDataset` gives.
        """
        letters = batch["letters"]
        answers = [
            self.network(letters, batch["chunks"], batch.get("own")) for _ in range(self.passes)
        ]
        losses = torch.stack([self._losses(logits, batch) for logits in answers]).mean(dim=0)
        if self.consistency:
            losses = losses + self.consistency * disagreement(*answers)
        return mean_inside(losses, letters)

    def _losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss of every letter, ([members,] batch, letters)."""
        told = cross_entropy(logits, batch["chunks"], self.label_smoothing)
        if "trust" not in batch:
            return told
        chunks, shares = batch["opinion_chunks"], batch["opinion_shares"]
        chunks = chunks.expand(*logits.shape[:-1], chunks.shape[-1])
        taught = -(shares * logits.float().log_softmax(dim=-1).gather(-1, chunks)).sum(dim=-1)
        trust = batch["trust"].unsqueeze(-1)
        return trust * told + (1.0 - trust) * taught
