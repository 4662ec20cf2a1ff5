"""What answers blocks of words: this process, or several beside it."""

import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait

from grapheme_to_phoneme.bulk.pronouncers import PronouncerSettings, loaded_pronouncer
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.base import BasePronouncer
from grapheme_to_phoneme.inference.word_lists import Answer, Layout, answer_words

#: For each process one block in work and one that waits, so that none is ever idle.
BLOCKS_PER_PROCESS = 2


class Engine(ABC):
    """Answers blocks of words.

    Attributes:
        blocks_at_a_time: blocks to hand over before the answer to the first is taken.
    """

    blocks_at_a_time = 1

    @abstractmethod
    def submit(self, words: Sequence[str]) -> Callable[[], list[Answer]]:
        """Hand over words; return what gives the answers, in their order."""


class OwnProcess(Engine):
    """Answers in this process."""

    def __init__(self, pronouncer: BasePronouncer, layout: Layout) -> None:
        self._pronouncer = pronouncer
        self._layout = layout

    def submit(self, words: Sequence[str]) -> Callable[[], list[Answer]]:
        return partial(answer_words, self._pronouncer, words, self._layout)


class WorkerProcesses(Engine):
    """Answers in processes of their own, each with a model of its own."""

    def __init__(
        self,
        pool: ProcessPoolExecutor,
        settings: PronouncerSettings,
        layout: Layout,
        workers: int,
    ) -> None:
        self.blocks_at_a_time = BLOCKS_PER_PROCESS * workers
        self._pool = pool
        self._answer = partial(answer_as_worker, settings, layout)

    def submit(self, words: Sequence[str]) -> Callable[[], list[Answer]]:
        try:
            return partial(_result, self._pool.submit(self._answer, words))
        except BrokenProcessPool as error:
            raise _died() from error


def _result(future: Future) -> list[Answer]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise _died() from error


def _died() -> UserError:
    return UserError(
        "a worker process died, killed or out of memory: take fewer with --workers; "
        "what is in a file already stays, and --resume goes on with it"
    )


@contextmanager
def worker_processes(
    workers: int, settings: PronouncerSettings, layout: Layout
) -> Iterator[WorkerProcesses]:
    """Give several processes that answer; they end with the block, or with this process.

    Args:
        workers: how many.
        settings: the model that each of them loads.
        layout: what is asked about every word.
    """
    # A copy of this process, "fork", would have ONNX Runtime's locks without its threads.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _begin_worker)
    try:
        yield WorkerProcesses(pool, settings, layout, workers)
        pool.shutdown()
    finally:
        # Where all went well they have ended; else what they work on is of no use any more.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


def answer_as_worker(
    settings: PronouncerSettings, layout: Layout, words: Sequence[str]
) -> list[Answer]:
    """Answer words in a process that loads the model for the first of them."""
    return answer_words(loaded_pronouncer(settings), words, layout)


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent does, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        wait([parent.sentinel])
        # The pool's own threads would wait for work for ever.
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
