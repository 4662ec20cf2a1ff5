"""Trains a network: builds it, its batches and Lightning's trainer as the configuration says."""

import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.configuration import flatten
from grapheme_to_phoneme.constants import CHECKPOINT_DIRECTORY
from grapheme_to_phoneme.errors import MissingDependencyError, UserError
from grapheme_to_phoneme.lexicon.data import LexiconData
from grapheme_to_phoneme.training.alphabets import Alphabets
from grapheme_to_phoneme.training.callbacks import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    build_callbacks,
)
from grapheme_to_phoneme.training.data_module import LexiconDataModule, choose_repetitions
from grapheme_to_phoneme.training.lessons import Lessons
from grapheme_to_phoneme.training.lightning_module import (
    OptimizerSettings,
    PronunciationModule,
    load_checkpoint,
)
from grapheme_to_phoneme.training.memory import MemoryTable, remember
from grapheme_to_phoneme.training.network import NetworkDimensions
from grapheme_to_phoneme.training.preparation import PreparedData
from grapheme_to_phoneme.training.tracking import build_loggers
from grapheme_to_phoneme.training.transfer import transfer

LOGGER = logging.getLogger(__name__)

#: The setting that lets the hardware decide.
AUTOMATIC = "auto"

#: What a processor that multiplies bfloat16 says it can do, by torch.cpu.get_capabilities().
BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Fitted:
    """What is left of a training.

    Attributes:
        trainer: Lightning's trainer.
        prepared: what the network was trained on.
        loggers: where it was logged.
        best_checkpoint: the checkpoint of the epoch with the best dev WER.
    """

    trainer: pl.Trainer
    prepared: PreparedData
    loggers: list[Logger]
    best_checkpoint: Path


def fit(
    config: DictConfig,
    data: LexiconData,
    prepared: PreparedData,
    run_directory: Path,
    state: dict[str, str],
    lessons: Lessons | None = None,
    start: PronunciationModule | None = None,
    begin: Callable[[], None] | None = None,
) -> Fitted:
    """Train a network, from the run's last checkpoint on where there is one.

    Args:
        config: the whole configuration.
        data: what to learn from and to choose by.
        prepared: the same, aligned.
        run_directory: where checkpoints and logs go.
        state: of the source, by :func:`git_state`.
        lessons: what teachers think of the training words.
        start: whose weights the network starts from.
        begin: called when all is checked, right before the training.

    Returns:
        The trainer when it has ended, with its loggers, what it learnt from and its best weights.

    Raises:
        MissingDependencyError: if the hardware that is asked for is not here.
        UserError: if the data or the configuration does not allow a training.
        KeyboardInterrupt: if Ctrl-C or SIGTERM ended it.
    """
    pl.seed_everything(config.seed, verbose=False)
    # Numbers too small to matter take a processor a hundred times as long as others.
    torch.set_flush_denormal(True)
    checkpoints = run_directory / CHECKPOINT_DIRECTORY
    last = checkpoints / f"{LAST_CHECKPOINT}.ckpt"
    checkpoint = last if last.is_file() else None
    if checkpoint:
        check_same_lexicon(checkpoint, data, prepared.alphabets)
    module = build_module(config, data, prepared, state, start)
    module.set_references(list(prepared.dev_references), prepared.dev_references)
    module.replay = config.trainer.replay
    is_remembered = bool(module.network.memories)
    data_module = build_data_module(config, data, prepared, lessons, is_remembered)
    LOGGER.info(
        "%s weights, of which %s take part in the arithmetic of a letter",
        f"{sum(parameter.numel() for parameter in module.parameters()):,}",
        f"{module.network.weights_per_letter():,}",
    )
    steps_per_epoch = len(data_module.train_dataloader())
    callbacks = build_callbacks(config.callbacks, run_directory, steps_per_epoch)
    loggers = build_loggers(config.logger, run_directory, state)
    trainer = build_trainer(config, steps_per_epoch, callbacks, loggers, run_directory)
    if begin and trainer.is_global_zero:
        begin()
    for logger in loggers:
        logger.log_hyperparams(flatten(config))
    if checkpoint:
        LOGGER.info("going on from %s", checkpoint)
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, data_module, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as ending:
        # What Lightning makes of SIGTERM, and of Ctrl-C, after which it is deaf to another.
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from ending
    return Fitted(trainer, prepared, loggers, checkpoints / f"{BEST_CHECKPOINT}.ckpt")


def load_start(config: DictConfig, overrides: Sequence[str]) -> PronunciationModule | None:
    """Load what the training starts from, whose network becomes the configuration's.

    Raises:
        UserError: if there is no such run, or a network of another shape is asked for.
    """
    if config.start_run is None:
        return None
    checkpoint = best_of(config.start_run, "start_run")
    for text in overrides:
        if text.lstrip("+~").startswith(("model=", "model.")):
            raise UserError(f"start_run brings its own network along: leave {text} out")
    start = load_checkpoint(checkpoint)
    dimensions = start.network.dimensions.to_dict()
    config.model = {name: dimensions[name] for name in config.model}
    return start


def best_of(run: str, setting: str) -> Path:
    """Return the best checkpoint of the finished run that a setting names.

    Raises:
        UserError: if there is none.
    """
    checkpoint = Path(run) / CHECKPOINT_DIRECTORY / f"{BEST_CHECKPOINT}.ckpt"
    if not checkpoint.is_file():
        raise UserError(f"{setting}: {checkpoint} is missing: name a finished run")
    return checkpoint


def check_same_lexicon(
    checkpoint: Path, data: LexiconData, alphabets: Alphabets
) -> PronunciationModule:
    """Return what the checkpoint holds, if it was trained on this lexicon.

    Raises:
        UserError: if it was trained on another, or the checkpoint cannot be read.
    """
    module = load_checkpoint(checkpoint)
    if module.facts["split_sha256"] != data.hashes or module.alphabets != alphabets:
        raise UserError(
            f"{checkpoint} was trained on another lexicon than the configuration names now: "
            "bring the old one back, or begin a new run"
        )
    return module


def build_data_module(
    config: DictConfig,
    data: LexiconData,
    prepared: PreparedData,
    lessons: Lessons | None = None,
    is_remembered: bool = True,
) -> LexiconDataModule:
    """Return the batches that the configuration asks for.

    ``lessons`` are those of teachers; ``is_remembered`` tells whether the network has a memory.
    """
    batches = config.trainer.batches
    return LexiconDataModule(
        prepared.train,
        list(prepared.dev_references),
        prepared.dev,
        prepared.alphabets,
        batches.letters_per_batch,
        batches.dev_letters_per_batch,
        config.seed,
        batches.workers,
        lessons,
        config.distillation.share,
        choose_repetitions(
            prepared.train, batches.least_words, config.data.balance if data.languages else None
        ),
        is_remembered,
        config.trainer.replay,
    )


def build_module(
    config: DictConfig,
    data: LexiconData,
    prepared: PreparedData,
    state: dict[str, str],
    start: PronunciationModule | None = None,
) -> PronunciationModule:
    """Return a network with its memory, untrained or with the weights of ``start``.

    ``state`` is that of :func:`git_state`.
    """
    alphabets = prepared.alphabets
    dimensions = build_dimensions(config, len(alphabets.letters) + 1, len(alphabets.chunks) + 1)
    facts = {
        "language": data.language,
        "notation": data.notation,
        "direction": data.direction,
        "normalization": data.normalization.to_dict(),
        "languages": [language.to_dict() for language in data.languages],
        "split_sha256": dict(data.hashes),
        "training": {
            "data": config.data.name,
            "seed": config.seed,
            "max_epochs": config.trainer.lightning.max_epochs,
            "training_words": len({entry.spelling for entry in data.train}),
        },
        **state,
    }
    if start:
        facts["training"]["start_split_sha256"] = start.facts["split_sha256"]
    module = PronunciationModule.create(
        dimensions, alphabets, build_optimizer_settings(config), config.seed, facts
    )
    if start:
        letters, chunks = transfer(start, module)
        LOGGER.info(
            "%s knows %d of %d letters and %d of %d chunks",
            config.start_run,
            letters,
            len(alphabets.letters),
            chunks,
            len(alphabets.chunks),
        )
    tables: dict[tuple, MemoryTable] = {}
    remembering = [member for member in dimensions.of_members() if member.memory_windows]
    for member, memory in zip(remembering, module.network.memories, strict=True):
        wanted = member.memory_windows, member.memory_slots
        if wanted not in tables:
            tables[wanted] = remember(prepared.train, alphabets, *wanted)
            LOGGER.info("the memory holds %s contexts", f"{tables[wanted].contexts:,}")
        memory.table = tables[wanted]
    return module


def build_dimensions(config: DictConfig, letters: int, chunks: int) -> NetworkDimensions:
    """Return the dimensions of the group ``model``, for so many ids of letters and chunks.

    Raises:
        UserError: if no network can have them.
    """
    values = OmegaConf.to_container(config.model, resolve=True)
    try:
        return NetworkDimensions.from_dict({**values, "letters": letters, "chunks": chunks})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the group model makes no network: {error}") from error


def build_optimizer_settings(config: DictConfig) -> OptimizerSettings:
    """Return the settings of the group ``optimizer``.

    Raises:
        UserError: if no training can have them.
    """
    try:
        return OptimizerSettings(**OmegaConf.to_container(config.optimizer, resolve=True))
    except (TypeError, ValueError) as error:
        raise UserError(f"the group optimizer: {error}") from error


def build_trainer(
    config: DictConfig,
    steps_per_epoch: int,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    run_directory: Path | None = None,
) -> pl.Trainer:
    """Return Lightning's trainer of the group ``trainer``.

    Args:
        config: the whole configuration.
        steps_per_epoch: batches of an epoch.
        callbacks: what watches the training.
        loggers: where its figures go.
        run_directory: where what Lightning writes by itself goes.

    Raises:
        MissingDependencyError: if the hardware or the plugin that is asked for is not here.
        UserError: if Lightning does not take the settings.
    """
    settings = OmegaConf.to_container(config.trainer.lightning, resolve=True)
    # A small lexicon's training would be over before anything is due to be logged.
    settings["log_every_n_steps"] = min(settings["log_every_n_steps"], steps_per_epoch)
    settings["precision"] = choose_precision(settings["precision"], settings["accelerator"])
    try:
        return pl.Trainer(
            **settings,
            callbacks=list(callbacks),
            logger=list(loggers),
            default_root_dir=run_directory,
            # A bar is among the callbacks where somebody can watch it.
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            enable_model_summary=False,
            # The batch sampler takes its process's share itself.
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ModuleNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise MissingDependencyError(
            f"the group trainer asks for what is not here: {reason}"
        ) from error
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the group trainer does not suit Lightning: {reason}") from error


def choose_precision(precision: str, accelerator: str) -> str:
    """Return the precision to train in, as Lightning names it.

    ``auto`` mixes in bfloat16 where the hardware multiplies it, twice as fast as float32, and
    is float32 elsewhere: emulated, it is slower.

    Args:
        precision: ``auto`` or one of Lightning's precisions.
        accelerator: Lightning's name of the hardware to train on.
    """
    if precision != AUTOMATIC:
        return precision
    on_gpu = accelerator in ("gpu", "cuda") or (
        accelerator == "auto" and torch.cuda.is_available()
    )
    if on_gpu:
        is_fast = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    else:
        processor = torch.cpu.get_capabilities()
        is_fast = any(processor.get(feature, False) for feature in BFLOAT16_FEATURES)
    return "bf16-mixed" if is_fast else "32-true"
