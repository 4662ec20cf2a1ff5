"""Callbacks: what Lightning has, put together from the configuration, and some small ones."""

import logging
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ThroughputMonitor,
    TQDMProgressBar,
    WeightAveraging,
)
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from omegaconf import DictConfig
from torch import Tensor

from grapheme_to_phoneme.constants import CHECKPOINT_DIRECTORY
from grapheme_to_phoneme.training.data_module import Batch

LOGGER = logging.getLogger(__name__)

ParameterList = tuple[Tensor, ...] | list[Tensor]

#: Lightning's throughput is a difference between two steps.
FEWEST_STEPS = 2

BEST_CHECKPOINT = "best"
LAST_CHECKPOINT = "last"


def words_in(batch: Batch) -> int:
    """Return the number of words of a batch, for the throughput."""
    return len(batch["letters"])


class TimeLeft(Callback):
    """Measures how long the steps of this process took and what the rest will take.

    Validation counts as part of the steps around it.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock: steps made before a run was resumed took no time here."""
        self._start_time = time.monotonic()
        self._start_step = trainer.global_step

    def seconds(self, trainer: pl.Trainer) -> float | None:
        """Return the estimated seconds left, or None before the first step."""
        done = trainer.global_step - self._start_step
        if not done:
            return None
        left = float(trainer.estimated_stepping_batches) - trainer.global_step
        return (time.monotonic() - self._start_time) / done * left


class TrainingProgressBar(TQDMProgressBar):
    """Lightning's bar of an epoch, with the time left for the whole training beside it."""

    def __init__(self, time_left: TimeLeft, refresh_rate: int) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._time_left = time_left

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Add ``left`` and take out Lightning's version number, which tells nothing."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        seconds = self._time_left.seconds(trainer)
        if seconds is not None:
            metrics["left"] = format_seconds(seconds)
        return metrics


class EpochLog(Callback):
    """Logs one line for every validation, so that a log file tells the run's story."""

    def __init__(self, time_left: TimeLeft) -> None:
        self._time_left = time_left

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the losses, the error rates and the time left."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        values = {
            name: float(metrics[key])
            for name, key in (
                ("training loss", "train/loss"),
                ("dev loss", "validation/loss"),
                ("dev WER", "validation/wer"),
                ("dev PER", "validation/per"),
            )
            if key in metrics
        }
        seconds = self._time_left.seconds(trainer)
        LOGGER.info(
            "epoch %d of %s: %s%s",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            ", ".join(f"{name} {value:.3f}" for name, value in values.items()),
            "" if seconds is None else f", {format_seconds(seconds)} left",
        )


def format_seconds(seconds: float) -> str:
    """Return ``seconds`` as h:mm:ss."""
    return str(timedelta(seconds=round(max(0.0, seconds))))


class Resumption(Callback):
    """Goes on as Lightning's own callbacks left off, where they would not by themselves."""

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Tell the callbacks where the run lies now: in another folder they forget the best."""
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if not state or not isinstance(callback, ModelCheckpoint):
                continue
            folder = Path(str(callback.dirpath))
            state["dirpath"] = str(folder)
            for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
                state[name] = state[name] and str(folder / Path(state[name]).name)
            state["best_k_models"] = {
                str(folder / Path(path).name): score
                for path, score in state["best_k_models"].items()
            }

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave a training alone that was stopped early: it would learn on for some epochs."""
        stopping = trainer.early_stopping_callback
        if stopping and stopping.stopping_reason is not EarlyStoppingReason.NOT_STOPPED:
            trainer.should_stop = True


class LastEpochCounts(Callback):
    """Validates after the last epoch, too, where Lightning does after every third, say.

    What had been learnt since would be lost.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make Lightning validate after this epoch, if it is the last."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


class ExponentialAverage:
    """An exponential moving average for :class:`WeightAveraging`.

    Early on the decay is smaller, so that a short training does not end with an average that
    still remembers its random beginning. Lightning's own ``EMAWeightAveraging`` has one decay
    for all steps.

    Args:
        decay: weight of the old average, 0 to 1.
        warmup: after n steps the weight is at most (1 + n) / (warmup + n).
    """

    def __init__(self, decay: float, warmup: int) -> None:
        self._decay = decay
        self._warmup = warmup
        self._done: int | None = None

    @torch.no_grad()
    def __call__(self, averaged: ParameterList, current: ParameterList, steps: Tensor) -> None:
        """Move the average to the current weights; ``steps`` is the number of those before."""
        # Counted here, since to read it from a GPU is to wait until that has ended the step.
        self._done = int(steps) if self._done is None else self._done + 1
        decay = min(self._decay, (1.0 + self._done) / (self._warmup + self._done))
        torch._foreach_lerp_(list(averaged), list(current), 1.0 - decay)


class AverageBesideNetwork(WeightAveraging):
    """Weight averaging on the device of the training.

    Lightning makes the average before it moves the network, and would leave it behind: a GPU
    would copy all weights to the processor's memory in every step.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the average where the network will be."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            # Read in every step, for which the processor would wait until a GPU has ended it.
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()


def build_callbacks(
    config: DictConfig, run_directory: Path, steps_per_epoch: int
) -> list[Callback]:
    """Put the callbacks together.

    Args:
        config: the group ``callbacks``.
        run_directory: where the checkpoints go.
        steps_per_epoch: bounds the steps that the throughput is averaged over.
    """
    throughput_window = max(FEWEST_STEPS, min(config.throughput_window, steps_per_epoch))
    checkpoints = run_directory / CHECKPOINT_DIRECTORY
    time_left = TimeLeft()
    callbacks: list[Callback] = [
        time_left,
        AverageBesideNetwork(multi_avg_fn=ExponentialAverage(**config.weight_averaging)),
        EarlyStopping(
            monitor="validation/wer",
            patience=config.early_stopping.patience,
            min_delta=config.early_stopping.min_delta,
        ),
        ModelCheckpoint(
            dirpath=checkpoints,
            filename=BEST_CHECKPOINT,
            monitor="validation/wer",
            enable_version_counter=False,
        ),
        # Written whole or not at all: what resume goes on from.
        ModelCheckpoint(
            dirpath=checkpoints,
            filename=LAST_CHECKPOINT,
            every_n_epochs=config.resumable_every_n_epochs,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        LearningRateMonitor(logging_interval="step"),
        ThroughputMonitor(batch_size_fn=words_in, window_size=throughput_window),
        EpochLog(time_left),
        Resumption(),
        LastEpochCounts(),
    ]
    if sys.stderr.isatty():
        callbacks.append(TrainingProgressBar(time_left, config.progress_refresh_rate))
    return callbacks
