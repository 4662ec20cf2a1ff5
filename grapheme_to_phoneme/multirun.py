"""Many trainings by one command, such as one for each language, where and how Hydra launches them.

Hydra's sweeper expands the values that are listed, and one of its launchers runs the jobs: one
after another, side by side, or on a cluster. A job is the ordinary command in a process of its
own, so that whatever ends one of them leaves the others alone.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from statistics import fmean
from typing import Any
from urllib.parse import quote

from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.configuration import (
    OVERRIDES_NAME,
    compose_config,
    config_directory,
    explained,
    load_overrides,
    named_keys,
    quoted,
)
from grapheme_to_phoneme.constants import DISTRIBUTION_NAME, MODEL_FILENAME, SCORE_FILENAME
from grapheme_to_phoneme.errors import MissingDependencyError, UserError
from grapheme_to_phoneme.presets import PRESET, UNICODE_FORM, UNICODE_FORMS
from grapheme_to_phoneme.runs import RESUME, RUN_DIRECTORY

LOGGER = logging.getLogger(__name__)

#: Runs the ordinary command line with what follows.
PROGRAM = "from grapheme_to_phoneme.commands import main; main()"

#: Of each run: what its process said, and how it ended.
OUTPUT_NAME = "output.log"
RESULT_NAME = "result.yaml"

#: Of all of them.
TABLE_NAME = "results.tsv"

#: How overrides of Hydra itself begin, and those of the group ``multirun``.
HYDRA_PREFIXES = ("hydra.", "hydra/")
OWN_PREFIXES = ("multirun.", "multirun=")

#: What a training lets its lexicon decide.
AUTOMATIC = frozenset({PRESET, UNICODE_FORM, UNICODE_FORMS})

#: The packages of launchers that Hydra itself does not have; the extra ``multirun`` brings them.
PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
}


@dataclass(frozen=True)
class Job:
    """One of the trainings.

    Attributes:
        name: the listed values that it has; its folder's name.
        overrides: its overrides.
    """

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """How a training ended.

    Attributes:
        name: see :class:`Job`.
        directory: its folder.
        failure: why there is no model; empty where there is one.
        words: words of the dev part.
        wer: word error rate of the exported model on them, in percent.
        per: phoneme error rate, in percent.
        seconds: that the trainings of the folder took, all tries together.
    """

    name: str
    directory: str
    failure: str = ""
    words: int = 0
    wer: float = 0.0
    per: float = 0.0
    seconds: float = 0.0


def run_all(overrides: Sequence[str]) -> tuple[list[Result], Path]:
    """Train with every combination of the values that the overrides list.

    What an earlier call has finished in the same folder is not done again, and what it has
    begun is resumed.

    Args:
        overrides: Hydra overrides, of which at least one lists values, ``data.language=ita,fra``.

    Returns:
        How each training ended, in the order of the values, and the folder of them all.

    Raises:
        UserError: if no values are listed, if an override or the launcher does not exist, if
            the folder holds runs with other settings, or if a run is named to go on with.
        MissingDependencyError: if the launcher's package is not installed.
    """
    if any(text.startswith(RESUME) for text in overrides):
        raise UserError("--multirun goes on by itself: say multirun.dir=DIR of the earlier one")
    own = [text for text in overrides if text.lstrip("+~").startswith(HYDRA_PREFIXES)]
    # How trainings are launched is no setting of theirs.
    ours = [text for text in overrides if text.lstrip("+~").startswith(OWN_PREFIXES)]
    given = [text for text in overrides if text not in (*own, *ours)]
    jobs, swept = expand(given)
    config = compose_config([*jobs[0].overrides, *ours])
    settings = config.multirun
    name = datetime.now().strftime("multirun_%Y-%m-%d_%H-%M-%S")
    directory = Path(settings.dir or Path(config.paths.runs_dir) / name)
    _require_plugin(settings.launcher)
    for job in jobs:
        _check_settings(job, directory / job.name)
    LOGGER.info("%d trainings, in %s: %s", len(jobs), directory, ", ".join(_names(jobs)))
    try:
        hydra_overrides = [
            *_launcher_overrides(settings, own),
            *_folder_overrides(directory),
            *own,
        ]
        _launch([*given, *hydra_overrides], swept, settings.threads)
    except UserError:
        raise
    # Whatever a launcher raises for a job that it lost: the others have results.
    except Exception as error:
        LOGGER.warning("the launcher %s: %s", settings.launcher, error)
    return [read_result(job.name, directory / job.name) for job in jobs], directory


def _require_plugin(launcher: str) -> None:
    plugin = PLUGINS.get(launcher)
    installed = {module.name for module in iter_modules(_plugin_folders())}
    if plugin is not None and plugin not in installed:
        raise MissingDependencyError(
            f"the launcher {launcher} needs {plugin.replace('_', '-')}: "
            f"pip install '{DISTRIBUTION_NAME}[multirun]'"
        )


def _plugin_folders() -> Iterable[str]:
    """Return the folders of Hydra's plugins, which share a package without a file of its own."""
    package = find_spec("hydra_plugins")
    return () if package is None else package.submodule_search_locations or ()


def expand(overrides: Sequence[str]) -> tuple[list[Job], list[str]]:
    """Return a job for each combination of the values that overrides list, and the keys listed.

    Raises:
        UserError: if none lists any, or the same values come twice.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with explained():
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        combinations = [
            combination
            for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None)
            for combination in batch
        ]
    swept = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    if not swept:
        raise UserError("--multirun needs several values somewhere, as in data.language=ita,fra")
    jobs = [Job(_name(combination, swept), tuple(combination)) for combination in combinations]
    if len(set(_names(jobs))) < len(jobs):
        raise UserError(f"--multirun has the same values twice: {', '.join(_names(jobs))}")
    return jobs, swept


def _names(jobs: Iterable[Job]) -> list[str]:
    return [job.name for job in jobs]


def _name(overrides: Iterable[str], swept: Sequence[str]) -> str:
    """Return the values of the listed keys, fit for a folder's name."""
    pairs = (text.partition("=") for text in overrides)
    return "_".join(quote(value, safe="") for key, _, value in pairs if key in swept)


def _launcher_overrides(settings: DictConfig, own: Sequence[str]) -> list[str]:
    """Return what tells Hydra how to launch, unless its own overrides do."""
    if any(text.startswith("hydra/launcher=") for text in own):
        return []
    launcher = OmegaConf.to_container(settings.settings, resolve=True)
    return [
        f"hydra/launcher={settings.launcher}",
        *(f"hydra.launcher.{name}={_as_override(value)}" for name, value in launcher.items()),
    ]


def _as_override(value: object) -> str:
    """Return a value as Hydra reads it; a text with commas would be several."""
    if isinstance(value, str):
        return quoted(value)
    return "null" if value is None else str(value)


def _folder_overrides(directory: Path) -> list[str]:
    """Return what tells Hydra to leave logs and folders to us."""
    return [
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        "hydra.output_subdir=null",
        f"hydra.sweep.dir={quoted(str(directory))}",
        "hydra.sweep.subdir=.",
    ]


def _launch(overrides: Sequence[str], swept: Sequence[str], threads: int | None) -> None:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    task = partial(train_one, swept=tuple(swept), threads=threads)
    with (
        explained(),
        initialize_config_dir(
            config_dir=str(config_directory()), job_name="train", version_base="1.3"
        ),
    ):
        # What `hydra.main` calls for --multirun; the command line itself is fire's.
        GlobalHydra.instance().hydra.multirun("config", task, list(overrides))


def train_one(config: DictConfig, swept: Sequence[str], threads: int | None) -> str:
    """Train as Hydra's job says: what a launcher calls, wherever it does.

    Args:
        config: the job's configuration; the job's own overrides are what counts.
        swept: the keys that tell jobs apart.
        threads: that the training may take; None says nothing.

    Returns:
        What became of it, in a line.
    """
    from hydra.core.hydra_config import HydraConfig

    overrides = tuple(HydraConfig.get().overrides.task)
    job = Job(_name(overrides, swept), overrides)
    result = train_job(job, Path(HydraConfig.get().runtime.output_dir) / job.name, threads)
    told = f"{job.name}: {result.failure or f'dev WER {result.wer:.2f}'}"
    # A launcher's process has no logging of ours.
    sys.stderr.write(f"{told}\n")
    return told


def train_job(job: Job, directory: Path, threads: int | None = None) -> Result:
    """Run a training in a process of its own, unless its folder has its model already.

    Args:
        job: what to train.
        directory: the run's folder; one that an earlier try has begun is gone on with.
        threads: that the training may take; None says nothing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if _is_finished(directory):
        return read_result(job.name, directory)
    arguments = [*job.overrides, f"{RUN_DIRECTORY}={quoted(str(directory))}"]
    if (directory / OVERRIDES_NAME).is_file():
        arguments = [f"resume={directory}"]
    before = read_result(job.name, directory)
    environment = dict(os.environ)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    started = time.monotonic()
    with (directory / OUTPUT_NAME).open("ab") as output:
        status = subprocess.run(
            [sys.executable, "-c", PROGRAM, "train", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        ).returncode
    seconds = before.seconds + time.monotonic() - started
    values: dict[str, Any] = {"seconds": round(seconds, 1), "status": status}
    if status:
        values["failure"] = _last_line(directory / OUTPUT_NAME) or f"ended with status {status}"
    OmegaConf.save(OmegaConf.create(values), directory / RESULT_NAME)
    return read_result(job.name, directory)


def _check_settings(job: Job, directory: Path) -> None:
    if not (directory / OVERRIDES_NAME).is_file():
        return
    begun, now = (
        set(overrides) - {text for text in overrides if text.startswith(f"{RUN_DIRECTORY}=")}
        for overrides in (load_overrides(directory), job.overrides)
    )
    # What the lexicon has chosen, where this job leaves it to the lexicon as well.
    automatic = AUTOMATIC - named_keys(job.overrides)
    chosen = {text for text in begun if named_keys([text]) <= automatic}
    if begun - chosen != now:
        raise UserError(
            f"{directory} holds a run with other settings: choose another multirun.dir"
        )


def _is_finished(directory: Path) -> bool:
    """Return whether a run has all that its training writes; the scores come last."""
    return all((directory / name).is_file() for name in (MODEL_FILENAME, SCORE_FILENAME))


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    told = [line.strip() for line in lines if line.strip()]
    return told[-1].removeprefix("g2p: error: ") if told else ""


def read_result(name: str, directory: Path) -> Result:
    """Return how the training of a folder ended."""
    path = directory / RESULT_NAME
    values = dict(OmegaConf.load(path)) if path.is_file() else {}
    seconds = float(values.get("seconds", 0.0))
    if not _is_finished(directory):
        failure = str(values.get("failure", "it has not ended"))
        return Result(name, str(directory), failure, seconds=seconds)
    score = OmegaConf.load(directory / SCORE_FILENAME)
    return Result(name, str(directory), "", score.words, score.wer, score.per, seconds)


def write_table(results: Sequence[Result], directory: Path) -> str:
    """Write the results into the folder of them all, and return the table."""
    table = "".join(f"{line}\n" for line in format_results(results))
    (directory / TABLE_NAME).write_text(table, encoding="utf-8")
    return table


def format_results(results: Sequence[Result]) -> list[str]:
    """Return a table of the results, columns separated by tabs, with their mean at the end."""
    lines = ["name\twords\tWER\tPER\tseconds\trun"]
    for result in results:
        scores = f"{result.words}\t{result.wer:.2f}\t{result.per:.2f}"
        if result.failure:
            scores = "-\t-\t-"
        end = f"\tfailed: {result.failure}" if result.failure else ""
        lines.append(f"{result.name}\t{scores}\t{result.seconds:.0f}\t{result.directory}{end}")
    finished = [result for result in results if not result.failure]
    if finished:
        means = (
            f"{fmean(getattr(result, name) for result in finished):.2f}" for name in ("wer", "per")
        )
        words = sum(result.words for result in finished)
        seconds = sum(result.seconds for result in finished)
        lines.append("\t".join(["mean", f"{words}", *means, f"{seconds:.0f}", "-"]))
    return lines
