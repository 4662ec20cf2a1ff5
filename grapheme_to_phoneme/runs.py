"""The directories of runs, found or made; without PyTorch, for which no command should wait."""

import logging
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.configuration import load_overrides
from grapheme_to_phoneme.constants import CHECKPOINT_DIRECTORY, MODEL_FILENAME
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.storage import pull, recorded_md5

LOGGER = logging.getLogger(__name__)

#: The override of ``g2p train`` that names a run to go on with.
RESUME = "resume="

#: The setting that names the directory of a run.
RUN_DIRECTORY = "paths.run_dir"

#: Tells the processes of a distributed training where the first one writes.
RUN_DIRECTORY_VARIABLE = "G2P_RUN_DIRECTORY"


def new_run_directory(config: DictConfig) -> Path:
    """Return the directory of a new run, ``paths.run_dir`` or one named by the time.

    The further processes of a distributed training, which Lightning starts with the same
    command line, get the directory of the first.

    Raises:
        UserError: if the directory holds a run already.
    """
    if "LOCAL_RANK" in os.environ and RUN_DIRECTORY_VARIABLE in os.environ:
        return Path(os.environ[RUN_DIRECTORY_VARIABLE])
    directory = _choose_run_directory(config)
    os.environ[RUN_DIRECTORY_VARIABLE] = str(directory)
    return directory


def _choose_run_directory(config: DictConfig) -> Path:
    if config.paths.run_dir is None:
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        return Path(config.paths.runs_dir) / name
    directory = Path(config.paths.run_dir)
    if (directory / CHECKPOINT_DIRECTORY).exists():
        raise UserError(
            f"{directory} holds a run already: go on with it by `g2p train resume={directory}`, "
            "or choose another paths.run_dir"
        )
    return directory


def resumed_run(overrides: Sequence[str]) -> tuple[Path | None, tuple[str, ...]]:
    """Return the run to go on with, None for a new one, and what to train it with.

    Args:
        overrides: the command line's; those other than ``resume=DIR`` change the run's own.

    Raises:
        UserError: if there is no such run.
    """
    named = [text for text in overrides if text.startswith(RESUME)]
    if not named:
        return None, tuple(overrides)
    directory = Path(named[-1].removeprefix(RESUME))
    changes = [text for text in overrides if text not in named]
    return directory, (*load_overrides(directory), *changes)


def newest_run(config: DictConfig) -> Path:
    """Return the run with a checkpoint that was changed last, and tell of it.

    Raises:
        UserError: if there is none in ``paths.runs_dir``.
    """
    directory = _newest(config, CHECKPOINT_DIRECTORY).parent
    LOGGER.info("run: %s (the newest)", directory)
    return directory


def model_path(config: DictConfig, given: str | None) -> Path:
    """Return the model that is named, or else the newest trained one, and tell of that.

    One that is not here but under DVC, as packages are in another clone, is fetched.

    Args:
        config: the configuration; ``paths`` and ``storage`` are used.
        given: a model file or the folder of a package; None for the newest trained model.

    Raises:
        UserError: if there is none in ``paths.runs_dir``, or DVC's remote does not give it.
    """
    if given is not None:
        path = Path(given)
        if not path.exists() and recorded_md5(path):
            LOGGER.info("fetching %s from the DVC remote", path)
            outcome = pull([path], config.storage)
            if not outcome.done:
                raise UserError(f"{path} is not here, and not from DVC: {outcome.reason}")
        return path
    path = _newest(config, MODEL_FILENAME)
    LOGGER.info("model: %s (the newest)", path)
    return path


def _newest(config: DictConfig, name: str) -> Path:
    """Return the file or folder of that name in the run that was changed last."""
    found = Path(config.paths.runs_dir).glob(f"*/{name}")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        raise UserError(
            f"there is no trained model in {config.paths.runs_dir}: "
            "train one with `g2p train experiment=quick`, or name one with --model or --run"
        )
    return newest
