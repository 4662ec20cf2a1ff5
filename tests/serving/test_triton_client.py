"""The client, before servers that are no Triton, or a strange one."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from tritonclient import grpc

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.serving.triton_client import connect
from grapheme_to_phoneme.serving.triton_protocol import DEFAULT_OPTIONS

WORDS = ["stone", "kitten"]


def outputs(**changes: object) -> dict:
    """Return a sound answer to the two words, but for some of what it says of the phones."""
    phones = {"name": "PHONES", "shape": [2, 1], "data": ["S T", "K"], **changes}
    return {"outputs": [phones, {"name": "PROBABILITY", "shape": [2, 1], "data": [0.5, 0.25]}]}


@contextmanager
def server_that_says(content: object) -> Iterator[str]:
    """Run a server that answers everything with a JSON document; give its address."""
    body = json.dumps(content).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_sound_answer() -> None:
    with server_that_says(outputs()) as address:
        found = connect(address, "g2p", 60.0).infer(WORDS, DEFAULT_OPTIONS)
    assert [[choice.phones for choice in choices] for choices in found] == [[("S", "T")], [("K",)]]


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        {"outputs": 3},
        {"outputs": [{}]},
        {"outputs": outputs()["outputs"][:1]},
        outputs(shape=[2, 0]),
        outputs(shape=[]),
        outputs(shape=None),
        outputs(data=[1, 2]),
        outputs(data=["S T"]),
        {"outputs": [{**output, "data": output["data"][:1]} for output in outputs()["outputs"]]},
    ],
)
def test_strange_answer(content: object) -> None:
    with server_that_says(content) as address:
        transport = connect(address, "g2p", 60.0)
        with pytest.raises(UserError, match=f"what answers at {address} is no Triton"):
            transport.infer(WORDS, DEFAULT_OPTIONS)


@pytest.mark.parametrize(
    "values", [None, np.array(["S T"]), np.array([[b"S T"]]), np.array([[1], [2]])]
)
def test_strange_answer_over_grpc(
    monkeypatch: pytest.MonkeyPatch, values: np.ndarray | None
) -> None:
    answer = SimpleNamespace(as_numpy=lambda name: values)
    monkeypatch.setattr(grpc.InferenceServerClient, "infer", lambda *_, **__: answer)
    transport = connect("grpc://127.0.0.1:1", "g2p", 60.0)
    with pytest.raises(UserError, match="what answers at grpc://127.0.0.1:1 is no Triton"):
        transport.infer(WORDS, DEFAULT_OPTIONS)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 1e300])
def test_time_that_is_none(timeout_s: float) -> None:
    with pytest.raises(UserError, match="server_timeout_s must be above 0"):
        connect("http://127.0.0.1:1", "g2p", timeout_s)
