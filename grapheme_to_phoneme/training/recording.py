"""Training steps that a GPU records once and replays.

A network as small as these is thousands of short operations a step, and starting them one by one
takes a processor several times as long as the GPU needs for them. A CUDA graph starts all of them
at once, for batches of the shape that it was recorded with.
"""

import logging
from collections import Counter

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

LOGGER = logging.getLogger(__name__)

#: Batches of a shape until a graph of it is recorded; rare shapes are not worth the time.
RECORDED_AFTER = 2

Shape = tuple[tuple[str, tuple[int, ...]], ...]


def can_replay(trainer: pl.Trainer, has_memory: bool) -> bool:
    """Tell whether a training's steps can be recorded: on one GPU, of networks without a memory.

    Look-ups in a memory move numbers from the processor to the GPU, which no graph can.
    """
    is_on_gpu = trainer.strategy.root_device.type == "cuda"
    return is_on_gpu and trainer.world_size == 1 and not has_memory


class _Recordable(nn.Module):
    """An objective in the precision of the training, which a graph must decide for itself."""

    def __init__(self, objective: nn.Module, mixes_bfloat16: bool) -> None:
        super().__init__()
        self.objective = objective
        self.mixes_bfloat16 = mixes_bfloat16

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss."""
        # Weights that a cache keeps in bfloat16 would belong to another graph.
        with torch.autocast(
            "cuda", torch.bfloat16, enabled=self.mixes_bfloat16, cache_enabled=False
        ):
            return self.objective(batch)


class Recorder:
    """Records an objective for every frequent shape of batches, and replays it.

    Args:
        objective: takes a batch and gives the loss; it is on a GPU by the first call.
        mixes_bfloat16: whether to mix bfloat16 in.
    """

    def __init__(self, objective: nn.Module, mixes_bfloat16: bool) -> None:
        self._objective = objective
        self._mixes_bfloat16 = mixes_bfloat16
        self._seen: Counter[Shape] = Counter()
        self._recorded: dict[Shape, nn.Module] = {}
        self._is_possible = True
        self._pool: tuple[int, int] | None = None

    def prepare(self, batch: dict[str, Tensor]) -> None:
        """Record the objective if the batch has a shape that comes often; draws random numbers."""
        shape = _shape_of(batch)
        self._seen[shape] += 1
        is_due = shape not in self._recorded and self._seen[shape] >= RECORDED_AFTER
        if not (is_due and self._is_possible):
            return
        if self._pool is None:
            # One graph runs at a time, forward and backward: all of them may use the same memory.
            self._pool = torch.cuda.graph_pool_handle()
        example = {name: part.clone() for name, part in batch.items()}
        recordable = _Recordable(self._objective, self._mixes_bfloat16)
        try:
            self._recorded[shape] = torch.cuda.make_graphed_callables(
                recordable, (example,), pool=self._pool
            )
        except RuntimeError as error:
            # Another GPU or driver may not be able to: slower is better than not at all.
            LOGGER.warning("steps are not recorded: %s", str(error).splitlines()[0])
            self._is_possible = False

    def replay(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss; what it consists of is overwritten by the next call."""
        recorded = self._recorded.get(_shape_of(batch))
        return self._objective(batch) if recorded is None else recorded(batch)


def _shape_of(batch: dict[str, Tensor]) -> Shape:
    return tuple((name, tuple(part.shape)) for name, part in batch.items())
