"""Answers word lists on a Ray cluster, in tasks that run again where a machine is lost."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import ray

from grapheme_to_phoneme.bulk.engines import BLOCKS_PER_PROCESS, Engine
from grapheme_to_phoneme.bulk.pronouncers import PronouncerSettings, load_pronouncer
from grapheme_to_phoneme.errors import MissingDependencyError, UserError
from grapheme_to_phoneme.inference.base import BasePronouncer
from grapheme_to_phoneme.inference.word_lists import Answer, Layout, answer_words

#: How often a block is given to another process when the one that had it died.
RETRIES = 10

#: How long a cluster may take to accept a connection.
PROBE_SECONDS = 5.0

#: The contents of files by their paths, relative to a folder.
Files = dict[str, bytes]


class RayTasks(Engine):
    """Answers in tasks of a Ray cluster.

    Args:
        settings: the model that each process of the cluster loads.
        files: where in the cluster the model's bytes are.
        layout: what is asked about every word.
        workers: tasks at a time.
    """

    def __init__(
        self, settings: PronouncerSettings, files: ray.ObjectRef, layout: Layout, workers: int
    ) -> None:
        self.blocks_at_a_time = BLOCKS_PER_PROCESS * workers
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES)(_answer)
        # In a list it stays a reference: a process that has the model needs no second copy.
        self._given = ([files], settings, layout)

    def submit(self, words: Sequence[str]) -> Callable[[], list[Answer]]:
        return partial(_result, self._task.remote(*self._given, words))


@contextmanager
def ray_tasks(
    settings: PronouncerSettings, layout: Layout, address: str | None, workers: int
) -> Iterator[RayTasks]:
    """Join a Ray cluster, or start one on this machine, and give what answers there.

    Args:
        settings: the model; its files, and those of the dictionary, are sent to the cluster.
        layout: what is asked about every word.
        address: the cluster's, HOST:PORT; None takes ``RAY_ADDRESS`` or, where that is not
            set, starts one here.
        workers: tasks at a time; 0 takes one for each CPU of the cluster.

    Raises:
        MissingDependencyError: if no cluster answers.
        UserError: if the model's files cannot be read.
    """
    # Ray would report how it is used.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _join(address or os.environ.get("RAY_ADDRESS"))
    try:
        travelling, files = _pack(settings)
        cpus = int(ray.cluster_resources().get("CPU", 1))
        yield RayTasks(travelling, ray.put(files), layout, workers or cpus)
    finally:
        ray.shutdown()


def _join(address: str | None) -> None:
    try:
        if address is not None:
            # Ray itself asks for minutes, and says much on the way.
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), PROBE_SECONDS).close()
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise MissingDependencyError(
            f"no Ray cluster answers at {address or 'this machine'} ({reason}): start one with "
            "`ray start --head` and give its HOST:PORT"
        ) from error


def _pack(settings: PronouncerSettings) -> tuple[PronouncerSettings, Files]:
    """Return settings with paths relative to a folder, and the files that must be in it."""
    files: Files = {}
    paths = {}
    for name in ("model", "dictionary"):
        path = getattr(settings, name)
        if path is not None:
            paths[name] = Path(name) / path.name
            inside = [path] if path.is_file() else sorted(filter(Path.is_file, path.iterdir()))
            for file in inside:
                place = paths[name] if file == path else paths[name] / file.name
                files[place.as_posix()] = file.read_bytes()
    return replace(settings, **paths), files


@lru_cache(maxsize=1)
def _unpacked_pronouncer(
    reference: ray.ObjectRef, settings: PronouncerSettings
) -> tuple[BasePronouncer, TemporaryDirectory]:
    """Load the model that was sent; its folder lives as long as it does."""
    directory = TemporaryDirectory(prefix="g2p-")
    root = Path(directory.name)
    for place, content in ray.get(reference).items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    paths = {
        name: root / path
        for name in ("model", "dictionary")
        if (path := getattr(settings, name)) is not None
    }
    return load_pronouncer(replace(settings, **paths)), directory


def _answer(
    files: Sequence[ray.ObjectRef],
    settings: PronouncerSettings,
    layout: Layout,
    words: Sequence[str],
) -> list[Answer]:
    pronouncer, _ = _unpacked_pronouncer(files[0], settings)
    return answer_words(pronouncer, words, layout)


def _result(reference: ray.ObjectRef) -> list[Answer]:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"the Ray cluster lost a block of words {RETRIES} times ({reason}): mend it; "
            "what is in a file already stays, and --resume goes on with it"
        ) from error
