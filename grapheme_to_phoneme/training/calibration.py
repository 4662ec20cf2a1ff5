"""A temperature that makes probabilities say how often answers are right."""

from collections.abc import Sequence

import torch

from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets
from grapheme_to_phoneme.training.network import Network

#: Words that pass through the network at once.
WORDS_PER_BATCH = 256

#: Away from 0 and 1, where a single wrong answer would cost infinitely much.
LEAST_PROBABILITY = 1e-6


@torch.no_grad()
def fit_temperature(
    network: Network,
    alphabets: Alphabets,
    references: dict[str, list[tuple[str, ...]]],
    temperatures: Sequence[float],
) -> float:
    """Return what to divide the logits by, so that probabilities say how often answers are right.

    It is the temperature with the least cross-entropy between the
    probability of the best pronunciation and whether it is an accepted one. The best
    pronunciation of a greedy search is the same at every temperature.

    Args:
        network: a network in evaluation mode.
        alphabets: its alphabets.
        references: words of which it knows every letter, and that it has not learnt from, with
            their accepted pronunciations.
        temperatures: what is tried.
    """
    words = sorted(references, key=len)
    losses = torch.zeros(len(temperatures), dtype=torch.float64)
    for start in range(0, len(words), WORDS_PER_BATCH):
        batch = words[start : start + WORDS_PER_BATCH]
        letters = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(alphabets.encode(word)) for word in batch],
            batch_first=True,
            padding_value=PADDING_ID,
        )
        path = network.search(letters)[0][:, 0]
        right = torch.tensor(
            [
                tuple(alphabets.phones_of(chunks)) in references[word]
                for word, chunks in zip(batch, path.tolist(), strict=True)
            ]
        )
        logits = network(letters, path)
        if network.is_joint:
            # The geometric mean of the members' probabilities, but for a constant.
            logits = logits.mean(dim=0)
        inside = letters != PADDING_ID
        chosen = (path - START_ID - 1).clamp(min=0).unsqueeze(-1)  # 0 at padding, left out below
        for number, temperature in enumerate(temperatures):
            answers = (logits[..., START_ID + 1 :] / temperature).log_softmax(dim=-1)
            scores = answers.gather(-1, chosen).squeeze(-1) * inside  # (batch, letters)
            probability = scores.sum(dim=-1).exp()
            probability = probability.clamp(LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
            likelihood = torch.where(right, probability, 1.0 - probability)
            losses[number] -= likelihood.double().log().sum()
    return temperatures[int(losses.argmin())]
