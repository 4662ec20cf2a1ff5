"""What training uses in place of PyTorch's own operators gives what those give."""

import pytest
import torch
from torch import nn

from grapheme_to_phoneme.training.operators import Dropout, GatedAverages, ShiftedProducts


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_a_share_and_keeps_the_mean(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    dropped = Dropout(probability)(torch.ones(100, 101, 7, dtype=dtype))
    assert dropped.shape == (100, 101, 7) and dropped.dtype == dtype
    share = (dropped == 0).double().mean().item()
    assert share == pytest.approx(probability, abs=0.006)
    assert dropped.double().mean().item() == pytest.approx(1.0, abs=0.01)


def test_dropout_passes_the_gradient_of_what_it_kept() -> None:
    torch.manual_seed(1)
    activations = torch.randn(5, 3, requires_grad=True)
    dropped = Dropout(0.5)(activations)
    dropped.sum().backward()
    assert activations.grad is not None
    assert torch.equal(activations.grad, torch.where(dropped == 0, 0.0, 2.0))


def test_dropout_draws_anew_and_repeats_with_the_seed() -> None:
    layer = Dropout(0.5)
    torch.manual_seed(7)
    first, second = (layer(torch.ones(1000)) for _ in range(2))
    torch.manual_seed(7)
    assert torch.equal(layer(torch.ones(1000)), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("probability", [0.0, 0.001, 1.0])
def test_dropout_of_nothing_or_everything(probability: float) -> None:
    dropped = Dropout(probability)(torch.ones(1000))
    assert dropped.mean().item() == pytest.approx(1.0 - round(probability), abs=0.01)


def test_dropout_leaves_evaluation_alone() -> None:
    assert torch.equal(Dropout(0.5).eval()(torch.ones(9)), torch.ones(9))


@pytest.mark.parametrize("length", [1, 2, 9])
def test_shifted_products_are_a_depthwise_convolution(length: int) -> None:
    torch.manual_seed(1)
    convolution = nn.Conv1d(4, 4, kernel_size=5, padding=2, groups=4).double()
    states = torch.randn(length, 3, 4, dtype=torch.float64, requires_grad=True)
    weights = [states, convolution.weight, convolution.bias]
    expected = convolution(states.permute(1, 2, 0)).permute(2, 0, 1)
    received = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, weights, received)

    taps = convolution.weight.squeeze(1).t()
    mixed = ShiftedProducts.apply(states, taps, convolution.bias)
    torch.testing.assert_close(mixed, expected)
    for gradient, known in zip(
        torch.autograd.grad(mixed, weights, received), gradients, strict=True
    ):
        torch.testing.assert_close(gradient, known)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_averages_are_walked_in_either_direction(length: int) -> None:
    torch.manual_seed(1)
    kept = torch.rand(length, 3, 5, dtype=torch.float64, requires_grad=True)
    proposed = torch.randn(length, 3, 5, dtype=torch.float64, requires_grad=True)
    averages = GatedAverages.apply(kept, proposed)
    for channel in range(5):
        average = torch.zeros(3, dtype=torch.float64)
        for letter in range(length)[:: 1 if channel < 2 else -1]:
            share = kept[letter, :, channel]
            average = share * average + (1.0 - share) * proposed[letter, :, channel]
            torch.testing.assert_close(averages[letter, :, channel], average)
    assert torch.autograd.gradcheck(GatedAverages.apply, (kept, proposed))
