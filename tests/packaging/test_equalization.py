"""Equalised networks say what they said, and are rounded with less loss."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.packaging.equalization import equalize
from grapheme_to_phoneme.packaging.quantization import letter_batches
from grapheme_to_phoneme.training.network import AttentionBlock, ConvolutionBlock, Network
from tests.conftest import TinyRun
from tests.training.test_network import make_network, make_words


@pytest.fixture(scope="module")
def batches(tiny_run: TinyRun) -> list[Tensor]:
    """Words that the network did not learn from."""
    words = list(group_by_spelling(tiny_run.lexicon.dev))[:300]
    return letter_batches(tiny_run.exported_module().alphabets, words)


def products(network: Network) -> Iterator[nn.Linear]:
    for block in network.modules():
        if isinstance(block, ConvolutionBlock):
            yield from (block.expand, block.contract)
        elif isinstance(block, AttentionBlock):
            yield from (block.inward, block.outward)


@torch.no_grad()
def rounding_errors(network: Network, batches: list[Tensor]) -> list[float]:
    """Return what rounding to 8 bits makes of each product, as a share of what it gives."""
    inputs: dict[nn.Linear, list[Tensor]] = {product: [] for product in products(network)}
    hooks = [
        product.register_forward_pre_hook(
            lambda module, given: inputs[module].append(given[0].flatten(end_dim=-2))
        )
        for product in inputs
    ]
    for letters in batches:
        network.encoder(letters)
    for hook in hooks:
        hook.remove()
    errors = []
    for product, parts in inputs.items():
        given = torch.cat(parts)
        step = (given.max() - given.min()) / 255
        columns = product.weight.abs().amax(dim=1, keepdim=True) / 127
        rounded = (given / step).round() * step @ ((product.weight / columns).round() * columns).T
        exact = given @ product.weight.T
        errors.append(float((rounded - exact).norm() / exact.norm()))
    return errors


def test_answers_stay(tiny_run: TinyRun, batches: list[Tensor]) -> None:
    network = tiny_run.exported_module().network
    before = {
        name: values.clone()
        for name, values in network.state_dict().items()
        if "table" not in name and isinstance(values, Tensor)
    }
    equalized = equalize(network, batches, strength=0.8)
    for letters in batches:
        paths, scores = network.search(letters)
        equal_paths, equal_scores = equalized.search(letters)
        assert torch.equal(paths, equal_paths)
        torch.testing.assert_close(scores, equal_scores, atol=1e-4, rtol=0.0)
    # What was given is left alone.
    for name, values in before.items():
        assert torch.equal(values, network.state_dict()[name])


def test_averages_stay() -> None:
    network = make_network(attention_heads=0, averages=True)
    letters = torch.stack(make_words([6] * 32))
    equalized = equalize(network, [letters], strength=0.8)
    torch.testing.assert_close(
        network.encoder(letters), equalized.encoder(letters), atol=1e-4, rtol=1e-4
    )
    for product, equal in zip(products(network), products(equalized), strict=True):
        assert not torch.equal(product.weight, equal.weight)


def test_rounding_costs_less(tiny_run: TinyRun, batches: list[Tensor]) -> None:
    network = tiny_run.exported_module().network
    with torch.no_grad():
        for block in network.modules():
            if isinstance(block, ConvolutionBlock):
                # One channel far larger than the others, and weights that make up for it.
                block.norm.weight[0] *= 30.0
                block.norm.bias[0] *= 30.0
                block.expand.weight[:, 0] /= 30.0
    before = rounding_errors(network, batches)
    after = rounding_errors(equalize(network, batches, strength=0.8), batches)
    assert len(before) == len(after) >= 2
    assert sum(after) < sum(before)
    assert after[0] < before[0] / 3


def test_channel_that_is_never_used_is_no_reason_to_divide_by_zero(
    tiny_run: TinyRun, batches: list[Tensor]
) -> None:
    network = tiny_run.exported_module().network
    with torch.no_grad():
        for product in products(network):
            product.weight[:, 0] = 0.0
        for block in network.modules():
            if isinstance(block, ConvolutionBlock):
                block.norm.weight[0] = block.norm.bias[0] = 0.0
    equalized = equalize(network, batches, strength=0.8)
    assert all(bool(values.isfinite().all()) for values in equalized.parameters())
    assert torch.equal(network.search(batches[0])[0], equalized.search(batches[0])[0])
