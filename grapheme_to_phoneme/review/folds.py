"""Divides a lexicon into folds, and has each judged by a model of the others."""

import json
import logging
import multiprocessing
import os
import random
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.constants import CHECKPOINT_DIRECTORY
from grapheme_to_phoneme.errors import InterruptedTrainingError, UserError
from grapheme_to_phoneme.inference.pronouncer import available_cores
from grapheme_to_phoneme.lexicon.data import LexiconData, load_part
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling, ungroup
from grapheme_to_phoneme.lexicon.files import replacing
from grapheme_to_phoneme.lexicon.preprocessing import build_normalization
from grapheme_to_phoneme.lexicon.splitting import split_sha256
from grapheme_to_phoneme.review.scoring import Judgement, judge
from grapheme_to_phoneme.terminal import set_up_logging
from grapheme_to_phoneme.training.fitting import fit
from grapheme_to_phoneme.training.lightning_module import load_checkpoint
from grapheme_to_phoneme.training.preparation import prepare
from grapheme_to_phoneme.training.settings import check_settings
from grapheme_to_phoneme.training.tracking import git_state

LOGGER = logging.getLogger(__name__)

#: What a folder's finished folds were made from.
ORIGIN_NAME = "review.yaml"

#: Groups of the configuration that decide what a fold's model says.
DECIDING_GROUPS = (
    "alignment",
    "callbacks",
    "model",
    "optimizer",
    "preprocessing",
    "seed",
    "trainer",
)


def review(lexicon: Path, config: DictConfig, directory: Path) -> list[Judgement]:
    """Judge every entry of a lexicon by a model that has not seen its word.

    The folds are trained in processes of their own. A fold that is finished is kept in the
    folder, an interrupted one goes on from its last epoch.

    Args:
        lexicon: the lexicon.
        config: the whole configuration.
        directory: the folder for what the folds leave.

    Returns:
        The judgements, those of the least probable pronunciations first.

    Raises:
        UserError: if the lexicon cannot be read or is too small, if the folder holds the
            review of another one, or if a fold cannot be trained.
    """
    if config.start_run is not None:
        raise UserError(
            "start_run: what a finished run has learnt from may vouch for itself in a review: "
            "leave it out"
        )
    check_settings(config)
    entries = load_part(config, lexicon)
    folds = divide(entries, config.review.folds, config.review.least_words, config.seed)
    _claim(directory, entries, config)
    missing = [
        number for number in range(len(folds)) if not _scores_path(directory, number).exists()
    ]
    if len(missing) < len(folds):
        LOGGER.info("%d of %d folds are finished already", len(folds) - len(missing), len(folds))
    if missing:
        _run_folds(folds, missing, config, directory)
    judgements = [
        judgement for number in range(len(folds)) for judgement in _read(directory, number)
    ]
    # Ties by spelling, so that the list does not depend on the folds.
    return sorted(judgements, key=lambda item: (-item.log_ratio, item.spelling, item.given_phones))


def divide(entries: Sequence[Entry], folds: int, least_words: int, seed: int) -> list[list[Entry]]:
    """Divide a lexicon by spelling into folds of nearly equal size.

    Args:
        entries: the lexicon.
        folds: number of folds.
        least_words: fewest words that the other folds must have together.
        seed: seeds the division.

    Raises:
        UserError: if there are too few words or folds.
    """
    if folds < 2:
        raise UserError(f"review.folds must be at least 2, not {folds}")
    groups = group_by_spelling(entries)
    spellings = sorted(groups)
    left = len(spellings) - -(-len(spellings) // folds)
    if left < least_words or len(spellings) < folds:
        raise UserError(
            f"a lexicon of {len(spellings):,} words is too small for {folds} folds: each model "
            f"would learn from {left:,}, and needs {least_words:,} (review.least_words)"
        )
    # The same numbers on every platform are wanted here, not secrets.
    random.Random(seed).shuffle(spellings)
    return [
        ungroup({spelling: groups[spelling] for spelling in spellings[number::folds]})
        for number in range(folds)
    ]


def _claim(directory: Path, entries: Sequence[Entry], config: DictConfig) -> None:
    """Write down what the folds in a folder are made from; refuse one with other folds."""
    settings = {group: config[group] for group in DECIDING_GROUPS}
    origin = OmegaConf.to_container(
        OmegaConf.create(
            {
                "lexicon_sha256": split_sha256(entries),
                "folds": config.review.folds,
                "beam_size": config.review.beam_size,
                **settings,
            }
        ),
        resolve=False,
    )
    path = directory / ORIGIN_NAME
    if path.is_file() and OmegaConf.to_container(OmegaConf.load(path)) != origin:
        raise UserError(
            f"{directory} holds the review of another lexicon, or with other settings: remove it, "
            "or choose another folder with --output"
        )
    directory.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(origin), path)


def _fold_directory(directory: Path, number: int) -> Path:
    return directory / f"fold-{number + 1}"


def _scores_path(directory: Path, number: int) -> Path:
    return directory / f"fold-{number + 1}.jsonl"


def _run_folds(
    folds: Sequence[Sequence[Entry]], missing: Sequence[int], config: DictConfig, directory: Path
) -> None:
    cores = available_cores()
    processes = min(config.review.processes or cores, len(missing))
    LOGGER.info("%d folds to train, %d at the same time", len(missing), processes)
    # A process that is forked after torch has run may wait for its threads for ever.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_end_with_parent
    ) as executor:
        futures = [
            executor.submit(
                _judge_fold, folds, number, config, directory, max(1, cores // processes)
            )
            for number in missing
        ]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                LOGGER.info("%s; %d of %d done", future.result(), done, len(missing))
        except BrokenProcessPool as error:
            raise UserError(
                "a fold's process ended, most likely for want of memory: run the command again, "
                "with review.processes=1 for less memory; finished folds are kept"
            ) from error
        except KeyboardInterrupt as interruption:
            executor.shutdown(cancel_futures=True)
            raise InterruptedTrainingError(
                "interrupted: the same command goes on with the review"
            ) from interruption
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """End this process when the one that started it ends, however that comes about.

    Otherwise it would go on for minutes, and in the way of a review that is begun again.
    """

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _judge_fold(
    folds: Sequence[Sequence[Entry]],
    number: int,
    config: DictConfig,
    directory: Path,
    threads: int,
) -> str:
    """Train without a fold and judge it, in a process of its own; return what to tell."""
    name = f"fold {number + 1} of {len(folds)}"
    _log_as(name)
    # Not more than the environment allows: OMP_NUM_THREADS counts here as elsewhere.
    torch.set_num_threads(min(threads, torch.get_num_threads()))
    own = list(folds[number])
    others = [entry for i, fold in enumerate(folds) if i != number for entry in fold]
    data = LexiconData(
        train=others,
        dev=own,
        test=None,
        hashes={"train": split_sha256(others), "dev": split_sha256(own)},
        language=config.data.language,
        notation=config.data.notation,
        normalization=build_normalization(config),
    )
    folder = _fold_directory(directory, number)
    prepared = prepare(data, config.alignment, config.seed)
    fitted = fit(config, data, prepared, folder, git_state())
    module = load_checkpoint(fitted.best_checkpoint)
    settings = config.review
    judgements = judge(
        module.network, module.alphabets, own, settings.beam_size, settings.letters_per_batch
    )
    _write(_scores_path(directory, number), judgements)
    # The memory makes checkpoints large, and nothing reads them any more.
    shutil.rmtree(folder / CHECKPOINT_DIRECTORY)
    return name


def _log_as(name: str) -> None:
    """Send messages and warnings to the terminal, with the fold in front of them."""
    set_up_logging(f"{name}: ")
    # Lightning gave itself terminal handlers when it was imported.
    for library in ("lightning", "lightning.fabric", "lightning.pytorch"):
        logging.getLogger(library).handlers.clear()


def _write(path: Path, judgements: Sequence[Judgement]) -> None:
    with replacing(path) as stream:
        for judgement in judgements:
            values = [
                judgement.spelling,
                judgement.given,
                judgement.proposed,
                round(judgement.log_ratio, 4),
            ]
            stream.write(f"{json.dumps(values, ensure_ascii=False)}\n".encode())


def _read(directory: Path, number: int) -> list[Judgement]:
    judgements = []
    with _scores_path(directory, number).open(encoding="utf-8") as stream:
        for line in stream:
            spelling, given, proposed, log_ratio = json.loads(line)
            given, proposed = (tuple(map(tuple, chunks)) for chunks in (given, proposed))
            judgements.append(Judgement(spelling, given, proposed, log_ratio))
    return judgements
