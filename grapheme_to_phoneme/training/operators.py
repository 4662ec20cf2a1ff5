"""What takes training most of its time beside matrix products, written for a processor.

PyTorch's own operators do the same in several times the time: `docs/performance.md` says how much.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

#: Values of a random byte: probabilities of dropping are in such parts.
DROPOUT_PARTS = 256

BYTES_PER_NUMBER = 8


class Dropout(nn.Dropout):
    """Dropout that draws a byte for every activation, eight at a time.

    The probability is rounded to a 256th, and what is kept is scaled accordingly. On a GPU it is
    PyTorch's own, which is as fast there.
    """

    def forward(self, activations: Tensor) -> Tensor:
        """Drop activations of any shape, in training."""
        dropped = round(self.p * DROPOUT_PARTS)
        is_between = 0 < dropped < DROPOUT_PARTS
        if not (self.training and is_between and activations.device.type == "cpu"):
            return super().forward(activations)
        count = activations.numel()
        numbers = torch.empty(count // BYTES_PER_NUMBER + 1, dtype=torch.int64)
        numbers.random_(-(2**63), None)
        kept = numbers.view(torch.uint8)[:count].view(activations.shape).ge_(dropped)
        scale = DROPOUT_PARTS / (DROPOUT_PARTS - dropped)
        # In place on bytes, and on floats: comparisons that give truth values are no vector code.
        return activations * kept.to(activations.dtype).mul_(scale)


class ShiftedProducts(torch.autograd.Function):
    """A depthwise convolution over letters as products with shifted copies of its input."""

    @staticmethod
    def forward(ctx: FunctionCtx, states: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        """Convolve.

        Args:
            ctx: what :meth:`backward` will need.
            states: (letters, batch, d).
            taps: weights by neighbour, first to last, (kernel size, d).
            bias: (d,).

        Returns:
            As ``states``.
        """
        reach = len(taps) // 2
        length = len(states)
        padded = functional.pad(states, (0, 0, 0, 0, reach, reach))
        ctx.save_for_backward(padded, taps)
        mixed = torch.addcmul(bias, padded[:length], taps[0])
        for i in range(1, len(taps)):
            mixed.addcmul_(padded[i : i + length], taps[i])
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of all three arguments."""
        padded, taps = ctx.saved_tensors
        reach = len(taps) // 2
        length = len(gradient)
        of_padded = torch.zeros_like(padded)
        of_taps = torch.empty_like(taps)
        for i, tap in enumerate(taps):
            of_padded[i : i + length].addcmul_(gradient, tap)
            torch.sum(padded[i : i + length] * gradient, dim=(0, 1), out=of_taps[i])
        of_states = of_padded[reach : reach + length]
        return of_states, of_taps, gradient.sum(dim=(0, 1))


class GatedAverages(torch.autograd.Function):
    """Averages along a word, each of which keeps a share of itself at every letter.

    The pooling of quasi-recurrent networks (Bradbury et al., 2017): no channel knows of another.
    The first half of them goes from the first letter to the last, the other half back.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, kept: Tensor, proposed: Tensor) -> Tensor:
        """Average.

        Args:
            ctx: what :meth:`backward` will need.
            kept: the share of an average that a letter leaves of it, (letters, batch, d).
            proposed: what it puts in place of the rest, alike; zero at padding.

        Returns:
            The averages after every letter, as ``proposed``.
        """
        averages = torch.empty_like(proposed)
        for channels, letters in _directions(proposed):
            average = torch.zeros_like(proposed[0, :, channels])
            for letter in letters:
                here = letter, slice(None), channels
                average = torch.lerp(proposed[here], average, kept[here], out=averages[here])
        ctx.save_for_backward(kept, proposed, averages)
        return averages

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of both arguments."""
        kept, proposed, averages = ctx.saved_tensors
        # What reaches an average by itself, and through those that come of it.
        total = gradient.clone()
        for channels, letters in _directions(gradient):
            for following, letter in pairwise(reversed(letters)):
                after = following, slice(None), channels
                total[letter, :, channels].addcmul_(kept[after], total[after])
        half = averages.shape[2] // 2
        before = torch.zeros_like(averages)
        before[1:, :, :half] = averages[:-1, :, :half]
        before[:-1, :, half:] = averages[1:, :, half:]
        return total * (before - proposed), total * (1.0 - kept)


def _directions(states: Tensor) -> list[tuple[slice, range]]:
    """Return the channels of either direction of (letters, batch, d), and its letters in turn."""
    letters, half = range(len(states)), states.shape[2] // 2
    return [(slice(half), letters), (slice(half, None), letters[::-1])]
