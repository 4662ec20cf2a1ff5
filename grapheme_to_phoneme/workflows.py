"""Training and export from end to end: what joins the rooms of the package."""

import logging
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from grapheme_to_phoneme.configuration import OVERRIDES_NAME, save_config
from grapheme_to_phoneme.constants import CHECKPOINT_DIRECTORY, MODEL_FILENAME, SCORE_FILENAME
from grapheme_to_phoneme.errors import InterruptedTrainingError, UserError
from grapheme_to_phoneme.lexicon.data import LexiconData, load_data
from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.packaging.export import export_checkpoint
from grapheme_to_phoneme.training.alphabets import Alphabets
from grapheme_to_phoneme.training.callbacks import BEST_CHECKPOINT
from grapheme_to_phoneme.training.fitting import fit, load_start
from grapheme_to_phoneme.training.metrics import Score
from grapheme_to_phoneme.training.plots import (
    CHARTS_DIRECTORY,
    draw_curves,
    draw_errors,
    read_metrics,
)
from grapheme_to_phoneme.training.preparation import prepare
from grapheme_to_phoneme.training.scoring import format_table, write_score
from grapheme_to_phoneme.training.settings import (
    check_export_settings,
    check_settings,
    refuse_changes,
)
from grapheme_to_phoneme.training.teaching import take_lessons
from grapheme_to_phoneme.training.tracking import TrackingLogger, git_state

LOGGER = logging.getLogger(__name__)

#: Asked for as an example where a model knows its letters: hardly a lexicon has it.
EXAMPLE_WORD = "kubernetes"


def train(config: DictConfig, overrides: Sequence[str], run_directory: Path) -> None:
    """Train, export and report; go on from the last checkpoint where there is one.

    Args:
        config: the whole configuration.
        overrides: what it was composed from, saved beside the run.
        run_directory: the run's directory, new or of an interrupted run.

    Raises:
        UserError: if the data or the configuration does not allow a training.
        InterruptedTrainingError: if Ctrl-C ended it.
    """
    try:
        _train(config, overrides, run_directory)
    except KeyboardInterrupt as interruption:
        if not (run_directory / OVERRIDES_NAME).is_file():
            # Nothing has been begun.
            raise
        raise InterruptedTrainingError(
            f"interrupted: go on with `g2p train resume={run_directory}`"
        ) from interruption


def _train(config: DictConfig, overrides: Sequence[str], run_directory: Path) -> None:
    # Lightning gave itself a terminal handler when it was imported.
    logging.getLogger("lightning").handlers.clear()
    # The log's first line, from which its learning curve counts the seconds.
    LOGGER.info("training in %s", run_directory)
    refuse_changes(overrides, run_directory)
    start = load_start(config, overrides)
    check_settings(config)
    state = git_state()
    data = load_data(config)
    prepared = prepare(data, config.alignment, config.seed)
    begin = partial(save_config, config, overrides, run_directory)
    lessons = take_lessons(config, data, prepared, run_directory, state, begin)
    fitted = fit(config, data, prepared, run_directory, state, lessons, start, begin)
    target = run_directory / MODEL_FILENAME
    trainer = fitted.trainer
    if trainer.is_global_zero:
        references = fitted.prepared.dev_references
        score = export_checkpoint(fitted.best_checkpoint, target, references, config)
        _report(score, trainer.global_step, run_directory, config, state, fitted.loggers)
        _register(run_directory, config, fitted.loggers)
        example = _example(data, fitted.prepared.alphabets)
        LOGGER.info("try it: g2p infer --model %s %s", target, example)


def export(config: DictConfig, run_directory: Path, checkpoint: Path | None) -> Path:
    """Write the model file of a finished or interrupted run anew.

    Args:
        config: the run's configuration.
        run_directory: the run.
        checkpoint: another checkpoint of the run than its best.

    Raises:
        UserError: as :func:`check_export_settings` and :func:`export_checkpoint` do.
    """
    check_export_settings(config)
    best = run_directory / CHECKPOINT_DIRECTORY / f"{BEST_CHECKPOINT}.ckpt"
    references = group_by_spelling(load_data(config).dev)
    target = run_directory / MODEL_FILENAME
    score = export_checkpoint(checkpoint or best, target, references, config)
    LOGGER.info("dev part:\n%s", format_table(score))
    return target


def _example(data: LexiconData, alphabets: Alphabets) -> str:
    """Return the end of a command line that asks a model for a word that it can read."""
    if not data.languages and set(alphabets.letters).issuperset(EXAMPLE_WORD):
        return EXAMPLE_WORD
    spelling = (data.dev or data.train)[0].spelling
    for language in data.languages:
        if spelling.startswith(language.tag):
            return f"--language {language.code} {shlex.quote(spelling.removeprefix(language.tag))}"
    between = " " if data.normalization.symbols else ""
    return shlex.quote(between.join(map(data.normalization.symbol_of, spelling)))


def _report(
    score: Score,
    step: int,
    run_directory: Path,
    config: DictConfig,
    state: dict[str, str],
    loggers: Sequence[Logger],
) -> None:
    """Draw the charts, write the score, and log both, as of the last training step.

    ``state`` is that of the source when the training began; by now it may be another.
    """
    caption = (
        f"{config.data.name}, stress {config.preprocessing.stress}, seed {config.seed}, "
        f"commit {state['git_commit'][:10]}{'+' if state['git_dirty'] == 'true' else ''}"
    )
    charts = run_directory / CHARTS_DIRECTORY
    files = draw_curves(read_metrics(run_directory), charts, caption)
    files += draw_errors(score, charts, caption)
    score_file = run_directory / SCORE_FILENAME
    write_score(score, {"part": "dev", **state}, score_file)
    for logger in loggers:
        logger.log_metrics({"exported/dev_wer": score.wer, "exported/dev_per": score.per}, step)
        if isinstance(logger, TrackingLogger):
            for path in (*files, score_file, run_directory / MODEL_FILENAME):
                logger.log_file(path)
        logger.finalize("success")
    LOGGER.info("dev part, by the exported model:\n%s", format_table(score))


def _register(run_directory: Path, config: DictConfig, loggers: Sequence[Logger]) -> None:
    """Register the model where the run was logged; a store that was fallen back on is no registry.

    It is a file of the folder that the training ran in, which no server reads, and would keep
    every trial's model for ever. A registration that fails is no reason to fail the training.
    """
    has_server = any(
        isinstance(logger, TrackingLogger) and not logger.is_local for logger in loggers
    )
    if not has_server or not config.logger.registered_model:
        return
    from grapheme_to_phoneme.packaging.mlflow_model import register_run

    try:
        registration = register_run(run_directory, config, alias=None)
    except UserError as error:
        LOGGER.warning(
            "not registered: %s; later: g2p register --run %s", str(error), run_directory
        )
    else:
        LOGGER.info("registered in MLflow as %s", registration.address)
