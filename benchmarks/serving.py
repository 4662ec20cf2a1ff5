"""Measures a model in Triton: `make benchmark-serve`, or `python -m benchmarks.serving --help`.

Server and client share the cores of the machine; the library, alone, has the same ones.
"""

import asyncio
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

import fire
import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc import aio as triton
from tritonclient.utils import InferenceServerException

from grapheme_to_phoneme import Pronouncer

#: What must be reached.
LEAST_SHARE_OF_LIBRARY = 0.70
MOST_P99_MS = 20.0
LEAST_WARM_REQUESTS = 4000.0
MOST_MEMORY_KEPT = 0.25

#: What is asked for, as `g2p infer --server` does.
OUTPUTS = ("PHONES", "PROBABILITY")

WORDS_PER_REQUEST = 64
BATCHES_IN_FLIGHT = 32
WORDS_IN_FLIGHT = 16
WARM_IN_FLIGHT = 64
OVERLOAD = 3.0
SETTLING_S = 15.0
START_LIMIT_S = 400.0

MEMORY_UNIT = 2**20

Request = list[InferInput]


@dataclass
class Outcome:
    """What came of many requests.

    Attributes:
        seconds: how long all of them took.
        latencies: of those that were answered, in seconds.
        errors: of the others, by their status.
        wrong: answers that differ from the library's.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: int = 0

    @property
    def rate(self) -> float:
        """Answered requests a second."""
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: int) -> float:
        """Return a percentile of the latencies, in milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1000


def measure(
    model: str, words: str = "data/prepared/cmudict-stress-keep/test.tsv", seconds: float = 60.0
) -> None:
    """Measure throughput, latency and overload, and say what was reached.

    Args:
        model: the model file or package.
        words: a file whose lines begin with a word, then a tab or the line's end.
        seconds: how long the overload lasts.
    """
    lines = Path(words).read_text(encoding="utf-8").splitlines()
    chosen = list(dict.fromkeys(line.partition("\t")[0] for line in lines))
    random.Random(1).shuffle(chosen)
    missed = []
    with TemporaryDirectory() as folder:
        library = measure_library(model, chosen)
        report(f"library, one process: {library:,.0f} words/s")

        with running(model, folder, "serve.cached_words=0") as server:
            outcome = asyncio.run(
                send(server.port, batches(chosen, WORDS_PER_REQUEST), BATCHES_IN_FLIGHT)
            )
            capacity = outcome.rate
            share = capacity * WORDS_PER_REQUEST / library
            report(
                f"{WORDS_PER_REQUEST} words a request, {BATCHES_IN_FLIGHT} in flight: "
                f"{capacity * WORDS_PER_REQUEST:,.0f} words/s, {share:.0%} of the library"
            )
            missed += [] if share >= LEAST_SHARE_OF_LIBRARY else ["share of the library"]

            outcome = asyncio.run(send(server.port, batches(chosen, 1), WORDS_IN_FLIGHT))
            report(
                f"one word a request, {WORDS_IN_FLIGHT} in flight, no cache: "
                f"{outcome.rate:,.0f} requests/s, median {outcome.percentile_ms(50):.1f} ms, "
                f"p99 {outcome.percentile_ms(99):.1f} ms"
            )
            missed += [] if outcome.percentile_ms(99) < MOST_P99_MS else ["p99 of one word"]

            missed += measure_overload(server, model, chosen, OVERLOAD * capacity, seconds)

        with running(model, folder) as server:
            few = batches(chosen[:1000], 1)
            asyncio.run(send(server.port, few * 5, WARM_IN_FLIGHT))
            outcome = asyncio.run(send(server.port, few * 30, WARM_IN_FLIGHT))
            report(
                f"one word a request, {WARM_IN_FLIGHT} in flight, cache warm: "
                f"{outcome.rate:,.0f} requests/s, p99 {outcome.percentile_ms(99):.1f} ms"
            )
            missed += [] if outcome.rate >= LEAST_WARM_REQUESTS else ["requests/s from the cache"]
    report(f"missed: {', '.join(missed)}" if missed else "all of it reached")
    raise SystemExit(bool(missed))


def measure_library(model: str, words: Sequence[str]) -> float:
    """Return words per second in one process, median of three runs."""
    pronouncer = Pronouncer(model)
    pronouncer.pronounce(words[:1000])
    rates = []
    for _ in range(3):
        started = time.perf_counter()
        pronouncer.pronounce(words)
        rates.append(len(words) / (time.perf_counter() - started))
    return statistics.median(rates)


def measure_overload(
    server: "Server", model: str, words: Sequence[str], rate: float, seconds: float
) -> list[str]:
    """Send more than the server can do, whatever it answers; return what went wrong."""
    expected = {
        answer.word: (" ".join(answer.phones).encode(), answer.probability)
        for answer in Pronouncer(model).pronounce(words)
    }
    requests = batches(words, WORDS_PER_REQUEST)
    before = server.memory_mb()
    outcome, peak = asyncio.run(overload(server, requests, expected, rate, seconds))
    time.sleep(SETTLING_S)
    after = server.memory_mb()
    refused = sum(outcome.errors.values())
    statuses = ", ".join(f"{status} {count}" for status, count in outcome.errors.items())
    report(
        f"{rate:,.0f} requests/s of {WORDS_PER_REQUEST} words for {seconds:.0f} s: "
        f"{len(outcome.latencies)} answered, {outcome.wrong} of them wrong, "
        f"{refused} refused ({statuses}); "
        f"answered in {outcome.percentile_ms(50):,.0f} ms, "
        f"p99 {outcome.percentile_ms(99):,.0f} ms; "
        f"memory {before:,.0f} MB before, {peak:,.0f} MB most, {after:,.0f} MB after"
    )
    problems = []
    if outcome.wrong:
        problems.append("wrong answers under load")
    if set(outcome.errors) - {"StatusCode.UNAVAILABLE"}:
        problems.append("improper errors under load")
    if after > before * (1 + MOST_MEMORY_KEPT):
        problems.append("memory that is kept")
    if not server.is_alive():
        problems.append("the server died")
    return problems


async def send(port: int, requests: Sequence[Request], in_flight: int) -> Outcome:
    """Send requests, so many at a time, and wait for all answers; an error ends it."""
    outcome = Outcome()
    waiting = iter(requests)
    async with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:

        async def work() -> None:
            for request in waiting:
                started = time.perf_counter()
                await client.infer("g2p", request, outputs=wanted())
                outcome.latencies.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        outcome.seconds = time.perf_counter() - started
    return outcome


async def overload(
    server: "Server",
    requests: Sequence[Request],
    expected: dict[str, tuple[bytes, float]],
    rate: float,
    seconds: float,
) -> tuple[Outcome, float]:
    """Send at a rate, whether answers come or not; return the outcome and the most memory."""
    outcome = Outcome(seconds=seconds)
    peak = 0.0
    async with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:

        async def ask(request: Request) -> None:
            started = time.perf_counter()
            try:
                answer = await client.infer("g2p", request, outputs=wanted())
            except InferenceServerException as error:
                outcome.errors[str(error.status())] += 1
                return
            outcome.latencies.append(time.perf_counter() - started)
            phones = answer.as_numpy("PHONES")[:, 0].tolist()
            probabilities = answer.as_numpy("PROBABILITY")[:, 0].tolist()
            known = [expected[word] for word in words_of(request)]
            outcome.wrong += list(zip(phones, probabilities, strict=True)) != known

        tasks = set()
        started = time.perf_counter()
        sent = 0
        while (passed := time.perf_counter() - started) < seconds:
            while sent < passed * rate:
                task = asyncio.create_task(ask(requests[sent % len(requests)]))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                sent += 1
                if sent % int(rate) == 0:
                    peak = max(peak, server.memory_mb())
            await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)
    return outcome, peak


def batches(words: Sequence[str], size: int) -> list[Request]:
    """Return requests of so many words each."""
    return [make_request(words[i : i + size]) for i in range(0, len(words) - size + 1, size)]


def make_request(words: Sequence[str]) -> Request:
    """Return the input of a request."""
    tensor = InferInput("WORD", [len(words), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[word.encode()] for word in words], dtype=object))
    return [tensor]


def wanted() -> list[InferRequestedOutput]:
    """Return the outputs of a request."""
    return [InferRequestedOutput(name) for name in OUTPUTS]


def words_of(request: Request) -> list[str]:
    """Return the words of a request, which are after four bytes with their length each."""
    content = request[0]._get_content()
    words = []
    while content:
        length = int.from_bytes(content[:4], "little")
        words.append(content[4 : 4 + length].decode())
        content = content[4 + length :]
    return words


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        process: ``g2p serve triton``.
        port: of gRPC.
    """

    process: subprocess.Popen
    port: int

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def memory_mb(self) -> float:
        """Return the memory of all its processes, in MB; what they share counts for each."""
        pages = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            # Its server has a session of its own, led by the server.
            if self.process.pid in (int(path.parent.name), int(fields[1])) or self._owns(fields):
                pages += int(fields[21])
        return pages * os.sysconf("SC_PAGE_SIZE") / MEMORY_UNIT

    def _owns(self, fields: Sequence[str]) -> bool:
        try:
            leader = Path(f"/proc/{fields[3]}/stat").read_text()
        except OSError:
            return False
        return int(leader.rpartition(")")[2].split()[1]) == self.process.pid


@contextmanager
def running(model: str, folder: str, *overrides: str) -> Iterator[Server]:
    """Run the server on a model."""
    http_port, grpc_port, metrics_port = (unused_port() for _ in range(3))
    command = [
        Path(sys.executable).with_name("g2p"),
        *("serve", "triton", "--model", model, "serve.engine=wheel"),
        *(f"serve.http_port={http_port}", f"serve.grpc_port={grpc_port}"),
        *(f"serve.metrics_port={metrics_port}", f"serve.repository={folder}/repository"),
        *overrides,
    ]
    with Path(folder, "server.log").open("a") as log:
        process = subprocess.Popen(command, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not answers(http_port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(Path(folder, "server.log").read_text()[-2000:])
            time.sleep(0.2)
        yield Server(process, grpc_port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def answers(port: int) -> bool:
    """Tell whether a server is ready."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=2):
            return True
    except (URLError, OSError):
        return False


def unused_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def report(line: str) -> None:
    """Show a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the command line."""
    fire.Fire(measure)


if __name__ == "__main__":
    main()
