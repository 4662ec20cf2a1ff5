"""Has teachers trained, where the configuration names some, and asks them about all words."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.configuration import explained
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.data import LexiconData
from grapheme_to_phoneme.training.alphabets import Alphabets
from grapheme_to_phoneme.training.distillation import teach
from grapheme_to_phoneme.training.fitting import best_of, check_same_lexicon, fit
from grapheme_to_phoneme.training.imagination import imagine
from grapheme_to_phoneme.training.lessons import Lessons
from grapheme_to_phoneme.training.lightning_module import load_checkpoint
from grapheme_to_phoneme.training.network import Network
from grapheme_to_phoneme.training.preparation import PreparedData

LOGGER = logging.getLogger(__name__)

#: The folder of the teachers' runs, in the run's own.
TEACHERS_DIRECTORY = "teachers"


def take_lessons(
    config: DictConfig,
    data: LexiconData,
    prepared: PreparedData,
    run_directory: Path,
    state: dict[str, str],
    begin: Callable[[], None],
) -> Lessons | None:
    """Train the teachers and ask them about all words; None where there are none.

    A run that is resumed goes on with the teacher that it was interrupted at. ``begin`` is
    what :func:`fit` takes.

    Raises:
        UserError: if there are words to pronounce and no teachers, or one cannot be used.
    """
    settings = config.distillation
    chosen = teachers_of(config)
    if not chosen:
        if settings.imagined_words or settings.spellings_path is not None:
            raise UserError(
                "distillation has words to pronounce and nobody to do it: name a finished run by "
                "+distillation.teachers.NAME=DIR, or choose experiment=taught"
            )
        return None
    path = run_directory / TEACHERS_DIRECTORY / "lessons.npz"
    if path.is_file():
        return Lessons.load(path, prepared.train, prepared.alphabets)
    spellings = _further_spellings(config, data, prepared.alphabets)
    if settings.imagined_words:
        known = {*_known_spellings(data), *spellings}
        learnt = [entry.spelling for entry in prepared.train]
        imagined = imagine(
            learnt, settings.imagined_words, known, config.seed, settings.imagined_order
        )
        LOGGER.info("%s words made up of letter n-grams", f"{len(imagined):,}")
        spellings += imagined
    teachers = []
    for number, (name, teacher) in enumerate(chosen.items(), start=1):
        LOGGER.info("teacher %d of %d: %s", number, len(chosen), name)
        if isinstance(teacher, str):
            teachers.append(_finished_teacher(teacher, data, prepared.alphabets))
            continue
        directory = run_directory / TEACHERS_DIRECTORY / name
        fitted = fit(teacher, data, prepared, directory, state, begin=begin)
        teachers.append(load_checkpoint(fitted.best_checkpoint).network)
    on_gpu = config.trainer.lightning.accelerator != "cpu" and torch.cuda.is_available()
    LOGGER.info("the teachers look at all words")
    lessons = teach(
        [teacher.to("cuda" if on_gpu else "cpu") for teacher in teachers],
        prepared.alphabets,
        prepared.train,
        spellings,
        settings.kept_chunks,
        settings.letters_per_batch,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # The processes of a distributed training have the same lessons, and would share a file.
    rank_zero_only(lessons.save)(path, prepared.alphabets)
    return lessons


def teachers_of(config: DictConfig) -> dict[str, DictConfig | str]:
    """Return the teachers by name: the configuration of a training, or a finished run's folder.

    Raises:
        UserError: if one is neither, or changes what is no setting.
    """
    teachers: dict[str, DictConfig | str] = {}
    for name, changes in config.distillation.teachers.items():
        if isinstance(changes, DictConfig):
            with explained():
                teachers[name] = OmegaConf.merge(config, changes)
        elif isinstance(changes, str):
            teachers[name] = changes
        elif changes is not None:
            raise UserError(
                f"distillation.teachers.{name} takes what its training changes in the settings, "
                f"or the folder of a finished run, not {changes}"
            )
    return teachers


def _finished_teacher(run: str, data: LexiconData, alphabets: Alphabets) -> Network:
    """Return the best network of a run that has ended before.

    Raises:
        UserError: if there is no such run, or it learnt from another lexicon.
    """
    checkpoint = best_of(run, "distillation.teachers")
    return check_same_lexicon(checkpoint, data, alphabets).network


def _known_spellings(data: LexiconData) -> set[str]:
    """Return the words of all parts."""
    return {entry.spelling for part in (data.train, data.dev, data.test or ()) for entry in part}


def _further_spellings(config: DictConfig, data: LexiconData, alphabets: Alphabets) -> list[str]:
    """Return the words that have no pronunciation: no word of any part, no unknown letter.

    Raises:
        UserError: if their file cannot be read, or the model is of several languages.
    """
    path = config.distillation.spellings_path
    if path is None:
        return []
    if data.languages:
        raise UserError(
            "distillation.spellings_path does not say which of the languages its words are in: "
            "leave it out"
        )
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"distillation.spellings_path: {path} cannot be read: {error}") from error
    known = _known_spellings(data)
    spellings = {data.normalization.apply(line.strip()) for line in lines}
    letters = set(alphabets.letters)
    further = sorted(
        spelling for spelling in spellings - known if spelling and letters.issuperset(spelling)
    )
    LOGGER.info("%s: %s words without pronunciation", path, f"{len(further):,}")
    return further
