"""What is no sound request is refused with a status that says so, and the next one is answered."""

import http.client
import json
import re
import socket

import grpc as plain_grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient import grpc
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from grapheme_to_phoneme import Pronouncer
from tests.serving.triton import (
    Server,
    grpc_input,
    http_rows,
    library_rows,
    serialize,
)

INFER = "/v2/models/g2p/infer"

#: Together more than ten thousand requests.
FUZZED_BODIES = 2500
FUZZED_BYTES = 4000
FUZZED_HEADS = 2000
FUZZED_TENSORS = 1000
FUZZED_CALLS = 1000

FUZZING = {
    "database": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}

SOUND = {"name": "WORD", "datatype": "BYTES", "shape": [1, 1], "data": ["stone"]}


def check_alive(server: Server, library: Pronouncer) -> None:
    """Check that the server is the one that was started, and answers."""
    assert server.process.poll() is None
    restarts = [event for event in server.events() if "starting the server again" in str(event)]
    assert restarts == []
    status, answer = server.infer(["stone", "kitten"])
    assert status == 200
    assert http_rows(answer) == library_rows(library.pronounce(["stone", "kitten"]))


@pytest.fixture(autouse=True)
def _next_request_is_right(triton: Server, library: Pronouncer):
    yield
    check_alive(triton, library)


# What is wrong with a request, one thing at a time


@pytest.mark.parametrize(
    ("words", "shape", "reason"),
    [
        ([], None, "WORD"),
        ([], (1, 0), "unexpected shape"),
        ([], (0, 0), "unexpected shape"),
        ([], (0,), "unexpected shape"),
        (["stone", ""], None, "word 1 is empty"),
        (["  \u200b"], None, "word 0 is empty"),
        (["a" * 100_000], None, "word 0 has 100000 characters, a word may have 256"),
        (["a"] * 1025, None, "batch-size must be <= 1024"),
        (["a"], (1,), "unexpected shape"),
        (["a"], (1, 1, 1), "unexpected shape"),
        (["a"], (2, 1), "expected 2 string elements"),
        (["a", "b"], (1, 2), "unexpected shape"),
        (["a"], (2**40, 1), "dimension"),
        (["a"], (1, -1), "shape"),
        (["a"], (1, 1.5), "shape"),
        ([1], None, "non-string"),
        ([None], None, "non-string"),
        ([["a"]], None, ""),
    ],
)
def test_words_and_shapes(triton: Server, words: list, shape: tuple, reason: str) -> None:
    status, answer = triton.infer(words, shape)
    # What JSON nests is as many words as it has, which is as Triton reads it.
    if words == [["a"]]:
        assert status == 200
        return
    assert status == 400
    assert reason in answer["error"]


@pytest.mark.parametrize("datatype", ["INT32", "FP32", "STRING", "bytes", "", 7, None])
def test_wrong_type(triton: Server, datatype) -> None:
    status, answer = triton.ask("POST", INFER, {"inputs": [{**SOUND, "datatype": datatype}]})
    assert status == 400
    assert answer["error"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_best": 0},
        {"n_best": 17},
        {"n_best": -1},
        {"n_best": "3"},
        {"n_best": 1.5},
        {"n_best": True},
        {"n_best": 2**70},
        {"beam_size": 0},
        {"beam_size": 65},
        {"n_best": 4, "beam_size": 3},
        {"align": 1},
        {"normalized": "yes"},
        {"nbest": 3},
        {"source": "dictionary"},
        {"source": True},
        {"source": 1},
    ],
)
def test_wrong_parameters(triton: Server, parameters: dict) -> None:
    status, answer = triton.infer(["stone"], parameters=parameters)
    assert status == 400
    assert answer["error"]


@pytest.mark.parametrize(
    ("payload", "shape"),
    [
        (serialize(b"\xff\xfe"), (1, 1)),
        (serialize(b"sto\x80ne"), (1, 1)),
        (serialize(b"\xed\xa0\x80"), (1, 1)),
        (serialize(b"stone", b"kitten"), (1, 1)),
        (serialize(b"stone"), (2, 1)),
        (b"\xff\xff\xff\xffstone", (1, 1)),
        (b"\x09\x00\x00\x00stone", (1, 1)),
        (b"ab", (1, 1)),
        (b"", (1, 1)),
    ],
)
def test_wrong_bytes(triton: Server, payload: bytes, shape: tuple[int, int]) -> None:
    # A refusal stays one when it is asked for again.
    for _ in range(2):
        status, answer = triton.infer_bytes(payload, shape)
        assert status == 400
        assert answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/g2p/versions/99/infer", 404),
        ("POST", "/v2/models/g2p/versions/x/infer", 404),
        ("POST", "/v2/models/g2p/versions/99999999999999999999999/infer", 400),
        ("POST", "/v2/models/nobody/infer", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/g2p/versions/99/ready", 400),
        ("GET", INFER, 405),
        ("PUT", INFER, 405),
        ("HEAD", "/v2/health/ready", 405),
        ("POST", "/v2/health/ready", 405),
        ("GET", "/", 404),
        ("GET", "/etc/passwd", 404),
        ("GET", "/v2/../v2", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
        ("POST", "/v2/systemsharedmemory/region/any/register", 404),
        ("POST", "/v2/logging", 404),
        ("GET", "/v2/trace/setting", 404),
        ("POST", "/v2/models/g2p/generate", 404),
        ("POST", "/v2/repository/models/nobody/load", 404),
    ],
)
def test_wrong_path(triton: Server, method: str, path: str, status: int) -> None:
    body = {"inputs": [SOUND]} if path.endswith("infer") and method != "GET" else None
    assert triton.ask(method, path, body)[0] == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"stone"',
        b"{}",
        b'{"inputs": []}',
        b'{"inputs": {}}',
        b'{"inputs": [1]}',
        b'{"inputs": NaN}',
        b'{"inputs": [{}]}',
        json.dumps({"inputs": [SOUND, SOUND]}).encode(),
        json.dumps({"inputs": [SOUND, {**SOUND, "name": "OTHER"}]}).encode(),
        json.dumps({"inputs": [{**SOUND, "data": ["\ud800"]}]}).encode(),
        json.dumps({"inputs": [SOUND], "outputs": [{"name": "NOTHING"}]}).encode(),
        json.dumps({"inputs": [SOUND]}).encode("utf-16"),
        json.dumps({"inputs": [SOUND]}).encode() + b"\x00",
        b"[" * 200_000,
        b'{"inputs": ' * 200_000,
        b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"parameters": {"n_best": ' + b"9" * 10_000 + b"}}",
    ],
)
def test_wrong_body(triton: Server, body: bytes) -> None:
    status, answer = triton.ask("POST", INFER, body)
    assert status == 400
    assert answer["error"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /v2 HTTP/2.0\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1", 400),
        (b"GET /v2\x00 HTTP/1.1\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nname : value\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nname: a\r\n folded\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nname: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"POST " + INFER.encode() + b" HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST " + INFER.encode() + b" HTTP/1.1\r\ncontent-length: 1e3\r\n\r\n", 400),
        (b"POST " + INFER.encode() + b" HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (
            b"POST "
            + INFER.encode()
            + b" HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
            400,
        ),
        (
            b"POST "
            + INFER.encode()
            + b" HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
            400,
        ),
        (b"POST " + INFER.encode() + b" HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        (
            b"POST " + INFER.encode() + b" HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
            400,
        ),
        (
            b"POST "
            + INFER.encode()
            + b" HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}no end",
            400,
        ),
        (
            b"POST "
            + INFER.encode()
            + b" HTTP/1.1\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
            415,
        ),
    ],
)
def test_wrong_http(triton: Server, content: bytes, status: int) -> None:
    received = triton.send(content)
    assert received.startswith(b"HTTP/1.1 %d " % status)


def test_chunks_and_pipelines_are_understood(triton: Server) -> None:
    body = json.dumps({"inputs": [SOUND]}).encode()
    chunks = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in body) + b"0\r\n\r\n"
    head = b"POST " + INFER.encode() + b" HTTP/1.1\r\n"
    whole = head + b"content-length: %d\r\n\r\n" % len(body) + body
    received = triton.send(head + b"transfer-encoding: chunked\r\n\r\n" + chunks + whole)
    assert len(re.findall(rb"HTTP/1.1 200 OK", received)) == 2


def test_body_that_is_announced_and_waited_for(triton: Server) -> None:
    body = json.dumps({"inputs": [SOUND]}).encode()
    with socket.create_connection(("127.0.0.1", triton.http_port), timeout=30) as connection:
        connection.sendall(
            b"POST "
            + INFER.encode()
            + b" HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


# gRPC


@pytest.mark.parametrize(
    ("words", "shape", "version", "status"),
    [
        ([], (0, 1), "", "INVALID_ARGUMENT"),
        ([], (1, 0), "", "INVALID_ARGUMENT"),
        ([], (0, 0), "", "INVALID_ARGUMENT"),
        ([], (0,), "", "INVALID_ARGUMENT"),
        ([""], (1, 1), "", "INVALID_ARGUMENT"),
        (["a" * 100_000], (1, 1), "", "INVALID_ARGUMENT"),
        ([b"\xff"], (1, 1), "", "INVALID_ARGUMENT"),
        (["a"], (1,), "", "INVALID_ARGUMENT"),
        (["a"] * 1025, (1025, 1), "", "INVALID_ARGUMENT"),
        (["a"], (1, 1), "99", "NOT_FOUND"),
    ],
)
def test_wrong_call(triton: Server, words: list, shape: tuple, version: str, status: str) -> None:
    with grpc.InferenceServerClient(f"127.0.0.1:{triton.grpc_port}") as client:
        for _ in range(2):
            with pytest.raises(InferenceServerException) as raised:
                client.infer("g2p", grpc_input(words, shape), version)
            assert raised.value.status() == f"StatusCode.{status}"


def test_closed_interfaces(triton: Server) -> None:
    with grpc.InferenceServerClient(f"127.0.0.1:{triton.grpc_port}") as client:
        for question in (client.get_system_shared_memory_status, client.get_trace_settings):
            with pytest.raises(InferenceServerException):
                question()


# Many malformed requests


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["WORD", "BYTES", "stone", "PHONES"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["name", "datatype", "shape", "data", "parameters", "inputs"])
        | st.text(max_size=8),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("WORD") | JSON_VALUES,
        "datatype": st.sampled_from(["BYTES", "INT32", "FP32", "BOOL"]) | JSON_VALUES,
        "shape": st.lists(st.integers(-2, 5) | st.sampled_from([2**31, 2**63 - 1]), max_size=4)
        | JSON_VALUES,
        "data": st.lists(st.text(max_size=6), max_size=6) | JSON_VALUES,
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data_size", "shared_memory_region", "classification"]),
            st.integers(-(2**65), 2**65) | JSON_VALUES,
            max_size=2,
        ),
    },
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=5) | JSON_VALUES,
        "inputs": st.lists(TENSORS, max_size=3) | JSON_VALUES,
        "outputs": st.lists(TENSORS, max_size=2) | JSON_VALUES,
        "parameters": st.dictionaries(
            st.sampled_from(
                ["n_best", "align", "sequence_id", "priority", "timeout", "binary_data_output"]
            )
            | st.text(max_size=5),
            JSON_VALUES,
            max_size=3,
        )
        | JSON_VALUES,
    },
)


def check_status(status: int, answer: dict) -> None:
    """Check that a request was refused, or answered because it happened to be sound."""
    assert 400 <= status < 500 or (status == 200 and len(answer["outputs"]) >= 1), answer


@pytest.fixture(scope="module")
def connection(triton: Server) -> http.client.HTTPConnection:
    """A connection that is used again and again."""
    return http.client.HTTPConnection("127.0.0.1", triton.http_port, timeout=60)


@settings(max_examples=FUZZED_BODIES, **FUZZING)
@given(body=BODIES)
def test_fuzzed_bodies(connection: http.client.HTTPConnection, body: dict) -> None:
    connection.request("POST", INFER, json.dumps(body).encode())
    answer = connection.getresponse()
    check_status(answer.status, json.loads(answer.read()))


@settings(max_examples=FUZZED_TENSORS, **FUZZING)
@given(
    payload=st.binary(max_size=60)
    | st.lists(st.binary(max_size=8), max_size=4).map(lambda words: serialize(*words)),
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=3),
)
def test_fuzzed_tensors(triton: Server, payload: bytes, shape: list[int]) -> None:
    check_status(*triton.infer_bytes(payload, shape))


@settings(max_examples=FUZZED_BYTES, **FUZZING)
@given(
    content=st.binary(max_size=300)
    | st.tuples(
        st.sampled_from(["GET", "POST", "PUT", "get", "\x00"]),
        st.sampled_from([INFER, "/v2", "/v2/health/ready", "//", "*", "/v2/models/g2p/%00"]),
        st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/9", ""]),
        st.binary(max_size=100),
    ).map(lambda parts: " ".join(parts[:3]).encode() + b"\r\n" + parts[3] + b"\r\n\r\n")
)
def test_fuzzed_bytes(triton: Server, content: bytes) -> None:
    received = triton.send(content)
    for status in re.findall(rb"^HTTP/1\.1 (\d+)", received):
        assert 200 <= int(status) < 500 or int(status) == 501


@settings(max_examples=FUZZED_HEADS, **FUZZING)
@given(
    headers=st.dictionaries(
        st.sampled_from(
            [
                "content-length",
                "transfer-encoding",
                "inference-header-content-length",
                "content-type",
                "content-encoding",
                "connection",
                "expect",
                "host",
            ]
        ),
        st.sampled_from(["chunked", "0", "5", "-1", "close", "gzip", "999999", "100-continue", ""])
        | st.text(st.characters(max_codepoint=255), max_size=10),
        max_size=4,
    )
)
def test_fuzzed_heads(triton: Server, headers: dict[str, str]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = json.dumps({"inputs": [SOUND]})
    received = triton.send(f"POST {INFER} HTTP/1.1\r\n{lines}\r\n{body}".encode("latin-1"))
    for status in re.findall(rb"^HTTP/1\.1 (\d+)", received):
        assert 100 <= int(status) < 500 or int(status) == 501


@pytest.fixture(scope="module")
def channel(triton: Server):
    """gRPC without a client that would refuse to send what is wrong."""
    with plain_grpc.insecure_channel(f"127.0.0.1:{triton.grpc_port}") as opened:
        yield opened


@settings(max_examples=FUZZED_CALLS, **FUZZING)
@given(
    name=st.just("WORD") | st.text(max_size=5),
    datatype=st.just("BYTES") | st.sampled_from(["INT32", "FP16", ""]) | st.text(max_size=5),
    shape=st.lists(st.integers(-2, 4) | st.sampled_from([2**31, 2**62]), max_size=3),
    raw=st.lists(st.binary(max_size=40), max_size=2),
    contents=st.lists(st.binary(max_size=5), max_size=3),
    n_best=st.integers(-(2**63), 2**63 - 1) | st.none(),
)
def test_fuzzed_calls(channel, name, datatype, shape, raw, contents, n_best) -> None:
    request = service_pb2.ModelInferRequest(model_name="g2p", raw_input_contents=raw)
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    tensor.contents.bytes_contents.extend(contents)
    if n_best is not None:
        request.parameters["n_best"].int64_param = n_best
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )
    try:
        assert len(call(request, timeout=60).outputs) == 5
    except plain_grpc.RpcError as error:
        refusals = (plain_grpc.StatusCode.INVALID_ARGUMENT, plain_grpc.StatusCode.NOT_FOUND)
        assert error.code() in refusals, error


@settings(max_examples=FUZZED_CALLS, **FUZZING)
@given(content=st.binary(max_size=200))
def test_fuzzed_messages(channel, content: bytes) -> None:
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(plain_grpc.RpcError) as raised:
        call(content, timeout=60)
    assert raised.value.code() is not plain_grpc.StatusCode.UNAVAILABLE
