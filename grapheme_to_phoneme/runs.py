"""The directories of runs; without PyTorch, so that a training begins by reading its lexicon."""

import os
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.constants import CHECKPOINT_DIRECTORY
from grapheme_to_phoneme.errors import UserError

#: The setting that names the directory of a run.
RUN_DIRECTORY = "paths.run_dir"

#: Tells the processes of a distributed training where the first one writes.
RUN_DIRECTORY_VARIABLE = "G2P_RUN_DIRECTORY"


def new_run_directory(config: DictConfig) -> Path:
    """Return the directory of a new run, ``paths.run_dir`` or one named by the time.

    The further processes of a distributed training, which Lightning starts with the same
    command line, get the directory of the first.

    Raises:
        UserError: if the directory holds a run already, or is no path.
    """
    if "LOCAL_RANK" in os.environ and RUN_DIRECTORY_VARIABLE in os.environ:
        return Path(os.environ[RUN_DIRECTORY_VARIABLE])
    directory = _choose_run_directory(config)
    os.environ[RUN_DIRECTORY_VARIABLE] = str(directory)
    return directory


def _choose_run_directory(config: DictConfig) -> Path:
    directory = path_of(config.paths.run_dir, RUN_DIRECTORY)
    if directory is None:
        name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        return Path(config.paths.runs_dir) / name
    if (directory / CHECKPOINT_DIRECTORY).exists():
        raise UserError(
            f"{directory} holds a run already: go on with it by `g2p train resume={directory}`, "
            "or choose another paths.run_dir"
        )
    return directory


def path_of(value: object, setting: str) -> Path | None:
    """Return the path that a setting gives, None where it gives none.

    Raises:
        UserError: if it is no text; Hydra reads digits alone as a number.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise UserError(f"{setting} takes a path, not the value {value}: write {setting}=./NAME")
    return Path(value)
