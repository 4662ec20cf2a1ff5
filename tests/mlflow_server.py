"""A real MLflow tracking server for tests."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grapheme_to_phoneme.serving.ports import unused_port
from tests.conftest import g2p_environment


@dataclass
class Server:
    """A real MLflow server.

    Attributes:
        uri: its address.
        store: the address of its database.
        process: its process, the head of a group.
    """

    uri: str
    store: str
    process: subprocess.Popen

    def kill(self) -> None:
        """End it at once, with all its workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Start a server and wait until it answers."""
    uri = f"http://127.0.0.1:{unused_port()}"
    store = f"sqlite:///{folder / 'server.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", uri.rpartition(":")[2], "--workers", "1", "--backend-store-uri", store]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=g2p_environment(
                MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"
            ),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Server(uri, store, process)
    try:
        deadline = time.monotonic() + 240
        while not is_healthy(uri):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield server
    finally:
        if process.poll() is None:
            server.kill()


def is_healthy(uri: str) -> bool:
    """Return whether a server answers."""
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
