"""The temperature of the probabilities."""

import copy

import pytest
import torch

from grapheme_to_phoneme.training.calibration import fit_temperature
from grapheme_to_phoneme.training.metrics import measure_reliability
from grapheme_to_phoneme.training.network import Network
from tests.training.test_network import ALPHABETS, make_network, make_words, pad

TEMPERATURES = [0.5, 0.7, 1.0, 1.2, 1.4, 1.6, 2.0]
JOINT = {"memory_windows": [], "encoder_layers": 0, "recurrent_layers": 1, "members": 3}
TWO_NETWORKS = pytest.mark.parametrize("changes", [{}, JOINT], ids=["one network", "members"])


def spell(words: list[torch.Tensor]) -> list[str]:
    return ["".join(ALPHABETS.letters[letter - 1] for letter in word) for word in words]


def answers_of(network: Network, words: list[torch.Tensor]) -> list[tuple[tuple[str, ...], float]]:
    paths, scores = network.search(pad(words))
    probabilities = scores[:, 0].exp().tolist()
    phones = [tuple(ALPHABETS.phones_of(path)) for path in paths[:, 0].tolist()]
    return list(zip(phones, probabilities, strict=True))


@TWO_NETWORKS
def test_cooled_network_says_the_same_with_other_probabilities(changes: dict) -> None:
    network = make_network(**changes)
    words = make_words([3, 4, 5] * 10)
    before = answers_of(network, words)
    network.cool(0.5)
    after = answers_of(network, words)
    assert [phones for phones, _ in after] == [phones for phones, _ in before]
    assert all(sure > unsure for (_, sure), (_, unsure) in zip(after, before, strict=True))


@TWO_NETWORKS
def test_temperature_makes_probabilities_true(changes: dict) -> None:
    # Answers are right exactly as often as a network at another temperature says.
    network = make_network(**changes)
    truth = copy.deepcopy(network)
    truth.cool(1.4)
    words = make_words([length for length in (2, 3, 4) for _ in range(600)])
    generator = torch.Generator().manual_seed(1)
    references = {}
    for spelling, (phones, probability) in zip(
        spell(words), answers_of(truth, words), strict=True
    ):
        is_right = torch.rand((), generator=generator).item() < probability
        references.setdefault(spelling, [phones if is_right else ("wrong",)])
    temperature = fit_temperature(network, ALPHABETS, references, TEMPERATURES)
    assert temperature == pytest.approx(1.4, rel=0.25)
    assert TEMPERATURES[0] < temperature < TEMPERATURES[-1]

    def ece(judged: Network) -> float:
        words = [torch.tensor(ALPHABETS.encode(spelling)) for spelling in references]
        answers = answers_of(judged, words)
        return measure_reliability(
            [
                (probability, phones in accepted)
                for (phones, probability), accepted in zip(
                    answers, references.values(), strict=True
                )
            ]
        ).ece

    before = ece(network)
    network.cool(temperature)
    assert ece(network) < before
