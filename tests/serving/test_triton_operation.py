"""A server at work: what it tells, and what happens when parts of it change, die or end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from grapheme_to_phoneme import Pronouncer
from grapheme_to_phoneme.constants import MODEL_FILENAME
from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.serving.triton_client import RemotePronouncer
from tests.conftest import G2P, TinyRun, g2p_environment, run_g2p
from tests.engines import BEAM_SIZE, PROFILE
from tests.serving.triton import (
    ODDITIES,
    Server,
    children_of,
    grpc_input,
    grpc_rows,
    http_rows,
    library_rows,
    running_server,
    wait_until,
)

INFER = "/v2/models/g2p/infer"

#: That the server may take to stand again after a part of it died.
RECOVERY_LIMIT_S = 60

Rows = list[list[tuple[str, float]]]


@pytest.fixture(scope="module")
def words(tiny_run: TinyRun) -> list[str]:
    """Real words."""
    return list(group_by_spelling(tiny_run.lexicon.dev))


@pytest.fixture(scope="module")
def server(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a memory of answers; the tests break it in one way after the other."""
    folder = tmp_path_factory.mktemp("breakable")
    with running_server(folder, tiny_run.model, "serve.cached_words=0") as started:
        yield started


@pytest.fixture(scope="module")
def narrow_server(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that bears little."""
    limits = ("http.read_timeout_s=1.0", "http.most_connections=40", "http.most_bytes=2000")
    limits += ("queue_requests=4", "queue_timeout_ms=500", "cached_words=0", "restarts.most=0")
    folder = tmp_path_factory.mktemp("narrow")
    settings = [f"serve.{limit}" for limit in limits]
    with running_server(folder, tiny_run.model, *settings) as started:
        yield started


class Load:
    """Asks over gRPC, from several threads, until it is told to stop; keeps every outcome.

    Attributes:
        answers: of every request that was answered: its words, the model's version, the answer.
        errors: how often which error came.
    """

    def __init__(self, server: Server, words: list[str], threads: int = 4) -> None:
        self.answers: list[tuple[list[str], str, Rows]] = []
        self.errors: Counter[str] = Counter()
        self._server = server
        self._words = words
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(threads)
        ]

    def _ask(self, number: int) -> None:
        size = 3 + number
        start = number * 50
        with grpc.InferenceServerClient(f"127.0.0.1:{self._server.grpc_port}") as client:
            while not self._stop.is_set():
                start = (start + size) % (len(self._words) - size)
                chosen = self._words[start : start + size]
                try:
                    answer = client.infer("g2p", grpc_input(chosen), client_timeout=60)
                except InferenceServerException as error:
                    self.errors[f"{error.status()} {error.message()}"] += 1
                    time.sleep(0.01)
                else:
                    version = answer.get_response().model_version
                    self.answers.append((chosen, version, grpc_rows(answer)))

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Ask while the block runs; there is an answer before it and one after it."""
        for thread in self._threads:
            thread.start()
        try:
            wait_until(lambda: self.answers, 60)
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def check(self, libraries: dict[str, Pronouncer]) -> None:
        """Check every answer against the library, by the version of the model that gave it."""
        known: dict[tuple[str, str], Rows] = {}
        for chosen, version, rows in self.answers:
            for word, row in zip(chosen, rows, strict=True):
                if (version, word) not in known:
                    answers = libraries[version].pronounce([word])
                    known[version, word] = library_rows(answers)[0]
                assert row == known[version, word], word


# What it tells


def test_health_and_metadata(triton: Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/g2p/ready"):
        assert triton.ask("GET", path)[0] == 200
    status, metadata = triton.ask("GET", "/v2/models/g2p")
    assert status == 200
    assert metadata["inputs"] == [{"name": "WORD", "datatype": "BYTES", "shape": [-1, 1]}]
    assert {output["name"]: output["datatype"] for output in metadata["outputs"]} == {
        "PHONES": "BYTES",
        "PROBABILITY": "FP32",
        "ALIGNMENT": "BYTES",
        "SOURCE": "BYTES",
        "UNKNOWN": "BYTES",
    }
    status, config = triton.ask("GET", "/v2/models/g2p/config")
    parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
    assert (parameters["language"], parameters["notation"]) == ("en-US", "arpabet")
    assert float(parameters["dev_wer"]) > 0


def test_metrics(triton: Server) -> None:
    def answered() -> float:
        lines = triton.metrics().splitlines()
        name = 'nv_inference_request_success{model="g2p",version="1"}'
        (line,) = [line for line in lines if line.startswith(name)]
        return float(line.rpartition(" ")[2])

    before = answered()
    for _ in range(3):
        assert triton.infer(["stone"])[0] == 200
    # Triton counts an answer after it has sent it: those of earlier tests may be among them, too.
    wait_until(lambda: answered() >= before + 3, 10)


def test_log_is_structured(triton: Server) -> None:
    triton.ask("POST", "/v2/models/g2p/infer", b"{")
    events = triton.events()
    assert all({"time", "level", "source", "message"} <= set(event) for event in events)
    refusals = [event for event in events if event["source"] == "http"]
    assert (refusals[-1]["status"], refusals[-1]["level"]) == (400, "WARNING")
    assert "no JSON" in refusals[-1]["reason"]
    (ready,) = [event for event in events if event["message"] == "ready: g2p"]
    assert ready["http"] == triton.http


def test_loopback_alone(triton: Server) -> None:
    listening = subprocess.run(
        ["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    ports = {triton.http_port, triton.grpc_port, triton.metrics_port}
    addresses = set()
    for line in listening:
        _, _, rest = line.partition(": ")
        if rest and rest.split()[2] == "0A":
            address, _, port = rest.split()[0].partition(":")
            if int(port, 16) in ports:
                addresses.add(address)
    # 127.0.0.1, least significant byte first; gRPC writes it as an IPv6 address.
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F"} and addresses


# What it bears


def test_slow_and_greedy_clients(narrow_server: Server) -> None:
    assert narrow_server.ask("POST", INFER, b" " * 2001)[0] == 413
    address = ("127.0.0.1", narrow_server.http_port)
    with socket.create_connection(address, timeout=30) as slow:
        started = time.monotonic()
        slow.sendall(b"POST " + INFER.encode() + b" HTTP/1.1\r\ncontent-length: 10\r\n\r\n{")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 10
    idle = [socket.create_connection(address, timeout=30) for _ in range(40)]
    time.sleep(0.2)
    with socket.create_connection(address, timeout=30) as one_too_many:
        refused = one_too_many.recv(1000)
    assert refused.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in refused
    for connection in idle:
        connection.close()
    wait_until(lambda: narrow_server.infer(["stone"])[0] == 200, 30)


def test_more_than_it_can_do(narrow_server: Server, library: Pronouncer, words: list[str]) -> None:
    outcomes: Counter[int] = Counter()
    parameters = {"n_best": 8, "beam_size": 32}
    expected = library_rows(library.pronounce(words[:64], 8, 32), 8)

    def ask(_: int) -> None:
        status, answer = narrow_server.infer(words[:64], parameters=parameters)
        outcomes[status] += 1
        if status == 200:
            assert http_rows(answer) == expected
        else:
            assert status == 503 and answer["error"]

    with ThreadPoolExecutor(32) as senders:
        list(senders.map(ask, range(128)))
    assert set(outcomes) == {200, 503}
    assert narrow_server.infer(["stone"])[0] == 200


def test_server_that_keeps_dying_ends(narrow_server: Server) -> None:
    os.kill(narrow_server.pid(), signal.SIGKILL)
    assert narrow_server.process.wait(RECOVERY_LIMIT_S) == 2
    assert "g2p: error: the server died" in narrow_server.log.read_text()


# What dies


@pytest.mark.parametrize("victim", ["model", "server"])
def test_part_that_is_killed_comes_back(
    server: Server, library: Pronouncer, words: list[str], victim: str
) -> None:
    before = server.pid()
    # Those of the answers that came are right, and those that did not were told so.
    with Load(server, words).running() as traffic:
        os.kill(server.stubs()[0] if victim == "model" else before, signal.SIGKILL)
        wait_until(
            lambda: [pid for pid in children_of(server.process.pid, "tritonserver")] != [before],
            RECOVERY_LIMIT_S,
        )
        wait_until(lambda: server.ask("GET", "/v2/health/ready")[0] == 200, RECOVERY_LIMIT_S)
        count = len(traffic.answers)
        wait_until(lambda: len(traffic.answers) > count + 50, RECOVERY_LIMIT_S)
    traffic.check({"1": library})
    for error in traffic.errors:
        # Unknown is a model that is just being unloaded.
        statuses = ("UNAVAILABLE", "INTERNAL", "CANCELLED", "NOT_FOUND")
        assert any(f"StatusCode.{status} " in error for status in statuses), error
    status, answer = server.infer(["stone"])
    assert status == 200
    assert http_rows(answer) == library_rows(library.pronounce(["stone"]))
    assert any("starting the server again" in event["message"] for event in server.events())


# Versions


def load(server: Server) -> tuple[int, dict]:
    return server.ask("POST", "/v2/repository/models/g2p/load", b"")


def test_new_version_without_downtime_and_bad_one_refused(
    server: Server,
    library: Pronouncer,
    tiny_run: TinyRun,
    package_with_lexicon: Path,
    words: list[str],
    tmp_path: Path,
) -> None:
    # So that words of both kinds are asked for, those that it has and those that it has not.
    words = [*words[:500], *(entry.spelling for entry in tiny_run.lexicon.train[:500])]
    settings = [f"serve.repository={server.repository}", "serve.engine=wheel"]
    with Load(server, words).running() as traffic:
        exported = run_g2p(
            "export-triton",
            *("--model", package_with_lexicon, *settings, "serve.cached_words=0"),
            cwd=tmp_path,
        )
        assert exported.returncode == 0, exported.stderr.decode()
        assert load(server)[0] == 200
        count = len(traffic.answers)
        wait_until(lambda: len(traffic.answers) > count + 50, 60)

        # A version whose model file is cut off.
        newest = server.repository / "g2p" / "2"
        shutil.copytree(newest, newest.with_name("3"))
        cut = newest.with_name("3") / "package" / MODEL_FILENAME
        content = cut.read_bytes()
        cut.write_bytes(content[: len(content) // 2])
        status, answer = load(server)
        assert 400 <= status < 600 and "copy the package again" in answer["error"]
        count = len(traffic.answers)
        wait_until(lambda: len(traffic.answers) > count + 50, 60)
    assert traffic.errors == {}
    packaged = Pronouncer(package_with_lexicon)
    traffic.check({"1": library, "2": packaged})
    assert {version for _, version, _ in traffic.answers} == {"1", "2"}
    assert traffic.answers[-1][1] == "2"
    assert server.ask("GET", "/v2/health/ready")[0] == 200
    check_lexicon(server, package_with_lexicon, tiny_run)


def check_lexicon(server: Server, package: Path, tiny_run: TinyRun) -> None:
    """Check that the lexicon of the served package answers, wherever somebody asks."""
    known = [entry.spelling for entry in tiny_run.lexicon.train[:300]]
    words = [*known, known[0].upper(), "zzzgh", "na\u00efve", "", "x" * 300, "sto\udcffne"]
    for scheme in (server.http, server.grpc):
        for use_lexicon, notation in ((True, None), (True, "ipa"), (False, None)):
            remote = RemotePronouncer(scheme, use_lexicon=use_lexicon, notation=notation)
            local = Pronouncer(package, use_lexicon=use_lexicon, notation=notation)
            assert remote.pronounce(words, 2) == local.pronounce(words, 2)
    answers = Pronouncer(package).pronounce([known[0], "zzzgh"])
    for source, sources in ((None, ["lexicon", "model"]), ("model", ["model", "model"])):
        parameters = {} if source is None else {"source": source}
        status, answer = server.infer([known[0], "zzzgh"], parameters=parameters)
        assert status == 200
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        assert outputs["SOURCE"] == sources
    status, answer = server.infer([known[0], "zzzgh"], parameters={"source": "lexicon"})
    expected = library_rows(answers[:1])
    assert (status, http_rows(answer)) == (200, [*expected, [("", -1.0)]])


# How it ends


def test_requests_in_flight_are_answered(
    server: Server, package_with_lexicon: Path, words: list[str]
) -> None:
    library = Pronouncer(package_with_lexicon, use_lexicon=False)
    parameters = {"n_best": 16, "beam_size": 64, "source": "model"}
    batches = [words[start : start + 60] for start in range(0, 600, 60)] * 2
    pids = [server.pid(), *server.stubs()]

    def by_http(batch: list[str]) -> tuple[int, Rows]:
        status, answer = server.infer(batch, parameters=parameters)
        return status, http_rows(answer) if status == 200 else []

    def by_grpc(batch: list[str]) -> tuple[int, Rows]:
        with grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            return 200, grpc_rows(client.infer("g2p", grpc_input(batch), parameters=parameters))

    asks: list[Callable] = [by_http, by_grpc]
    with ThreadPoolExecutor(len(batches)) as senders:
        answers = [senders.submit(asks[index % 2], batch) for index, batch in enumerate(batches)]
        time.sleep(0.2)
        assert not all(answer.done() for answer in answers)
        server.process.send_signal(signal.SIGTERM)
        for batch, answer in zip(batches, answers, strict=True):
            status, rows = answer.result()
            assert status == 200
            assert rows == library_rows(library.pronounce(batch, 16, 64), 16)
    assert server.process.wait(60) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert server.events()[-1]["message"] == "stopped"


# The way of the container, where another backend of Triton runs the network

#: Runs the graph as Triton's ONNX Runtime backend does, which the wheel's server has not.
GRAPH_MODEL = """

from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, arguments):
        folder = Path(arguments["model_repository"]) / arguments["model_version"]
        self._session = onnxruntime.InferenceSession(folder / "model.onnx")

    def execute(self, requests):
        responses = []
        for request in requests:
            words, beam_size = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in ("words", "beam_size")
            )
            names = list(request.requested_output_names())
            words = np.array([word.decode() for word in words], dtype=object)
            values = self._session.run(names, {"words": words, "beam_size": beam_size})
            tensors = []
            for name, value in zip(names, values):
                if value.dtype == np.object_:
                    value = np.vectorize(str.encode, otypes=[object])(value)
                tensors.append(pb_utils.Tensor(name, value))
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses
"""


#: Runs the core network as Triton's TensorRT backend does, within the engine's shapes.
ENGINE_MODEL = """

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, arguments):
        folder = Path(arguments["model_repository"]) / arguments["model_version"]
        self._session = onnxruntime.InferenceSession(folder / "model.plan")
        parameters = json.loads(arguments["model_config"])["parameters"]
        self._smallest, self._largest = (
            [int(number) for number in parameters[name]["string_value"].split("x")]
            for name in ("smallest", "largest")
        )

    def execute(self, requests):
        # Those that come together, as for the warm-up, are one batch.
        parts = [
            pb_utils.get_input_tensor_by_name(request, "letters").as_numpy()
            for request in requests
        ]
        letters = np.concatenate(parts)
        for least, number, most in zip(self._smallest, letters.shape, self._largest):
            assert least <= number <= most, letters.shape
        names = ["chunk_ids", "log_probabilities"]
        values = self._session.run(names, {"letters": letters})
        responses = []
        start = 0
        for part in parts:
            rows = slice(start, start + len(part))
            tensors = [pb_utils.Tensor(name, value[rows]) for name, value in zip(names, values)]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            start += len(part)
        return responses
"""

#: Serves both models, which the command does with Docker alone.
RUNNER_PROGRAM = """
import re
import sys
from pathlib import Path
from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.packaging.triton_repository import export_repository, find_plan
from grapheme_to_phoneme.serving import triton_server

backend, code, *overrides = sys.argv[1:]
settings = compose_config(["serve=triton", *overrides]).serve
model = Path(settings.model)
repository = export_repository(model, settings, backend, find_plan(model, settings))
runner = repository.path / repository.models[0]
config = runner / "config.pbtxt"
content = config.read_text().replace("KIND_GPU", "KIND_CPU")
content = re.sub('(?m)^(backend|platform): ".*"', 'backend: "python"', content)
config.write_text(re.sub('filename: ".*"', 'filename: "model.py"', content))
(runner / "1" / "model.py").write_text(code)
triton_server.serve(settings, repository.models, "wheel")
"""


def test_graph_in_another_model(
    tiny_run: TinyRun, package_with_lexicon: Path, words: list[str], tmp_path: Path
) -> None:
    program = [sys.executable, "-c", RUNNER_PROGRAM, "onnxruntime", GRAPH_MODEL]
    library = Pronouncer(package_with_lexicon)
    words = [*words[:100], tiny_run.lexicon.train[0].spelling]
    with running_server(tmp_path, package_with_lexicon, command=program) as server:
        for n_best in (1, 3):
            answers = library.pronounce(words, n_best)
            status, answer = server.infer(words, parameters={"n_best": n_best})
            assert status == 200, answer
            assert http_rows(answer) == library_rows(answers, n_best)
        assert (answers[0].source, answers[-1].source) == ("model", "lexicon")
        status, answer = server.infer(["zzzgh"], parameters={"align": True})
        (alignment,) = [output for output in answer["outputs"] if output["name"] == "ALIGNMENT"]
        (expected,) = library.pronounce(["zzzgh"], with_alignment=True)
        pairs = [(letter, tuple(phones)) for letter, phones in json.loads(alignment["data"][0])]
        assert tuple(pairs) == expected.alignment
        # As Ctrl-C does.
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
        assert server.events()[-1]["message"] == "stopped"


def round_rows(rows: Rows) -> Rows:
    """Return rows without the last digits, in which two networks with the same weights differ."""
    return [[(text, pytest.approx(value, abs=1e-5)) for text, value in row] for row in rows]


def test_engine_in_another_model(
    tiny_run: TinyRun,
    stand_in_engine: Path,
    package_with_lexicon: Path,
    words: list[str],
    tmp_path: Path,
) -> None:
    program = [sys.executable, "-c", RUNNER_PROGRAM, "tensorrt", ENGINE_MODEL]
    library = Pronouncer(tiny_run.float32_model, longest_word=PROFILE.largest[1])
    # More words than a batch may have, words of several pieces, letters that are none.
    words = [*words[:300], *ODDITIES, "stone" * 20, "kitten" * 8, "a", "bo"]
    plan = f"serve.plan={stand_in_engine}"
    with running_server(tmp_path, package_with_lexicon, plan, command=program) as server:
        for n_best in (1, 3, BEAM_SIZE):
            parameters = {"n_best": n_best, "source": "model"}
            status, answer = server.infer(words, parameters=parameters)
            assert status == 200, answer
            answers = library.pronounce(words, n_best, BEAM_SIZE)
            assert http_rows(answer) == round_rows(library_rows(answers, n_best))
        # The lexicon is asked before it.
        known = tiny_run.lexicon.train[0].spelling
        status, answer = server.infer([known, "zzzgh"])
        (source,) = [output for output in answer["outputs"] if output["name"] == "SOURCE"]
        assert source["data"] == ["lexicon", "model"]
        remote = RemotePronouncer(server.grpc)
        assert remote.metadata == library.metadata
        aligned = remote.pronounce(words[-40:], with_alignment=True, source="model")
        expected = library.pronounce(words[-40:], 1, BEAM_SIZE, with_alignment=True)
        assert [answer.alignment for answer in aligned] == [
            answer.alignment for answer in expected
        ]
        for parameters in ({"n_best": BEAM_SIZE + 1}, {"beam_size": BEAM_SIZE + 1}):
            status, answer = server.infer(["stone"], parameters=parameters)
            assert status == 400 and f"to {BEAM_SIZE}, not {BEAM_SIZE + 1}" in answer["error"]
            with pytest.raises(InferenceServerException, match=f"to {BEAM_SIZE}") as refusal:
                with grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
                    client.infer("g2p", grpc_input(["stone"]), parameters=parameters)
            assert refusal.value.status() == "StatusCode.INVALID_ARGUMENT"


# What keeps it from starting


def start(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [G2P, "serve", *arguments],
        cwd=cwd,
        env=g2p_environment(),
        capture_output=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("setting", "status", "reason"),
    [
        ("serve.engine=nonsense", 2, "choose docker, wheel or auto"),
        ("serve.log_format=xml", 2, "choose json or text"),
        ("serve.backend=onnxruntime", 2, "serve.engine=wheel runs serve.backend=python"),
        ("serve.wheel.python=/bin/false", 3, "is no Python"),
        ("serve.wheel.python=/missing/python", 3, "is no Python"),
        ("serve.http_port=no", 2, "a whole number"),
    ],
)
def test_wrong_settings(
    tiny_run: TinyRun, tmp_path: Path, setting: str, status: int, reason: str
) -> None:
    engine = () if setting.startswith("serve.engine") else ("serve.engine=wheel",)
    completed = start("triton", "--model", tiny_run.model, *engine, setting, cwd=tmp_path)
    said = completed.stderr.decode()
    assert completed.returncode == status, said
    assert said.splitlines()[-1].startswith("g2p: error: ") and reason in said.splitlines()[-1]


def test_port_is_taken(triton: Server, tiny_run: TinyRun, tmp_path: Path) -> None:
    for name, port in (("http_port", triton.http_port), ("grpc_port", triton.grpc_port)):
        settings = [f"serve.{name}={port}", "serve.engine=wheel"]
        completed = start("triton", "--model", tiny_run.model, *settings, cwd=tmp_path)
        assert completed.returncode == 2
        assert f"serve.{name}=PORT" in completed.stderr.decode().splitlines()[-1]


@pytest.mark.parametrize("arguments", [(), ("nothing",)])
def test_no_such_server(arguments: tuple[str, ...], tmp_path: Path) -> None:
    completed = start(*arguments, cwd=tmp_path)
    assert completed.returncode == 2
    assert "g2p serve triton" in completed.stderr.decode()


def test_model_is_checked_before_anything_starts(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    completed = start("triton", "--model", broken, "serve.engine=wheel", cwd=tmp_path)
    assert completed.returncode == 2
    assert not (tmp_path / ".triton").exists()
