"""``g2p demo``: what it serves, what it refuses, and how it ends."""

import hashlib
import shutil
import signal
import socket
import subprocess
import tarfile
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from grapheme_to_phoneme.demo.server import CONTENT_SECURITY_POLICY
from grapheme_to_phoneme.demo.site import web_directory
from grapheme_to_phoneme.inference.package import write_manifest
from tests.conftest import REPOSITORY, TinyRun, run_g2p
from tests.demo.conftest import PATIENCE_S, RUNTIME_OVERRIDE, demo


def request(url: str, path: str, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    """Ask for a path exactly as it is written."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
    connection.request(method, path)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html?from=somewhere", "text/html; charset=utf-8"),
        ("/style.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/icon.svg", "image/svg+xml"),
        ("/onnxruntime/ort.wasm.bundle.min.mjs", "text/javascript"),
        ("/onnxruntime/ort-wasm-simd-threaded.wasm", "application/wasm"),
        ("/model.onnx", "application/octet-stream"),
    ],
)
def test_files_are_served_as_what_they_are(demo_url: str, path: str, content_type: str) -> None:
    response, content = request(demo_url, path)
    assert response.status == 200
    assert response.headers["Content-Type"] == content_type
    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert int(response.headers["Content-Length"]) == len(content) > 0
    head, nothing = request(demo_url, path, "HEAD")
    assert (head.status, nothing) == (200, b"")


def test_model_is_served_as_it_is(demo_url: str, tiny_run: TinyRun) -> None:
    assert request(demo_url, "/model.onnx")[1] == tiny_run.float32_model.read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/%2e%2e/pyproject.toml",
        "//etc/passwd",
        "/etc/passwd",
        "/__init__.py",
        "/onnxruntime/",
        "/onnxruntime",
        "/model.onnx/",
        "/\x7f",
    ],
)
def test_nothing_else_is_served(demo_url: str, path: str) -> None:
    response, _ = request(demo_url, path.replace("\x7f", "%00"))
    assert response.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_is_taken(demo_url: str, method: str) -> None:
    assert request(demo_url, "/model.onnx", method)[0].status == 501


def test_page_says_the_same_policy_as_the_server() -> None:
    page = (web_directory() / "index.html").read_text(encoding="utf-8")
    assert f'content="{CONTENT_SECURITY_POLICY}"' in page


def test_interrupt_ends_it_gracefully(tiny_run: TinyRun) -> None:
    with demo("--model", tiny_run.model) as (url, process):
        assert request(url, "/")[0].status == 200
        # A browser that is in the middle of something does not hold it up.
        with socket.create_connection(("127.0.0.1", urlsplit(url).port)):
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, output, errors) == (0, "", "stopped\n")


def test_browser_that_hangs_up_is_no_error(tiny_run: TinyRun) -> None:
    with demo("--model", tiny_run.model) as (url, process):
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", urlsplit(url).port)) as connection:
                connection.sendall(b"GET /model.onnx HTTP/1.0\r\n\r\n")
                connection.recv(10)
        assert request(url, "/")[0].status == 200
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE_S)[1] == "stopped\n"


def test_browser_is_opened_only_when_asked(tiny_run: TinyRun, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    program.chmod(0o755)
    for flags in ((), ("--open",)):
        with demo("--model", tiny_run.model, *flags, BROWSER=str(program)) as (url, process):
            assert request(url, "/")[0].status == 200
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
        assert opened.exists() == bool(flags)
    assert opened.read_text() == url


def test_busy_port_is_told_in_a_line(tiny_run: TinyRun) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        completed = run_g2p("demo", "--model", tiny_run.model, "--port", port, RUNTIME_OVERRIDE)
    assert completed.returncode == 2
    [line] = completed.stderr.decode().splitlines()
    assert line.startswith(f"g2p: error: cannot listen on 127.0.0.1:{port} (")
    assert line.endswith("say --port with another number")


@pytest.mark.parametrize("port", ["99999", "many"])
def test_port_that_is_none_is_refused(tiny_run: TinyRun, port: str) -> None:
    completed = run_g2p("demo", "--model", tiny_run.model, "--port", port, RUNTIME_OVERRIDE)
    assert completed.returncode == 2
    assert len(completed.stderr.splitlines()) == 1


def test_wrong_model_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    wrong = tmp_path / "model.onnx"
    wrong.write_text("no model")
    for model in (wrong, tmp_path):
        completed = run_g2p("demo", "--model", model, RUNTIME_OVERRIDE)
        assert completed.returncode == 2
        assert len(completed.stderr.splitlines()) == 1


def test_newest_model_is_the_default(tiny_run: TinyRun, tmp_path: Path) -> None:
    site = tmp_path / "site"
    completed = run_g2p("demo", "--output", site, RUNTIME_OVERRIDE, cwd=tiny_run.folder)
    assert completed.returncode == 0, completed.stderr.decode()
    assert (site / "model.onnx").read_bytes() == tiny_run.model.read_bytes()
    assert f"wrote the page into {site}" in completed.stderr.decode()


def test_page_of_a_package_brings_the_licences_along(tiny_run: TinyRun, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    shutil.copyfile(tiny_run.model, package / "int8.onnx")
    for name in ("LICENSE", "LICENSE-data", "MODEL_CARD.md", "SOURCE.md"):
        (package / name).write_text(f"{name} of a model\n")
    write_manifest(package, "int8.onnx")
    site = tmp_path / "site"
    completed = run_g2p("demo", "--model", package, "--output", site, RUNTIME_OVERRIDE)
    assert completed.returncode == 0, completed.stderr.decode()
    for name in ("LICENSE", "LICENSE-data", "MODEL_CARD.md", "SOURCE.md"):
        assert (site / name).read_text() == f"{name} of a model\n"
    assert (site / "model.onnx").read_bytes() == tiny_run.model.read_bytes()
    # What is there is not overwritten.
    again = run_g2p("demo", "--model", package, "--output", site, RUNTIME_OVERRIDE)
    assert again.returncode == 2
    assert "exists already" in again.stderr.decode()
    spoilt = package / "MODEL_CARD.md"
    spoilt.write_text("another")
    refused = run_g2p("demo", "--model", package, "--output", tmp_path / "other", RUNTIME_OVERRIDE)
    assert refused.returncode == 2
    assert not (tmp_path / "other").exists()


# ONNX Runtime for browsers


def test_missing_release_is_told_with_a_remedy(tiny_run: TinyRun, tmp_path: Path) -> None:
    overrides = (f"demo.runtime.directory={tmp_path}", "demo.runtime.version=0.0.1")
    completed = run_g2p("demo", "--model", tiny_run.model, *overrides)
    assert completed.returncode == 3
    lines = completed.stderr.decode().splitlines()
    assert lines[0] == "fetching onnxruntime-web 0.0.1, once"
    assert lines[1].startswith("g2p: error: npm cannot fetch onnxruntime-web@0.0.1 (")
    assert lines[1].endswith(
        "put onnxruntime-web-0.0.1.tgz, which `npm pack onnxruntime-web@0.0.1` makes, "
        f"into {tmp_path}"
    )
    assert len(lines) == 2 and list(tmp_path.iterdir()) == []


def test_archive_given_by_hand_is_checked(tiny_run: TinyRun, tmp_path: Path) -> None:
    archive = tmp_path / "onnxruntime-web-1.30.0.tgz"
    archive.write_bytes(b"something else")
    completed = run_g2p("demo", "--model", tiny_run.model, f"demo.runtime.directory={tmp_path}")
    assert completed.returncode == 2
    [line] = completed.stderr.decode().splitlines()
    assert line.startswith(f"g2p: error: {archive} has the SHA-256 ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [archive.name]


def test_archive_without_the_runtime_is_told(tiny_run: TinyRun, tmp_path: Path) -> None:
    archive = tmp_path / "onnxruntime-web-0.0.1.tgz"
    with tarfile.open(archive, "w:gz") as members:
        members.add(Path(__file__), "package/dist/another.mjs")
    overrides = (
        f"demo.runtime.directory={tmp_path}",
        "demo.runtime.version=0.0.1",
        f"demo.runtime.sha256={hashlib.sha256(archive.read_bytes()).hexdigest()}",
    )
    completed = run_g2p("demo", "--model", tiny_run.model, *overrides)
    assert completed.returncode == 2
    [line] = completed.stderr.decode().splitlines()
    assert line.startswith(f"g2p: error: {archive} is no archive with ort.wasm")
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]


def test_unwritable_folder_is_told(tiny_run: TinyRun, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    completed = run_g2p("demo", "--model", tiny_run.model, f"demo.runtime.directory={file}")
    assert completed.returncode == 2
    assert completed.stderr.decode().startswith(f"g2p: error: cannot write into {file}: ")


def test_wheel_would_carry_the_whole_page() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "web"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    names = {Path(line).name for line in listing.stdout.split()}
    assert {path.name for path in web_directory().iterdir() if path.is_file()} == names
