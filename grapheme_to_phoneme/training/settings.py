"""Refuses settings before a training that could not have them, and says why."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.configuration import (
    compose_config,
    explained,
    flatten,
    load_overrides,
)
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.training.callbacks import LAST_CHECKPOINT
from grapheme_to_phoneme.training.fitting import (
    build_dimensions,
    build_optimizer_settings,
    build_trainer,
)
from grapheme_to_phoneme.training.teaching import teachers_of

#: What is in the weights, the schedule or the lessons of a training that has begun: settings, and
#: groups of them.
SETTLED = (
    "alignment",
    "callbacks.early_stopping",
    "data.balance",
    "data.language",
    "data.notation",
    "direction",
    "distillation",
    "model",
    "optimizer",
    "preprocessing.normalization",
    "preprocessing.stress",
    "seed",
    "start_run",
    "trainer.batches.least_words",
    "trainer.batches.letters_per_batch",
    "trainer.lightning.accumulate_grad_batches",
    "trainer.lightning.devices",
    "trainer.lightning.limit_train_batches",
    "trainer.lightning.max_epochs",
    "trainer.lightning.max_steps",
    "trainer.lightning.num_nodes",
)


@dataclass(frozen=True)
class Kind:
    """What a setting must be.

    Attributes:
        description: what it takes, for a message.
        holds: tells whether a value is that.
    """

    description: str
    holds: Callable[[Any], bool]


def _whole(least: int) -> Kind:
    return Kind(
        f"a whole number of at least {least}",
        lambda value: type(value) is int and value >= least,
    )


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


COUNT, COUNT_OR_NONE = _whole(1), _whole(0)
COUNTS = Kind(
    "a list of whole numbers of at least 1",
    lambda value: type(value) is list and value != [] and all(map(COUNT.holds, value)),
)
POSITIVE = Kind("a number of at least 0", lambda value: _is_number(value) and value >= 0)
SHARES = Kind(
    "a list of numbers from 0 to 1",
    lambda value: type(value) is list
    and value != []
    and all(_is_number(item) and 0 <= item <= 1 for item in value),
)
RANGE = Kind(
    "two numbers above 0, lower first",
    lambda value: type(value) is list
    and len(value) == 2
    and all(map(_is_number, value))
    and 0 < value[0] <= value[1],
)

#: Settings that are taken as they are, and stumbled over when much has been done.
KINDS = {
    "callbacks.resumable_every_n_epochs": COUNT,
    "callbacks.weight_averaging.warmup": COUNT,
    "distillation.imagined_order": COUNT,
    "distillation.imagined_words": COUNT_OR_NONE,
    "distillation.kept_chunks": COUNT,
    "distillation.letters_per_batch": COUNT,
    "export.calibration_words": COUNT,
    "export.core_beam_size": COUNT,
    "export.equalization": SHARES,
    "export.latency_words": COUNT,
    "export.member_weight_caution": POSITIVE,
    "export.member_weight_parts": COUNT,
    "export.parity_batch_sizes": COUNTS,
    "export.parity_beam_sizes": COUNTS,
    "export.parity_words": COUNT,
    "export.temperature_range": RANGE,
    "export.temperature_steps": COUNT,
    "export.temperature_words": COUNT,
    "export.tolerance": POSITIVE,
    "export.tolerated_loss": POSITIVE,
    "seed": COUNT_OR_NONE,
    "trainer.batches.dev_letters_per_batch": COUNT,
    "trainer.batches.least_words": COUNT_OR_NONE,
    "trainer.batches.letters_per_batch": COUNT,
    "trainer.batches.workers": COUNT_OR_NONE,
    "trainer.lightning.accumulate_grad_batches": COUNT,
    "trainer.lightning.check_val_every_n_epoch": COUNT,
    "trainer.lightning.log_every_n_steps": COUNT_OR_NONE,
    "trainer.lightning.max_epochs": COUNT,
}

#: The largest seed that Lightning takes.
LARGEST_SEED = 2**32 - 1


def check_settings(config: DictConfig) -> None:
    """Refuse settings that no training can have, before it reads and writes anything.

    Raises:
        UserError: naming the first, of the training itself or of a teacher's.
        MissingDependencyError: if the hardware that is asked for is not here.
    """
    with explained():
        teachers = [item for item in teachers_of(config).values() if isinstance(item, DictConfig)]
        for settings in (config, *teachers):
            _check_kinds(settings)
            if settings.seed > LARGEST_SEED:
                raise UserError(f"seed takes at most {LARGEST_SEED}, not {settings.seed}")
            build_dimensions(settings, letters=1, chunks=1)
            build_optimizer_settings(settings)
            try:
                # The training itself will tell which hardware it has found.
                logging.disable(logging.INFO)
                build_trainer(settings, steps_per_epoch=1)
            finally:
                logging.disable(logging.NOTSET)


def check_export_settings(config: DictConfig) -> None:
    """Refuse settings that no export can have, before it reads anything.

    Raises:
        UserError: naming the first.
    """
    with explained():
        _check_kinds(config, "export.")


def _check_kinds(config: DictConfig, group: str = "") -> None:
    """Refuse values of other kinds than :data:`KINDS` has, in all groups or in one."""
    for name, kind in KINDS.items():
        if name.startswith(group):
            value = OmegaConf.select(config, name)
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value)
            if not kind.holds(value):
                raise UserError(f"{name} takes {kind.description}, not {value}")


def refuse_changes(overrides: Sequence[str], run_directory: Path) -> None:
    """Refuse settings that a training cannot take any more, since it has begun with others.

    They would be ignored, or what is restored would not fit them, and the run's record would
    say that they had counted.

    Raises:
        UserError: naming the first.
    """
    if not any(run_directory.rglob(f"{LAST_CHECKPOINT}.ckpt")):
        return
    before, now = (
        flatten(compose_config(list(texts)))
        for texts in (load_overrides(run_directory), overrides)
    )
    for name in sorted(before.keys() | now.keys()):
        is_settled = any(f"{name}.".startswith(f"{settled}.") for settled in SETTLED)
        if is_settled and before.get(name) != now.get(name):
            raise UserError(
                f"{name} was {before.get(name, 'not set')} when this training began, and cannot "
                f"be changed any more: leave {name} out, or begin a new run, with "
                f"start_run={run_directory} from what this one has learnt"
            )
