"""What is fitted on dev words when all is trained: whom to trust, and how far."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, product

import torch
from torch import Tensor

from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets
from grapheme_to_phoneme.training.metrics import References, Score
from grapheme_to_phoneme.training.network import Network, NetworkDimensions, log_probabilities

#: Words that pass through the network at once.
WORDS_PER_BATCH = 256

#: Away from 0 and 1, where a single wrong answer would cost infinitely much.
LEAST_PROBABILITY = 1e-6


@torch.no_grad()
def fit_member_weights(
    network: Network, alphabets: Alphabets, references: References, parts: int, caution: float
) -> list[float]:
    """Return the weights of the members' opinions with the fewest wrong words.

    Few words tell weights apart by chance, so uneven ones must be clearly better: their squared
    distance from even ones, times ``caution``, is what they must be better by, in standard errors
    of the WER. Of equally good ones those with the fewest wrong phones are chosen.

    Args:
        network: a network in evaluation mode whose members answer together.
        alphabets: its alphabets.
        references: words of which it knows every letter, and that it has not learnt from.
        parts: the weights of a kind of members, those of the same dimensions, which nothing tells
            apart, are together a multiple of one of so many parts, at least one. Even weights are
            tried with any number of parts, and are the only ones with fewer than kinds.
        caution: see above; 0 trusts the words.

    Returns:
        A weight for each member, 1 in sum.
    """
    members = network.dimensions.of_members()
    even = [1.0 / len(members)] * len(members)
    choices = [even, *(weights for weights in _weightings(members, parts) if weights != even)]
    if len(choices) == 1 or not references:
        return even
    scores = [Score() for _ in choices]
    before = network.decoder.member_weights
    for words, letters in _batches(alphabets, references):
        encoding = network.encoder(letters)
        for weights, score in zip(choices, scores, strict=True):
            network.decoder.member_weights = weights
            path = network.search_encoded(letters, encoding)[0][:, 0]
            for word, chunks in zip(words, path.tolist(), strict=True):
                score.add(word, alphabets.phones_of(chunks), references[word])
    network.decoder.member_weights = before
    best = min(score.wer for score in scores) / 100.0
    standard_error = 100.0 * math.sqrt(best * (1.0 - best) / len(references))

    def badness(number: int) -> tuple[float, float, float]:
        distance = math.dist(choices[number], even) ** 2
        score = scores[number]
        return score.wer + caution * standard_error * distance, score.per, distance

    return choices[min(range(len(choices)), key=badness)]


def _weightings(members: Sequence[NetworkDimensions], parts: int) -> Iterator[list[float]]:
    """Go through the weights in parts that :func:`fit_member_weights` tries, one a member."""
    kinds = list(dict.fromkeys(members))
    for cuts in combinations(range(1, parts), len(kinds) - 1):
        bounds = (0, *cuts, parts)
        shares = {
            kind: (bounds[number + 1] - bounds[number]) / parts / members.count(kind)
            for number, kind in enumerate(kinds)
        }
        yield [shares[member] for member in members]


def _batches(alphabets: Alphabets, references: References) -> Iterator[tuple[list[str], Tensor]]:
    """Go through words of similar length: the words and their letters, (batch, letters)."""
    words = sorted(references, key=len)
    for start in range(0, len(words), WORDS_PER_BATCH):
        batch = words[start : start + WORDS_PER_BATCH]
        letters = [torch.tensor(alphabets.encode(word)) for word in batch]
        yield (
            batch,
            torch.nn.utils.rnn.pad_sequence(letters, batch_first=True, padding_value=PADDING_ID),
        )


@torch.no_grad()
def fit_calibration(
    network: Network,
    alphabets: Alphabets,
    references: References,
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
    choices = list(product(temperatures, smoothings))
    losses = torch.zeros(len(choices), dtype=torch.float64)
    for words, letters in _batches(alphabets, references):
        path = network.search(letters)[0][:, 0]
        right = torch.tensor(
            [
                tuple(alphabets.phones_of(chunks)) in references[word]
                for word, chunks in zip(words, path.tolist(), strict=True)
            ]
        )
        logits = network(letters, path)
        if network.is_joint:
            # The geometric mean of the members' probabilities, but for a constant.
            logits = network.decoder.agree(logits)
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
