"""Makes the activations of a network as large in one channel as in the next, for rounding.

An integer product rounds all channels of its input in steps of one size, which the largest
channel needs and the others suffer from. Whatever makes the input in proportion to weights of its
own may make each channel smaller, and the product's weights larger in return: the network's
answers stay what they are (Xiao et al., 2023, "SmoothQuant: Accurate and Efficient Post-Training
Quantization for Large Language Models").
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from grapheme_to_phoneme.training.network import AttentionBlock, ConvolutionBlock, Network

#: Ranges below this one are taken for it: channels that are never used.
LEAST_RANGE = 1e-5


@dataclass(frozen=True, eq=False)
class _Product:
    """A product, and the weights that each channel of its input is proportional to.

    Attributes:
        linear: the product, (output channels, input channels).
        makers: parameters whose rows make the input's channels, (input channels, ...).
    """

    linear: nn.Linear
    makers: tuple[Tensor, ...]


@torch.no_grad()
def equalize(network: Network, batches: Iterable[Tensor], strength: float) -> Network:
    """Return a network with the same answers and more even activations.

    Args:
        network: the network.
        batches: letter ids of real words, (batch, letters), to measure the ranges on.
        strength: how much of the unevenness moves to the weights: 0 none, 1 all.
    """
    equalized = copy.deepcopy(network).eval()
    products = list(_products(equalized))
    ranges = [torch.zeros(product.linear.in_features) for product in products]
    hooks = [
        product.linear.register_forward_pre_hook(partial(_widen, measured))
        for product, measured in zip(products, ranges, strict=True)
    ]
    for letters in batches:
        equalized.encoder(letters)
    for hook in hooks:
        hook.remove()
    for product, measured in zip(products, ranges, strict=True):
        weights = product.linear.weight.abs().amax(dim=0).clamp(min=LEAST_RANGE)
        scale = measured.clamp(min=LEAST_RANGE) ** strength / weights ** (1.0 - strength)
        scale /= scale.log().mean().exp()
        product.linear.weight *= scale
        for maker in product.makers:
            maker /= scale.view(-1, *[1] * (maker.ndim - 1))
    return equalized


def _widen(ranges: Tensor, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Take an input of a product into account in the ranges of its channels."""
    torch.maximum(ranges, inputs[0].abs().flatten(end_dim=-2).amax(dim=0), out=ranges)


def _products(network: Network) -> Iterator[_Product]:
    for block in network.modules():
        if isinstance(block, ConvolutionBlock):
            gated = block.contract.in_features
            yield _Product(block.expand, (block.norm.weight, block.norm.bias))
            # The values come first, and are averaged, channel by channel, if at all, and
            # multiplied by what the gates let through.
            values = block.expand.weight[:gated], block.expand.bias[:gated]
            yield _Product(block.contract, values)
        elif isinstance(block, AttentionBlock):
            size = block.outward.in_features
            yield _Product(block.inward, (block.norm.weight, block.norm.bias))
            # Queries and keys come first. Attention averages values, channel by channel.
            values = block.inward.weight[-size:], block.inward.bias[-size:]
            yield _Product(block.outward, values)
