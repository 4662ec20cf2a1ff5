"""What makes probabilities say how often answers are right."""

from collections.abc import Sequence
from itertools import product

import torch

from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets
from grapheme_to_phoneme.training.network import Network, log_probabilities

#: Words that pass through the network at once.
WORDS_PER_BATCH = 256

#: Away from 0 and 1, where a single wrong answer would cost infinitely much.
LEAST_PROBABILITY = 1e-6


@torch.no_grad()
def fit_calibration(
    network: Network,
    alphabets: Alphabets,
    references: dict[str, list[tuple[str, ...]]],
    temperatures: Sequence[float],
    smoothings: Sequence[float],
) -> tuple[float, float]:
    """Return the temperature and smoothing for :meth:`Network.calibrate`.

    They are those with the least cross-entropy between the probability of the best pronunciation
    and whether it is an accepted one. The best pronunciation of a greedy search is the same with
    all of them.

    Args:
        network: a network in evaluation mode.
        alphabets: its alphabets.
        references: words of which it knows every letter, and that it has not learnt from, with
            their accepted pronunciations.
        temperatures: what is tried.
        smoothings: likewise, each with every temperature.
    """
    words = sorted(references, key=len)
    choices = list(product(temperatures, smoothings))
    losses = torch.zeros(len(choices), dtype=torch.float64)
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
        for number, (temperature, smoothing) in enumerate(choices):
            answers = log_probabilities(logits[..., START_ID + 1 :], smoothing, temperature)
            scores = answers.gather(-1, chosen).squeeze(-1) * inside  # (batch, letters)
            probability = scores.sum(dim=-1).exp()
            probability = probability.clamp(LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
            likelihood = torch.where(right, probability, 1.0 - probability)
            losses[number] -= likelihood.double().log().sum()
    return choices[int(losses.argmin())]
