"""Measures systems that answer the line protocol of :mod:`benchmarks.adapter`."""

import json
import os
import random
import select
import statistics
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

ADAPTER = Path(__file__).with_name("adapter.py")

#: What libraries ask how many threads to start.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

MEGABYTE = 10**6

#: No system takes that long for a request.
ANSWER_LIMIT_S = 600.0

#: How often memory is looked at while a system works.
MEMORY_INTERVAL_S = 0.25

#: Words of a batch where a list is too long for one.
WORDS_PER_BATCH = 10_000

#: Words that tell how fast a system is before it is measured, and what they must take at least.
SAMPLE_WORDS = 10
SAMPLE_S = 0.1

#: The first of the lists that grow tenfold.
SHORTEST_LIST = 1000

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Launch:
    """How to start a system.

    Attributes:
        python: the interpreter of its environment.
        arguments: what the adapter takes.
        environment: additional variables of the process.
    """

    python: Path
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


class Process:
    """A started system.

    Args:
        launch: how to start it.
        cores: which cores it may use.

    Attributes:
        peak_mb: the most resident memory of all of its processes that was seen.
    """

    def __init__(self, launch: Launch, cores: Sequence[int]) -> None:
        threads = dict.fromkeys(THREAD_VARIABLES, str(len(cores)))
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [launch.python, "-P", ADAPTER, *launch.arguments],
            # A path for the caller's Python would lead out of the system's environment.
            env={**os.environ, "PYTHONPATH": "", **threads, **dict(launch.environment)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.peak_mb = 0.0
        self._watched = psutil.Process(self._process.pid)
        if hasattr(self._watched, "cpu_affinity"):
            self._watched.cpu_affinity(list(cores))

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        # A system may have processes of its own.
        for process in (*self._watched.children(recursive=True), self._process):
            process.kill()
        self._process.communicate()

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.perf_counter() - self._started

    def send(self, calls: Sequence[Sequence[str]]) -> None:
        """Ask, without waiting for the answer: a list of words for each call."""
        self._process.stdin.write(json.dumps(calls).encode() + b"\n")
        self._process.stdin.flush()

    def receive(self) -> tuple[list[str], list[float]]:
        """Return the phones of every word that was asked for, and the seconds of each call."""
        deadline = time.monotonic() + ANSWER_LIMIT_S
        line = b""
        while time.monotonic() < deadline:
            readable, _, _ = select.select([self._process.stdout], [], [], MEMORY_INTERVAL_S)
            self.peak_mb = max(self.peak_mb, self._memory_mb())
            if readable:
                line = self._process.stdout.readline()
                break
        if not line:
            raise SystemExit(f"{self._process.args[3:]} gave no answer")
        answer = json.loads(line)
        return answer["answers"], answer["seconds"]

    def ask(self, calls: Sequence[Sequence[str]]) -> tuple[list[str], list[float]]:
        """Ask and wait for the answer."""
        self.send(calls)
        return self.receive()

    def _memory_mb(self) -> float:
        """Return the resident memory of all of its processes now."""
        total = 0
        for process in (self._watched, *self._watched.children(recursive=True)):
            # One that has ended meanwhile has none.
            with suppress(psutil.Error):
                total += process.memory_info().rss
        return total / MEGABYTE


def time_to_first_answer(launch: Launch, core: int, word: str) -> float:
    """Return the seconds from the start of a process to its answer to a word."""
    with Process(launch, [core]) as process:
        process.ask([[word]])
        return process.age


def batch_rate(processes: Sequence[Process], words: Sequence[str]) -> float:
    """Return words per second where each process gets its share of the words in one call.

    What a call takes for one word is taken off: a system that loads its model for every call is
    measured without, as all the others are.
    """
    for i, process in enumerate(processes):
        first, *others = words[i :: len(processes)]
        process.send([[first], others])
    longest = max(
        for_many - for_one for for_one, for_many in (process.receive()[1] for process in processes)
    )
    return (len(words) - len(processes)) / longest


def latencies(process: Process, words: Sequence[str]) -> np.ndarray:
    """Return the seconds that each word takes in a call of its own."""
    return np.array(process.ask([[word] for word in words])[1])


@dataclass(frozen=True)
class Growth:
    """What a process had done and taken after so many words.

    Attributes:
        words: how many.
        rate: words per second, all of them together.
        memory_mb: the most resident memory until then.
    """

    words: int
    rate: float
    memory_mb: float


def measure_growth(
    launch: Launch, core: int, known: Sequence[str], most: int, limit_s: float
) -> Iterator[Growth]:
    """Yield what a process takes for 1,000, 10,000, … distinct words, in batches.

    Args:
        launch: how to start it.
        core: the core it may use.
        known: words to make words of.
        most: end there.
        limit_s: end before a step that would take longer than this.
    """
    words = blend(known, seed=1)
    done, passed, goal = 0, 0.0, SHORTEST_LIST
    with Process(launch, [core]) as process:
        pace, _ = pace_of(process, known)
        while goal <= most and goal * pace <= limit_s:
            while done < goal:
                batch = [next(words) for _ in range(min(WORDS_PER_BATCH, goal - done))]
                passed += process.ask([batch])[1][0]
                done += len(batch)
            pace = passed / done
            yield Growth(done, 1.0 / pace, process.peak_mb)
            goal *= 10


def blend(known: Sequence[str], seed: int) -> Iterator[str]:
    """Yield distinct words, the beginning of one word with the end of another, without end.

    They have the letters and about the lengths of real ones, and nothing can remember them.
    """
    generator = random.Random(seed)
    seen: set[int] = set()
    while True:
        first, second = generator.choice(known), generator.choice(known)
        word = first[: (len(first) + 1) // 2] + second[len(second) // 2 :]
        # Checksums, since ten million strings take a gigabyte; a word lost to a collision is none.
        checksum = zlib.crc32(word.encode())
        if checksum not in seen:
            seen.add(checksum)
            yield word


def pace_of(process: Process, words: Sequence[str]) -> tuple[float, float]:
    """Return about how many seconds a warm process takes for a word, in a call and alone."""
    process.ask([words[:1]])
    size = SAMPLE_WORDS
    while True:
        _, (for_one, for_many) = process.ask([words[:1], words[1:size]])
        if for_many > max(2 * for_one, SAMPLE_S) or size >= len(words):
            # On a busy machine one word can take longer than many.
            return max(for_many - for_one, for_many / size) / (size - 1), for_one
        size = min(4 * size, len(words))


def size_mb(path: Path) -> float:
    """Return the size of a file, or of all files in a folder but compiled copies of Python's."""
    files = [path] if path.is_file() else path.rglob("*")
    return (
        sum(
            file.stat().st_size
            for file in files
            if file.is_file() and "__pycache__" not in file.parts
        )
        / MEGABYTE
    )


def median_ratio(values: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the median of the ratios of values that were measured in pairs."""
    return statistics.median(value / other for value, other in zip(values, baseline, strict=True))
