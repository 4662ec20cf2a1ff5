"""Answers words from where they come to where the answers go: all that ``g2p infer`` does."""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.bulk.engines import Engine, OwnProcess, worker_processes
from grapheme_to_phoneme.bulk.output import (
    Checkpoint,
    LineWriter,
    load_checkpoint,
    open_output,
    open_standard_output,
    output_files,
    save_checkpoint,
)
from grapheme_to_phoneme.bulk.progress import shown_progress
from grapheme_to_phoneme.bulk.pronouncers import PronouncerSettings, load_pronouncer
from grapheme_to_phoneme.bulk.stream import Block, EntryCache, answer_in_blocks
from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import UserError, require
from grapheme_to_phoneme.inference.base import BasePronouncer
from grapheme_to_phoneme.inference.package import MANIFEST_NAME
from grapheme_to_phoneme.inference.pronouncer import available_cores
from grapheme_to_phoneme.inference.word_lists import (
    STANDARD_STREAM,
    Layout,
    Position,
    Report,
    WordReader,
    open_input,
)
from grapheme_to_phoneme.lexicon.files import sha256_of
from grapheme_to_phoneme.packaging.model_address import available_model

LOGGER = logging.getLogger(__name__)

ENGINES = ("local", "ray")

#: The least that numbers may be. A piece of a long word has the tag of a language and a letter.
LEAST = {
    "workers": 0,
    "cache_mb": 0,
    "letters_per_batch": 0,
    "longest_line": 1,
    "longest_word": 2,
    "report_limit": 0,
    "threads": 0,
    "words_per_batch": 1,
}

MEGABYTE = 2**20


def pronounce(config: DictConfig, overrides: Sequence[str], words: Sequence[str]) -> Report:
    """Answer words, or those of ``infer.input``, with the model or the server that is named.

    Args:
        config: the configuration; ``infer``, ``paths`` and ``logger`` are used.
        overrides: those that it was composed from; of an example that has to be fetched they say
            where from.
        words: the words of the command line.

    Raises:
        MissingDependencyError: if a package or a server is not there.
        UserError: if there are no words or no model, if the settings contradict each other, or
            as :func:`pronounce_words` and :func:`pronounce_list` do.
    """
    settings = config.infer
    if words and settings.input is not None:
        raise UserError("give words or --input, not both")
    if not words and settings.input is None:
        if sys.stdin.isatty():
            raise UserError("give words, or --input FILE with a word a line: g2p infer tensor")
        settings.input = STANDARD_STREAM
    if settings.model is not None and settings.server is not None:
        raise UserError("give --model or --server, not both")
    if settings.engine == "ray":
        require("ray", "ray")
    if settings.input not in (None, STANDARD_STREAM):
        _fetch_example(Path(settings.input), overrides)
    is_remote = settings.server is not None
    with nullcontext() if is_remote else available_model(config, settings.model) as model:
        if words:
            return pronounce_words(settings, model, words)
        return pronounce_list(settings, model)


def _fetch_example(source: Path, overrides: Sequence[str]) -> None:
    """Make the example word list where that is what is asked for and not there yet."""
    if source.exists():
        return
    from grapheme_to_phoneme.lexicon.preprocessing import ensure_example

    # Prediction's own configuration has nothing of data: it must not wait for that.
    config = compose_config(overrides)
    if source == Path(config.preprocessing.example.words_path):
        ensure_example(config)


def pronounce_words(settings: DictConfig, model: Path | None, words: Sequence[str]) -> Report:
    """Answer the words of the command line.

    Args:
        settings: the group ``infer``.
        model: the model file or the package's folder; None where a server is asked.
        words: the words.

    Raises:
        UserError: if the settings contradict each other, as :func:`load_pronouncer` does, or if
            the output cannot be written.
    """
    if settings.resume:
        raise UserError("--resume goes on with a file: give --input instead of words")
    report = Report(settings.report_limit)
    with ExitStack() as stack:
        engine, _ = _start(settings, model, stack)
        _check_output(settings, model)
        output = stack.enter_context(_open_output(settings.output, None))
        cache = EntryCache(settings.cache_mb * MEGABYTE)
        blocks = answer_in_blocks(words, lambda: None, engine, cache, settings.words_per_batch)
        for block in blocks:
            _write(block, output, report)
    return report


def pronounce_list(settings: DictConfig, model: Path | None) -> Report:
    """Answer the words of a file, or of standard input.

    Where the output is a file, a checkpoint stands beside it until it is whole, and with
    ``settings.resume`` the work goes on after it; the output is then the same, byte for byte,
    as that of a run that nothing interrupted.

    Args:
        settings: the group ``infer``.
        model: see :func:`pronounce_words`.

    Raises:
        UserError: as :func:`pronounce_words` does; if the input cannot be read; or if what an
            interrupted run left does not fit the input or the settings.
    """
    is_file = bool(output_files(settings.output))
    if settings.resume and not is_file:
        raise UserError("--resume goes on with a file: give --output with the name of one")
    with ExitStack() as stack:
        engine, identity = _start(settings, model, stack)
        checkpoint = load_checkpoint(settings.output, identity) if settings.resume else None
        file = stack.enter_context(open_input(settings.input))
        reader = WordReader(file, settings.longest_line)
        report = Report(settings.report_limit)
        if checkpoint is not None:
            LOGGER.info("going on after %s words", f"{checkpoint.report.words:,}")
            reader.skip_to(checkpoint.position)
            report = replace(checkpoint.report, limit=settings.report_limit)
        elif settings.resume:
            LOGGER.info("there is nothing to go on with: beginning with the first word")
        _check_output(settings, model)
        output = stack.enter_context(_open_output(settings.output, checkpoint))
        keeper = stack.enter_context(_Keeper(settings, identity, output)) if is_file else None
        progress = stack.enter_context(
            shown_progress(file, _is_watched(is_file), report.words, reader.position.bytes_read)
        )
        cache = EntryCache(settings.cache_mb * MEGABYTE)
        blocks = answer_in_blocks(
            reader, lambda: reader.position, engine, cache, settings.words_per_batch
        )
        for block in blocks:
            _write(block, output, report)
            progress.show(report.words, block.position.bytes_read)
            if keeper is not None:
                keeper.keep(block.position, report)
    return report


def _start(
    settings: DictConfig, model: Path | None, stack: ExitStack
) -> tuple[Engine, dict[str, object]]:
    """Start what answers; return it, and all that its answers depend on, by name."""
    if settings.engine not in ENGINES:
        raise UserError(f"there is no engine '{settings.engine}': choose {' or '.join(ENGINES)}")
    for name, least in LEAST.items():
        if settings[name] < least:
            raise UserError(f"infer.{name} must be at least {least}, not {settings[name]}")
    layout = Layout(
        settings.n_best, settings.beam_size, settings.show_alignment, settings.show_source
    )
    given = PronouncerSettings(
        model,
        settings.server,
        settings.server_model,
        settings.server_timeout_s,
        None if settings.dictionary is None else Path(settings.dictionary),
        settings.use_lexicon,
        settings.notation,
        settings.language,
        settings.threads,
        settings.letters_per_batch,
        settings.longest_word,
    )
    # Whatever is wrong with the model shows here, not in other processes.
    pronouncer = load_pronouncer(given)
    pronouncer.pronounce([], layout.n_best, layout.beam_size)
    identity = _identity(given, layout, pronouncer, settings.longest_line)
    return stack.enter_context(_engine(settings, given, layout, pronouncer)), identity


def _engine(
    settings: DictConfig, given: PronouncerSettings, layout: Layout, pronouncer: BasePronouncer
) -> AbstractContextManager[Engine]:
    workers = settings.workers
    if settings.engine == "ray":
        from grapheme_to_phoneme.bulk.ray_engine import ray_tasks

        # A task has one CPU.
        given = replace(given, threads=settings.threads or 1)
        return ray_tasks(given, layout, settings.ray_address, workers)
    if workers > 1:
        threads = settings.threads or max(1, available_cores() // workers)
        return worker_processes(workers, replace(given, threads=threads), layout)
    return nullcontext(OwnProcess(pronouncer, layout))


def _identity(
    given: PronouncerSettings, layout: Layout, pronouncer: BasePronouncer, longest_line: int
) -> dict[str, object]:
    """Return all that the answers depend on, besides the words."""
    if given.model is None:
        model = repr(pronouncer.metadata)
    else:
        # A package's manifest has the hashes of its files.
        is_file = given.model.is_file()
        model = sha256_of(given.model if is_file else given.model / MANIFEST_NAME)
    return {
        "model": model,
        "dictionary": None if given.dictionary is None else sha256_of(given.dictionary),
        "use_lexicon": given.use_lexicon,
        "notation": given.notation,
        "language": given.language,
        "longest_word": given.longest_word,
        "longest_line": longest_line,
        **asdict(layout),
    }


def _check_output(settings: DictConfig, model: Path | None) -> None:
    """Refuse an output that the answers are made from, or that is in the model's package."""
    sources = {"model": model, "dictionary": settings.dictionary}
    if settings.input != STANDARD_STREAM:
        sources["input"] = settings.input
    written = output_files(settings.output)
    for name, source in sources.items():
        if source is not None:
            path = Path(source).resolve()
            if any(path in (file, *file.parents) for file in written):
                raise UserError(
                    f"the output would change the {name}, {source}: name another with --output"
                )


def _open_output(path: str, checkpoint: Checkpoint | None) -> AbstractContextManager[LineWriter]:
    return open_standard_output() if path == STANDARD_STREAM else open_output(path, checkpoint)


def _write(block: Block, output: LineWriter, report: Report) -> None:
    for entry in block.entries:
        output.write(entry.lines)
        report.add(entry.word, entry.unknown_characters)
    # Who reads a pipe gets what there is.
    output.flush()


class _Keeper:
    """Keeps checkpoints, not so often that it takes time, and tells how to go on if it must."""

    def __init__(
        self, settings: DictConfig, identity: Mapping[str, object], output: LineWriter
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._output = output
        self._kept = time.monotonic()
        self._words = 0

    def keep(self, position: Position, report: Report) -> None:
        if time.monotonic() - self._kept < self._settings.seconds_between_checkpoints:
            return
        # First the lines, then the note that they are there.
        self._output.sync()
        checkpoint = Checkpoint(self._identity, position, self._output.bytes_written, report)
        save_checkpoint(self._settings.output, checkpoint)
        self._kept = time.monotonic()
        self._words = report.words

    def __enter__(self) -> "_Keeper":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._words:
            LOGGER.info(
                "%s words are answered: the same command with --resume goes on after them",
                f"{self._words:,}",
            )


def _is_watched(is_file: bool) -> bool:
    """Return whether progress can be shown without disturbing what is shown already."""
    return sys.stderr.isatty() and (is_file or not sys.stdout.isatty())
