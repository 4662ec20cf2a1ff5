"""Refuses settings before a training that could not have them, and says why."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

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

#: The least that settings may be which PyTorch and Lightning take and stumble over later.
LEAST = {
    "callbacks.resumable_every_n_epochs": 1,
    "callbacks.weight_averaging.warmup": 1,
    "distillation.imagined_order": 1,
    "distillation.imagined_words": 0,
    "distillation.kept_chunks": 1,
    "distillation.letters_per_batch": 1,
    "export.member_weight_parts": 1,
    "export.temperature_steps": 1,
    "seed": 0,
    "trainer.batches.dev_letters_per_batch": 1,
    "trainer.batches.least_words": 0,
    "trainer.batches.letters_per_batch": 1,
    "trainer.batches.workers": 0,
    "trainer.lightning.accumulate_grad_batches": 1,
    "trainer.lightning.check_val_every_n_epoch": 1,
    "trainer.lightning.log_every_n_steps": 0,
    "trainer.lightning.max_epochs": 1,
}

#: From where to where settings may be that the export would stumble over when all is trained.
RANGES = {
    "export.equalization": (0, 1),
    "export.member_weight_caution": (0, math.inf),
    "export.tolerance": (0, math.inf),
    "export.tolerated_loss": (0, math.inf),
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
            for name, least in LEAST.items():
                value = OmegaConf.select(settings, name)
                if type(value) is not int or value < least:
                    raise UserError(
                        f"{name} takes a whole number of at least {least}, not {value}"
                    )
            for name, bounds in RANGES.items():
                _check_number(name, OmegaConf.select(settings, name), *bounds)
            if settings.seed > LARGEST_SEED:
                raise UserError(f"seed takes at most {LARGEST_SEED}, not {settings.seed}")
            _check_temperatures(list(settings.export.temperature_range))
            build_dimensions(settings, letters=1, chunks=1)
            build_optimizer_settings(settings)
            try:
                # The training itself will tell which hardware it has found.
                logging.disable(logging.INFO)
                build_trainer(settings, steps_per_epoch=1)
            finally:
                logging.disable(logging.NOTSET)


def _check_number(name: str, value: object, lowest: float, highest: float) -> None:
    """Refuse what is no number, or outside of its bounds."""
    if type(value) not in (int, float) or not lowest <= value <= highest:
        bounds = f"at least {lowest}" if highest == math.inf else f"from {lowest} to {highest}"
        raise UserError(f"{name} takes a number {bounds}, not {value}")


def _check_temperatures(bounds: list[object]) -> None:
    """Refuse now what the export would stumble over when all is trained."""
    are_numbers = all(type(bound) in (int, float) for bound in bounds)
    if len(bounds) != 2 or not are_numbers or not 0 < bounds[0] <= bounds[1]:
        raise UserError(
            f"export.temperature_range takes two numbers above 0, lower first, not {bounds}"
        )


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
