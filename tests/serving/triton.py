"""Starts the real server, as a person does, and speaks to it."""

import http.client
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from tritonclient import grpc

from grapheme_to_phoneme.inference.base import Pronunciation
from grapheme_to_phoneme.serving.ports import unused_port
from grapheme_to_phoneme.serving.triton_wheel import PYTHON_VERSIONS
from tests.conftest import G2P, REPOSITORY, g2p_environment

#: Made once for all tests, and for the developer's own servers.
ENVIRONMENT = REPOSITORY / ".triton" / "environment"

#: The first start also makes that environment.
START_LIMIT_S = 400
STOP_LIMIT_S = 60

OUTPUTS = ("PHONES", "PROBABILITY", "ALIGNMENT", "SOURCE", "UNKNOWN")


#: Every kind of thing that is no plain word, and is a word all the same.
ODDITIES = [
    "CAFÉ",
    "cafe\u0301",
    "naïve",
    "Straße",
    "ﬁnger",
    "o\u2019neil",
    "O'Neil",
    "\u02bcstone",
    "re\u00adlease",
    "zero\u200bwidth",
    "join\u200der",
    "\ufeffstone",
    "İstanbul",
    "ısı",
    "Ǆungla",
    "Ａｂｃ",
    "😀",
    "st😀ne",
    "Привет",
    "שלום",
    "日本",
    "e\u0301\u0301\u0301",
    "\u0301stone",
    "stone\u0000stone",
    "two words",
    "tab\tword",
    " stone ",
    "123",
    "x" * 256,
]


@dataclass(frozen=True)
class Server:
    """A running ``g2p serve triton``.

    Attributes:
        process: it.
        log: the file of its log.
        repository: the model repository that it reads.
        http_port: where it listens.
        grpc_port: likewise.
        metrics_port: likewise.
    """

    process: subprocess.Popen
    log: Path
    repository: Path
    http_port: int
    grpc_port: int
    metrics_port: int

    @property
    def http(self) -> str:
        """The address that ``--server`` takes."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        """The address that ``--server`` takes."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    def events(self) -> list[dict]:
        """Return the events of its log so far; a line that is no JSON object fails."""
        lines = self.log.read_text(encoding="utf-8").rstrip("\n").split("\n")
        return [json.loads(line) for line in lines]

    def pid(self) -> int:
        """Return the process of Triton itself."""
        (pid,) = children_of(self.process.pid, "tritonserver")
        return pid

    def stubs(self) -> list[int]:
        """Return the processes with the model."""
        return [pid for server in children_of(self.process.pid) for pid in children_of(server)]

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict]:
        """Send a request over HTTP; return the status and the JSON of the answer."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(content) if content else {}

    def infer(
        self, words: Sequence, shape: Sequence[int] | None = None, **fields
    ) -> tuple[int, dict]:
        """Ask for words over HTTP, with further fields of the request."""
        tensor = {
            "name": "WORD",
            "datatype": "BYTES",
            "shape": list((len(words), 1) if shape is None else shape),
            "data": list(words),
        }
        return self.ask("POST", "/v2/models/g2p/infer", {"inputs": [tensor], **fields})

    def infer_bytes(self, payload: bytes, shape: Sequence[int] = (1, 1)) -> tuple[int, dict]:
        """Ask over HTTP with a tensor in binary."""
        tensor = {
            "name": "WORD",
            "datatype": "BYTES",
            "shape": list(shape),
            "parameters": {"binary_data_size": len(payload)},
        }
        head = json.dumps({"inputs": [tensor]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        return self.ask("POST", "/v2/models/g2p/infer", head + payload, headers)

    def send(self, content: bytes) -> bytes:
        """Send bytes, whatever they are, and nothing after them; return what comes back."""
        with socket.create_connection(("127.0.0.1", self.http_port), timeout=60) as connection:
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError, OSError):
                # Refused before all of it was there.
                pass
            received = []
            try:
                while part := connection.recv(65536):
                    received.append(part)
            except ConnectionResetError:
                pass
        return b"".join(received)

    def metrics(self) -> str:
        """Return the metrics."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            return answer.read().decode()


def serialize(*words: bytes) -> bytes:
    """Return a tensor of strings in binary."""
    return b"".join(struct.pack("<I", len(word)) + word for word in words)


def grpc_input(
    words: Sequence[str | bytes], shape: Sequence[int] | None = None
) -> list[grpc.InferInput]:
    """Return the input of a request over gRPC."""
    shape = (len(words), 1) if shape is None else shape
    contents = [word if isinstance(word, bytes) else word.encode() for word in words]
    tensor = grpc.InferInput("WORD", list(shape), "BYTES")
    tensor.set_data_from_numpy(np.array(contents, dtype=object).reshape(shape))
    return [tensor]


def http_rows(answer: dict) -> list[list[tuple[str, float]]]:
    """Return phones and probability of every pronunciation, a row a word."""
    outputs = {output["name"]: output for output in answer["outputs"]}
    n_best = outputs["PHONES"]["shape"][-1]
    pairs = list(zip(outputs["PHONES"]["data"], outputs["PROBABILITY"]["data"], strict=True))
    return [pairs[start : start + n_best] for start in range(0, len(pairs), n_best)]


def grpc_rows(answer: grpc.InferResult) -> list[list[tuple[str, float]]]:
    """Return what :func:`http_rows` does."""
    phones, probabilities = answer.as_numpy("PHONES"), answer.as_numpy("PROBABILITY")
    n_best = phones.shape[-1]
    texts = [text.decode() for text in phones.ravel().tolist()]
    pairs = list(zip(texts, probabilities.ravel().tolist(), strict=True))
    return [pairs[start : start + n_best] for start in range(0, len(pairs), n_best)]


def library_rows(
    answers: Sequence[Pronunciation], n_best: int = 1
) -> list[list[tuple[str, float]]]:
    """Return what :func:`http_rows` does, for answers of the library."""
    rows = []
    for answer in answers:
        choices = (answer, *answer.alternatives)
        row = [(" ".join(choice.phones), choice.probability) for choice in choices]
        rows.append(row + [("", -1.0)] * (n_best - len(row)))
    return rows


def children_of(pid: int, name: str = "") -> list[int]:
    """Return the living processes that a process started, those with a name alone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            begin, _, rest = path.read_text().rpartition(")")
            state, parent, *_ = rest.split()
        except OSError:
            continue
        if int(parent) == pid and state != "Z" and begin.rpartition("(")[2].startswith(name[:15]):
            found.append(int(path.parent.name))
    return found


def wait_until(condition, seconds: float) -> None:
    """Wait until something is so; fail where it never is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def running_server(
    folder: Path,
    model: Path,
    *overrides: str,
    command: Sequence[str | Path] = (G2P, "serve", "triton"),
) -> Iterator[Server]:
    """Run ``g2p serve triton`` on a model, and stop it afterwards.

    Args:
        folder: where its files go.
        model: what it serves.
        overrides: settings.
        command: another command that takes the same arguments.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the server of the wheel is a program for Linux x86-64")
    if f"{sys.version_info.major}.{sys.version_info.minor}" not in PYTHON_VERSIONS:
        pytest.skip(f"the server of the wheel runs Python {' or '.join(PYTHON_VERSIONS)}")
    ports = [unused_port() for _ in range(3)]
    log = folder / "server.log"
    repository = folder / "repository"
    names = ("http_port", "grpc_port", "metrics_port")
    arguments = [
        f"serve.model={model}",
        *(f"serve.{name}={port}" for name, port in zip(names, ports, strict=True)),
        "serve.engine=wheel",
        f"serve.repository={repository}",
        f"serve.wheel.environment={ENVIRONMENT}",
        *overrides,
    ]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=g2p_environment(),
            stderr=stream,
            start_new_session=True,
        )
    server = Server(process, log, repository, *ports)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while '"message": "ready' not in log.read_text(encoding="utf-8"):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
