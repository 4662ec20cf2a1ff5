"""Measures what a step of training takes, and what each of its optimisations brings.

python -m benchmarks.training [OVERRIDES of `g2p train`] [--threads=1] [--rounds=5]
"""

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import fire
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.lexicon.data import load_data
from grapheme_to_phoneme.training.data_module import Batch, LengthBatchSampler, LexiconDataModule
from grapheme_to_phoneme.training.fitting import build_data_module, build_module
from grapheme_to_phoneme.training.lightning_module import PronunciationModule
from grapheme_to_phoneme.training.operators import Dropout, ShiftedProducts
from grapheme_to_phoneme.training.preparation import prepare

#: Steps that are timed together, and those that are taken before them.
STEPS, STEPS_BEFORE = 20, 5

#: Sides of the matrices whose product tells what the processor can do, and their products.
PEAK_SIDES = (2048, 256, 1024)
PEAK_PRODUCTS = 50


def plain_products(states: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """Do what :class:`ShiftedProducts` does, by operators that PyTorch differentiates itself."""
    padded = functional.pad(states, (0, 0, 0, 0, len(taps) // 2, len(taps) // 2))
    return sum((padded[i : i + len(states)] * tap for i, tap in enumerate(taps)), start=bias)


@contextmanager
def plain_operators() -> Iterator[None]:
    """Put PyTorch's own operators in place of this project's."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(Dropout, "forward", nn.Dropout.forward))
        stack.enter_context(patch.object(ShiftedProducts, "apply", plain_products))
        yield


class Stepper:
    """Takes steps of training, in one setting.

    Args:
        module: the network and its loss; its weights stay as they are.
        batches: what to learn from, endless.
        is_half: whether to multiply in bfloat16.
        is_plain: whether to use PyTorch's own operators.
    """

    def __init__(
        self,
        module: PronunciationModule,
        batches: Iterator[Batch],
        is_half: bool,
        is_plain: bool,
    ) -> None:
        self._module = module
        self._batches = batches
        self._is_half = is_half
        self._is_plain = is_plain
        self._optimizer = torch.optim.AdamW(module.parameters(), lr=0.0, fused=not is_plain)

    def words_per_second(self, steps: int) -> float:
        """Take steps, and return the words a second, their batches' preparation included."""
        words = 0
        with plain_operators() if self._is_plain else ExitStack():
            started = time.perf_counter()
            for batch in itertools.islice(self._batches, steps):
                with torch.autocast("cpu", torch.bfloat16, enabled=self._is_half):
                    loss = self._module.training_step(batch, 0)
                self._optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
                self._optimizer.step()
                words += len(batch["letters"])
            return words / (time.perf_counter() - started)


class MixedBatchSampler(LengthBatchSampler):
    """Batches of as many words as the others have on average, of any lengths."""

    def _draw(self) -> list[list[int]]:
        batches = super()._draw()
        order = np.random.default_rng(1).permutation(np.concatenate(batches))
        return [part.tolist() for part in np.array_split(order, len(batches))]


def peak_gflops(dtype: torch.dtype) -> float:
    """Return what a product of matrices reaches, in thousand million operations a second."""
    rows, inner, columns = PEAK_SIDES
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)

    def seconds(action: Callable[[], object]) -> float:
        started = time.perf_counter()
        action()
        return time.perf_counter() - started

    best = min(seconds(lambda: left @ right) for _ in range(PEAK_PRODUCTS))
    return 2 * rows * inner * columns / best / 1e9


def endless(
    module: LexiconDataModule, sampler: type[LengthBatchSampler] = LengthBatchSampler
) -> Iterator[Batch]:
    """Return the training batches of one epoch after the other."""
    while True:
        with patch("grapheme_to_phoneme.training.data_module.LengthBatchSampler", sampler):
            loader = module.train_dataloader()
        yield from loader


def measure(*overrides: str, threads: int = 1, rounds: int = 5) -> None:
    """Time every setting in turn, and print the medians.

    Args:
        overrides: Hydra overrides, such as experiment=quick.
        threads: of PyTorch.
        rounds: how often each setting takes its steps.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    config = compose_config(list(overrides))
    data = load_data(config)
    prepared = prepare(data, config.alignment, config.seed)
    module = build_module(config, data, prepared, {}).train()
    lexicon = build_data_module(config, data, prepared)
    settings = {
        "plain float32, words of any lengths together": (
            endless(lexicon, MixedBatchSampler),
            False,
            True,
        ),
        "words of similar length together": (endless(lexicon), False, True),
        "products in bfloat16": (endless(lexicon), True, True),
        "own dropout and convolution, fused AdamW": (endless(lexicon), True, False),
    }
    # Outside of a trainer there is nothing to log to.
    with patch.object(PronunciationModule, "log", lambda *args, **kwargs: None):
        steppers = {name: Stepper(module, *setting) for name, setting in settings.items()}
        speeds: dict[str, list[float]] = {name: [] for name in settings}
        for name, stepper in steppers.items():
            stepper.words_per_second(STEPS_BEFORE)
        for number in range(rounds):
            for name, stepper in steppers.items():
                speeds[name].append(stepper.words_per_second(STEPS))
            sys.stderr.write(f"round {number + 1} of {rounds}\n")
    letters = sum(len(entry.spelling) for entry in prepared.train) / len(prepared.train)
    operations = 6 * module.network.weights_per_letter() * letters
    peak = peak_gflops(torch.bfloat16)
    print(f"{threads} threads, {torch.__version__}, floor {peak * 1e9 / operations:,.0f} words/s:")
    print(f"{operations / 1e6:,.0f} million operations a word, {peak:,.0f} GFLOP/s in bfloat16")
    first = speeds[next(iter(speeds))]
    for name, values in speeds.items():
        ratio = statistics.median(one / other for one, other in zip(values, first, strict=True))
        print(f"{statistics.median(values):8,.0f} words/s {ratio:6.2f}  {name}")


if __name__ == "__main__":
    fire.Fire(measure)
