"""Temperature and smoothing of the probabilities."""

import copy

import pytest
import torch

from grapheme_to_phoneme.training.calibration import fit_calibration, fit_member_weights
from grapheme_to_phoneme.training.metrics import measure_reliability
from grapheme_to_phoneme.training.network import Network, log_probabilities
from tests.training.test_network import ALPHABETS, DIMENSIONS, make_network, make_words, pad

TEMPERATURES = [0.5, 0.7, 1.0, 1.2, 1.4, 1.6, 2.0]
COMPANION = {
    **DIMENSIONS,
    "memory_windows": [],
    "encoder_layers": 0,
    "attention_heads": 0,
    "recurrent_layers": 1,
}
JOINT = {"memory_windows": [], "encoder_layers": 0, "recurrent_layers": 1, "members": 3}
WORDS = make_words([3, 4, 5] * 40)
TWO_NETWORKS = pytest.mark.parametrize("changes", [{}, JOINT], ids=["one network", "members"])


def spell(words: list[torch.Tensor]) -> list[str]:
    return ["".join(ALPHABETS.letters[letter - 1] for letter in word) for word in words]


def answers_of(network: Network, words: list[torch.Tensor]) -> list[tuple[tuple[str, ...], float]]:
    paths, scores = network.search(pad(words))
    probabilities = scores[:, 0].exp().tolist()
    phones = [tuple(ALPHABETS.phones_of(path)) for path in paths[:, 0].tolist()]
    return list(zip(phones, probabilities, strict=True))


def right_as_often_as(truth: Network, words: list[torch.Tensor]) -> dict[str, list]:
    """Return references by which answers are right exactly as often as a network says."""
    generator = torch.Generator().manual_seed(1)
    references: dict[str, list] = {}
    for spelling, (phones, probability) in zip(
        spell(words), answers_of(truth, words), strict=True
    ):
        is_right = torch.rand((), generator=generator).item() < probability
        references.setdefault(spelling, [phones if is_right else ("wrong",)])
    return references


@TWO_NETWORKS
def test_cooled_network_says_the_same_with_other_probabilities(changes: dict) -> None:
    network = make_network(**changes)
    words = make_words([3, 4, 5] * 10)
    before = answers_of(network, words)
    network.calibrate(0.5)
    after = answers_of(network, words)
    assert [phones for phones, _ in after] == [phones for phones, _ in before]
    assert all(sure > unsure for (_, sure), (_, unsure) in zip(after, before, strict=True))


@TWO_NETWORKS
def test_temperature_makes_probabilities_true(changes: dict) -> None:
    network = make_network(**changes)
    truth = copy.deepcopy(network)
    truth.calibrate(1.4)
    words = make_words([length for length in (2, 3, 4) for _ in range(600)])
    references = right_as_often_as(truth, words)
    temperature, smoothing = fit_calibration(network, ALPHABETS, references, TEMPERATURES, [0.0])
    assert smoothing == 0.0
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
    network.calibrate(temperature)
    assert ece(network) < before


@TWO_NETWORKS
def test_what_smoothing_added_is_taken_off(changes: dict) -> None:
    network = make_network(**changes)
    words = make_words([3, 4, 5] * 10)
    before = answers_of(network, words)
    network.calibrate(1.0, smoothing=0.2)
    after = answers_of(network, words)
    assert [phones for phones, _ in after] == [phones for phones, _ in before]
    assert all(sure > unsure for (_, sure), (_, unsure) in zip(after, before, strict=True))


def test_smoothed_probabilities_are_restored() -> None:
    truth = torch.tensor([0.7, 0.2, 0.06, 0.04])
    smoothed = 0.9 * truth + 0.1 / 4
    restored = log_probabilities(smoothed.log(), smoothing=0.1, temperature=1.0).exp()
    assert restored.tolist() == pytest.approx(truth.tolist())


def test_chunks_stay_in_their_order() -> None:
    """Those too, to which the network gave less than smoothing would."""
    logits = torch.tensor([9.0, 5.0, 1.0, 0.0, -3.0, -20.0])
    answers = log_probabilities(logits, smoothing=0.3, temperature=1.3)
    assert answers.isfinite().all()
    assert answers.diff().max() < 0
    assert answers.exp().sum().item() == pytest.approx(1.0)


def test_smoothing_of_the_training_is_found() -> None:
    network = make_network()
    truth = copy.deepcopy(network)
    truth.calibrate(1.0, smoothing=0.3)
    words = make_words([length for length in (2, 3, 4) for _ in range(600)])
    references = right_as_often_as(truth, words)
    assert fit_calibration(network, ALPHABETS, references, [1.0], [0.0, 0.3, 0.6]) == (1.0, 0.3)


def says_of(network: Network, words: list[torch.Tensor]) -> dict[str, list[tuple[str, ...]]]:
    """Return references by which all that a network says is right."""
    answers = answers_of(network, words)
    return {word: [phones] for word, (phones, _) in zip(spell(words), answers, strict=True)}


def members_that_count(weights: list[float], **changes: int) -> tuple[Network, dict]:
    """Return a network of two kinds, and what it would say if its members counted so much."""
    network = make_network(companion=COMPANION, **changes)
    truth = copy.deepcopy(network)
    truth.decoder.member_weights = weights
    return network, says_of(truth, WORDS)


def test_members_count_as_much_as_makes_the_fewest_words_wrong() -> None:
    network, references = members_that_count([0.2, 0.8])
    assert references != says_of(network, WORDS)
    assert fit_member_weights(network, ALPHABETS, references, 10, 0.0) == [0.2, 0.8]
    assert network.decoder.member_weights == [0.5, 0.5]


def test_members_that_are_as_good_count_the_same() -> None:
    network = make_network(companion=COMPANION)
    references = {word: [("wrong",)] for word in spell(make_words([3] * 5))}
    assert fit_member_weights(network, ALPHABETS, references, 1, 0.0) == [0.5, 0.5]
    for parameter in network.decoder.members[1].output.parameters():
        parameter.data.zero_()  # It thinks nothing: whatever it counts, the answers are the same.
    assert fit_member_weights(network, ALPHABETS, references, 10, 0.0) == [0.5, 0.5]


def test_even_weights_need_not_be_multiples() -> None:
    network = make_network(members=2, companion=COMPANION)
    references = says_of(network, make_words([3] * 5))
    assert fit_member_weights(network, ALPHABETS, references, 10, 0.0) == [1 / 3] * 3


def test_caution_asks_uneven_weights_to_be_clearly_better() -> None:
    network, references = members_that_count([0.2, 0.8])
    for word in list(references)[::4]:
        references[word] = [("wrong",)]  # Else the best weights have no standard error.
    assert fit_member_weights(network, ALPHABETS, references, 10, 1.0) == [0.2, 0.8]
    assert fit_member_weights(network, ALPHABETS, references, 10, 1000.0) == [0.5, 0.5]


def test_members_of_a_kind_share_its_weight() -> None:
    network, references = members_that_count([0.1, 0.1, 0.8], members=2)
    assert fit_member_weights(network, ALPHABETS, references, 5, 0.0) == [0.1, 0.1, 0.8]
    alike = make_network(**JOINT)
    assert fit_member_weights(alike, ALPHABETS, says_of(alike, WORDS), 10, 0.0) == [1 / 3] * 3


def test_weights_of_members_hold_in_the_calibration() -> None:
    network = make_network(companion=COMPANION)
    truth = copy.deepcopy(network)
    network.decoder.member_weights = truth.decoder.member_weights = [0.1, 0.9]
    truth.calibrate(1.4)
    words = make_words([length for length in (2, 3, 4) for _ in range(600)])
    references = right_as_often_as(truth, words)
    temperature, _ = fit_calibration(network, ALPHABETS, references, TEMPERATURES, [0.0])
    assert temperature == pytest.approx(1.4, rel=0.25)
