"""Training and export from end to end: what joins the rooms of the package."""

import logging
import shlex
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.configuration import (
    OVERRIDES_NAME,
    compose_config,
    explained,
    load_overrides,
    save_config,
)
from grapheme_to_phoneme.constants import CHECKPOINT_DIRECTORY, MODEL_FILENAME, SCORE_FILENAME
from grapheme_to_phoneme.errors import InterruptedTrainingError, MissingDependencyError, UserError
from grapheme_to_phoneme.lexicon.data import LexiconData, load_data
from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.packaging.export import export_checkpoint, load_checkpoint
from grapheme_to_phoneme.training.alphabets import Alphabets
from grapheme_to_phoneme.training.callbacks import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    build_callbacks,
)
from grapheme_to_phoneme.training.data_module import LexiconDataModule, choose_repetitions
from grapheme_to_phoneme.training.distillation import teach
from grapheme_to_phoneme.training.imagination import imagine
from grapheme_to_phoneme.training.lessons import Lessons
from grapheme_to_phoneme.training.lightning_module import OptimizerSettings, PronunciationModule
from grapheme_to_phoneme.training.memory import MemoryTable, remember
from grapheme_to_phoneme.training.metrics import Score
from grapheme_to_phoneme.training.network import Network, NetworkDimensions
from grapheme_to_phoneme.training.plots import (
    CHARTS_DIRECTORY,
    draw_curves,
    draw_errors,
    read_metrics,
)
from grapheme_to_phoneme.training.preparation import PreparedData, prepare
from grapheme_to_phoneme.training.scoring import format_table, write_score
from grapheme_to_phoneme.training.tracking import TrackingLogger, build_loggers, git_state
from grapheme_to_phoneme.training.transfer import transfer

LOGGER = logging.getLogger(__name__)

#: The folder of the teachers' runs, in the run's own.
TEACHERS_DIRECTORY = "teachers"

#: Asked for as an example where a model knows its letters: hardly a lexicon has it.
EXAMPLE_WORD = "kubernetes"

#: The setting that lets the hardware decide.
AUTOMATIC = "auto"

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

#: The largest seed that Lightning takes.
LARGEST_SEED = 2**32 - 1

#: What a processor that multiplies bfloat16 says it can do, by torch.cpu.get_capabilities().
BFLOAT16_FEATURES = ("avx512_bf16", "amx_bf16")


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
    _refuse_changes(overrides, run_directory)
    start = load_start(config, overrides)
    check_settings(config)
    state = git_state()
    data = load_data(config)
    prepared = prepare(data, config.alignment, config.seed)
    begin = partial(save_config, config, overrides, run_directory)
    lessons = _take_lessons(config, data, prepared, run_directory, state, begin)
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


def _refuse_changes(overrides: Sequence[str], run_directory: Path) -> None:
    """Refuse settings that a training cannot take any more, since it has begun with others.

    They would be ignored, or what is restored would not fit them, and the run's record would
    say that they had counted.

    Raises:
        UserError: naming the first.
    """
    if not any(run_directory.rglob(f"{LAST_CHECKPOINT}.ckpt")):
        return
    before, now = (
        _flat(compose_config(list(texts))) for texts in (load_overrides(run_directory), overrides)
    )
    for name in sorted(before.keys() | now.keys()):
        is_settled = any(f"{name}.".startswith(f"{settled}.") for settled in SETTLED)
        if is_settled and before.get(name) != now.get(name):
            raise UserError(
                f"{name} was {before.get(name, 'not set')} when this training began, and cannot "
                f"be changed any more: leave {name} out, or begin a new run, with "
                f"start_run={run_directory} from what this one has learnt"
            )


def check_settings(config: DictConfig) -> None:
    """Refuse settings that no training can have, before it reads and writes anything.

    Raises:
        UserError: naming the first, of the training itself or of a teacher's.
        MissingDependencyError: if the hardware that is asked for is not here.
    """
    with explained():
        teachers = [item for item in _teachers(config).values() if isinstance(item, DictConfig)]
        for settings in (config, *teachers):
            for name, least in LEAST.items():
                value = OmegaConf.select(settings, name)
                if type(value) is not int or value < least:
                    raise UserError(
                        f"{name} takes a whole number of at least {least}, not {value}"
                    )
            if settings.seed > LARGEST_SEED:
                raise UserError(f"seed takes at most {LARGEST_SEED}, not {settings.seed}")
            _check_temperatures(list(settings.export.temperature_range))
            _dimensions(settings, letters=1, chunks=1)
            _optimizer_settings(settings)
            try:
                # The training itself will tell which hardware it has found.
                logging.disable(logging.INFO)
                _build_trainer(settings, steps_per_epoch=1)
            finally:
                logging.disable(logging.NOTSET)


def _check_temperatures(bounds: list[object]) -> None:
    """Refuse now what the export would stumble over when all is trained."""
    are_numbers = all(type(bound) in (int, float) for bound in bounds)
    if len(bounds) != 2 or not are_numbers or not 0 < bounds[0] <= bounds[1]:
        raise UserError(
            f"export.temperature_range takes two numbers above 0, lower first, not {bounds}"
        )


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

    Raises:
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
        _check_same_lexicon(checkpoint, data, prepared.alphabets)
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
    trainer = _build_trainer(config, steps_per_epoch, callbacks, loggers, run_directory)
    if begin and trainer.is_global_zero:
        begin()
    for logger in loggers:
        logger.log_hyperparams(_flat(config))
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
    checkpoint = _best_of(config.start_run, "start_run")
    for text in overrides:
        if text.lstrip("+~").startswith(("model=", "model.")):
            raise UserError(f"start_run brings its own network along: leave {text} out")
    start = load_checkpoint(checkpoint)
    dimensions = start.network.dimensions.to_dict()
    config.model = {name: dimensions[name] for name in config.model}
    return start


def _take_lessons(
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
    chosen = _teachers(config)
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


def _teachers(config: DictConfig) -> dict[str, DictConfig | str]:
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
    checkpoint = _best_of(run, "distillation.teachers")
    return _check_same_lexicon(checkpoint, data, alphabets).network


def _best_of(run: str, setting: str) -> Path:
    """Return the best checkpoint of the finished run that a setting names.

    Raises:
        UserError: if there is none.
    """
    checkpoint = Path(run) / CHECKPOINT_DIRECTORY / f"{BEST_CHECKPOINT}.ckpt"
    if not checkpoint.is_file():
        raise UserError(f"{setting}: {checkpoint} is missing: name a finished run")
    return checkpoint


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


def _build_trainer(
    config: DictConfig,
    steps_per_epoch: int,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    run_directory: Path | None = None,
) -> pl.Trainer:
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


def export(config: DictConfig, run_directory: Path, checkpoint: Path | None) -> Path:
    """Write the model file of a finished or interrupted run anew.

    Args:
        config: the run's configuration.
        run_directory: the run.
        checkpoint: another checkpoint of the run than its best.

    Raises:
        UserError: as :func:`export_checkpoint` does.
    """
    best = run_directory / CHECKPOINT_DIRECTORY / f"{BEST_CHECKPOINT}.ckpt"
    references = group_by_spelling(load_data(config).dev)
    target = run_directory / MODEL_FILENAME
    score = export_checkpoint(checkpoint or best, target, references, config)
    LOGGER.info("dev part:\n%s", format_table(score))
    return target


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
    dimensions = _dimensions(config, len(alphabets.letters) + 1, len(alphabets.chunks) + 1)
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
        dimensions, alphabets, _optimizer_settings(config), config.seed, facts
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


def _dimensions(config: DictConfig, letters: int, chunks: int) -> NetworkDimensions:
    """Return the dimensions of the group ``model``, for so many ids of letters and chunks."""
    values = OmegaConf.to_container(config.model, resolve=True)
    try:
        return NetworkDimensions.from_dict({**values, "letters": letters, "chunks": chunks})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"the group model makes no network: {error}") from error


def _optimizer_settings(config: DictConfig) -> OptimizerSettings:
    """Return the settings of the group ``optimizer``."""
    try:
        return OptimizerSettings(**OmegaConf.to_container(config.optimizer, resolve=True))
    except (TypeError, ValueError) as error:
        raise UserError(f"the group optimizer: {error}") from error


def _check_same_lexicon(
    checkpoint: Path, data: LexiconData, alphabets: Alphabets
) -> PronunciationModule:
    """Return what the checkpoint holds, if it was trained on this lexicon."""
    module = load_checkpoint(checkpoint)
    if module.facts["split_sha256"] != data.hashes or module.alphabets != alphabets:
        raise UserError(
            f"{checkpoint} was trained on another lexicon than the configuration names now: "
            "bring the old one back, or begin a new run"
        )
    return module


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


def _flat(config: DictConfig) -> dict[str, object]:
    """Return every value of the configuration by its dotted name."""
    flat: dict[str, object] = {}

    def visit(prefix: str, node: object) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                visit(f"{prefix}{key}.", value)
        else:
            flat[prefix.removesuffix(".")] = node

    visit("", OmegaConf.to_container(config, resolve=True, throw_on_missing=False))
    return flat
