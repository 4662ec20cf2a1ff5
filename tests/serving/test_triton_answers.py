"""What a model says in the library it says in Triton: over HTTP, gRPC and the command line."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tritonclient import grpc

from grapheme_to_phoneme import Pronouncer
from grapheme_to_phoneme.errors import MissingDependencyError, UserError
from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.serving.ports import unused_port
from grapheme_to_phoneme.serving.triton_client import RemotePronouncer, connect
from grapheme_to_phoneme.serving.triton_protocol import Options
from tests.conftest import REPOSITORY, TinyRun, run_g2p
from tests.serving.triton import (
    ODDITIES,
    OUTPUTS,
    Server,
    grpc_input,
    grpc_rows,
    http_rows,
    library_rows,
)

REAL_WORDS = 5000

#: Words of a request.
BATCH_SIZES = [1, 7, 64, 500, 1024]

#: What a server is not told: no words, no UTF-8, or too long.
LOCAL_ODDITIES = ["", "  ", "\u200b", "sto\udcffne", "\udc80", "stone" * 400, "\ud800stone"]


@pytest.fixture(scope="module")
def words(tiny_run: TinyRun) -> list[str]:
    """Real words."""
    entries = [*tiny_run.lexicon.dev, *tiny_run.lexicon.train]
    return list(group_by_spelling(entries))[:REAL_WORDS]


def ask_http(server: Server, words: list[str], **parameters) -> list:
    status, answer = server.infer(words, parameters=parameters)
    assert status == 200, answer
    assert answer["outputs"][0]["shape"] == [len(words), parameters.get("n_best", 1)]
    return http_rows(answer)


def ask_grpc(server: Server, words: list[str], **parameters) -> list:
    with grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        answer = client.infer("g2p", grpc_input(words), parameters=parameters)
    assert answer.as_numpy("PHONES").shape == (len(words), parameters.get("n_best", 1))
    return grpc_rows(answer)


@pytest.mark.parametrize("ask", [ask_http, ask_grpc])
@pytest.mark.parametrize("size", BATCH_SIZES)
def test_answers_to_batches(
    triton: Server, library: Pronouncer, words: list[str], ask: Callable, size: int
) -> None:
    chosen = (words + ODDITIES)[-size:]
    assert ask(triton, chosen) == library_rows(library.pronounce(chosen))


@pytest.mark.parametrize("ask", [ask_http, ask_grpc])
def test_answers_with_parameters(triton: Server, library: Pronouncer, ask: Callable) -> None:
    rows = ask(triton, ODDITIES, n_best=4, beam_size=12)
    assert rows == library_rows(library.pronounce(ODDITIES, n_best=4, beam_size=12), 4)
    # The same words again, with other parameters.
    rows = ask(triton, ODDITIES, n_best=1)
    assert rows == library_rows(library.pronounce(ODDITIES))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize(("n_best", "with_alignment"), [(1, False), (3, True)])
def test_client_answers_as_the_library(
    triton: Server,
    library: Pronouncer,
    words: list[str],
    scheme: str,
    n_best: int,
    with_alignment: bool,
) -> None:
    remote = RemotePronouncer(getattr(triton, scheme))
    assert remote.metadata == library.metadata
    # All the real words once; alignments of all of them would only take longer.
    asked = [*words[: REAL_WORDS if n_best == 1 else 500], *ODDITIES, *LOCAL_ODDITIES]
    options = {"n_best": n_best, "with_alignment": with_alignment}
    assert remote.pronounce(asked, **options) == library.pronounce(asked, **options)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_command_line_answers_as_without_a_server(
    triton: Server, tiny_run: TinyRun, words: list[str], tmp_path: Path, scheme: str
) -> None:
    dictionary = tmp_path / "own.tsv"
    dictionary.write_text(f"{words[0]}\tK Y\n{words[0]}\tK Z\n")
    content = "\n".join([*words, *ODDITIES, "", "sto\u00a0ne"]).encode() + b"\nst\xffone\n"
    flags = ["--n-best", "2", "--show-alignment", "--show-source", "--dictionary", dictionary]
    flags += ["--notation", "ipa"]

    def infer(*source: str | Path) -> subprocess.CompletedProcess[bytes]:
        return run_g2p("infer", *source, *flags, standard_input=content)

    local = infer("--model", tiny_run.model)
    remote = infer("--server", getattr(triton, scheme))
    assert local.returncode == 4
    assert (remote.returncode, remote.stdout, remote.stderr) == (
        local.returncode,
        local.stdout,
        local.stderr,
    )


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_several_workers_ask_the_server(tiny_run: TinyRun, triton: Server, scheme: str) -> None:
    words = [entry.spelling for entry in tiny_run.lexicon.dev]
    content = "".join(f"{word}\n" for word in words).encode()
    local = run_g2p("infer", "--model", tiny_run.model, standard_input=content)
    few_words_at_a_time = ("--overrides", "infer.words_per_batch=100")
    remote = run_g2p(
        *("infer", "--server", getattr(triton, scheme), "--workers", "2", *few_words_at_a_time),
        standard_input=content,
    )
    assert remote.returncode == 0, remote.stderr.decode()
    assert remote.stdout == local.stdout


def test_outputs_can_be_chosen(triton: Server) -> None:
    status, answer = triton.infer(["stone"], outputs=[{"name": "PHONES"}])
    assert status == 200
    assert [output["name"] for output in answer["outputs"]] == ["PHONES"]
    # Whatever was asked for before.
    status, answer = triton.infer(["stone"])
    assert [output["name"] for output in answer["outputs"]] == list(OUTPUTS)


def test_what_the_model_does_not_know_is_told(triton: Server, library: Pronouncer) -> None:
    status, answer = triton.infer(ODDITIES)
    assert status == 200
    outputs = {output["name"]: output for output in answer["outputs"]}
    answers = library.pronounce(ODDITIES)
    assert outputs["UNKNOWN"]["data"] == ["".join(answer.unknown_characters) for answer in answers]
    assert any(outputs["UNKNOWN"]["data"])
    assert outputs["SOURCE"]["shape"] == [len(ODDITIES), 1]
    assert set(outputs["SOURCE"]["data"]) == {"model"}


def test_many_requests_at_once(triton: Server, library: Pronouncer, words: list[str]) -> None:
    # Of different sizes and parameters, so that what is put together must be taken apart again.
    transport = connect(triton.grpc, "g2p", timeout_s=60)
    with ThreadPoolExecutor(32) as senders:
        answers = [
            senders.submit(transport.infer, [word] * (1 + index % 5), Options(n_best))
            for index, word in enumerate(words[:200])
            for n_best in (1, 2)
        ]
    expected = {
        n_best: {answer.word: answer for answer in library.pronounce(words[:200], n_best)}
        for n_best in (1, 2)
    }
    for index, answer in enumerate(answers):
        known = expected[1 + index % 2][words[index // 2]]
        for choices in answer.result():
            said = [(choice.phones, choice.probability) for choice in choices]
            wanted = (known, *known.alternatives)
            assert said == [(choice.phones, choice.probability) for choice in wanted]


# What the README says


def test_requests_in_the_readme(triton: Server, library: Pronouncer) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = text[text.index("### Triton Inference Server") :]
    section = section[: section.index("\n### ", 1)]
    expected = library_rows(library.pronounce(["kubernetes", "naïve"], 3), 3)

    command = section[section.index("curl -s ") : section.index("```\n\n```python")]
    _, _, address, _, body = shlex.split(command)
    status, answer = triton.ask("POST", urlsplit(address).path, body.encode())
    assert (status, http_rows(answer)) == (200, expected)

    (program,) = re.findall(r"```python\n(.*?)```", section, re.S)
    program = program.replace("127.0.0.1:8001", f"127.0.0.1:{triton.grpc_port}")
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert all(phones in shown.stdout for row in expected for phones, _ in row)

    commands = [line for line in section.splitlines() if line.startswith("g2p infer")]
    for line, words in zip(commands, (["kubernetes", "tensorrt"], ["read"]), strict=True):
        arguments = shlex.split(line.replace("8001", str(triton.grpc_port)), comments=True)[1:]
        arguments = [text.replace(":8000", f":{triton.http_port}") for text in arguments]
        lines = run_g2p(*arguments).stdout.decode().splitlines()
        said = [line.split("\t")[1] for line in lines]
        answers = library.pronounce(words, 1 if len(words) > 1 else 3)
        assert said == [
            " ".join(choice.phones)
            for answer in answers
            for choice in (answer, *answer.alternatives)
        ]


# What a client is told


def test_no_server() -> None:
    address = f"http://127.0.0.1:{unused_port()}"
    with pytest.raises(MissingDependencyError, match="g2p serve triton"):
        RemotePronouncer(address)
    completed = run_g2p("infer", "--server", address, "stone")
    assert completed.returncode == 3
    assert completed.stderr.count(b"\n") == 1


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_no_such_model(triton: Server, scheme: str) -> None:
    with pytest.raises(UserError, match="nobody"):
        RemotePronouncer(getattr(triton, scheme), model="nobody")


def test_something_else_answers(triton: Server) -> None:
    with pytest.raises(UserError, match="no Triton|no model that"):
        RemotePronouncer(f"http://127.0.0.1:{triton.metrics_port}")


@pytest.mark.parametrize(
    "address",
    ["localhost", "localhost:8000", "ftp://localhost:1", "http://localhost", "http://[", ""],
)
def test_no_address(address: str) -> None:
    with pytest.raises(UserError, match="grpc://HOST:PORT"):
        RemotePronouncer(address)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_server_refuses_what_is_beyond_its_limits(triton: Server, scheme: str) -> None:
    with pytest.raises(UserError, match="n_best must be 1 to 16, not 17"):
        RemotePronouncer(getattr(triton, scheme)).pronounce(["stone"], n_best=17)


def test_model_and_server_exclude_each_other(triton: Server, tiny_run: TinyRun) -> None:
    completed = run_g2p("infer", "--server", triton.http, "--model", tiny_run.model, "stone")
    assert completed.returncode == 2
    assert b"not both" in completed.stderr
