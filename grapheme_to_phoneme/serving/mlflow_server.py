"""Runs MLflow's scoring server on one model, until it is told to stop."""

import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from os import pathsep
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.mlflow_connection import prepare_client
from grapheme_to_phoneme.packaging.mlflow_model import save_model
from grapheme_to_phoneme.packaging.model_address import fetched, is_model_address, packaged_model
from grapheme_to_phoneme.serving.ports import check_port

LOGGER = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: Where a server that listens everywhere can be reached from here.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}

PAUSE_S = 0.2
PROBE_TIMEOUT_S = 5.0


def serve(config: DictConfig, model: str | Path) -> None:
    """Serve a model over HTTP; come back when SIGTERM or Ctrl-C says so.

    Requests that are in flight then are answered first.

    Args:
        config: the configuration; ``serve`` and ``logger`` are used.
        model: a model file, a package's folder, or an address in MLflow.

    Raises:
        MissingDependencyError: if the model is in MLflow and no server answers there.
        UserError: if there is no such model, the port is taken, or the server does not start
            or ends by itself.
    """
    settings = config.serve
    prepare_client(config.logger)
    check_port(settings.host, settings.port, "port")
    with _in_mlflow_form(config, model) as folder, _stop_requests() as stopping:
        process = _start(settings, folder)
        try:
            if _wait_until_ready(settings, process, stopping):
                LOGGER.info("%s is served at %s/invocations", model, _address(settings))
                while process.poll() is None and not stopping.wait(PAUSE_S):
                    pass
            if not stopping.is_set():
                raise UserError(
                    f"the server ended by itself, with status {process.returncode}: "
                    "its last messages say why"
                )
        finally:
            _stop(process, settings.stop_timeout_s)


@contextmanager
def _in_mlflow_form(config: DictConfig, model: str | Path) -> Iterator[Path]:
    with ExitStack() as stack:
        if is_model_address(model):
            path = stack.enter_context(fetched(str(model), config.logger))
            is_ready = packaged_model(path, str(model)) != path
        else:
            path = Path(model)
            is_ready = False
        if not is_ready:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="g2p-")))
            save_model(path, folder, config.serve.scoring)
            path = folder
        yield path


@contextmanager
def _stop_requests() -> Iterator[Event]:
    """Take the signals that end a server, and give what they set."""
    stopping = Event()
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in STOP_SIGNALS}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(settings: DictConfig, model: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", str(model), "--host", settings.host, "--port", str(settings.port)]
    command += ["--timeout", str(settings.request_timeout_s), "--workers", str(settings.workers)]
    environment = {
        **os.environ,
        # MLflow starts uvicorn by its name.
        "PATH": f"{Path(sys.executable).parent}{pathsep}{os.environ.get('PATH', '')}",
        "SERVING_MODEL_CONFIG": json.dumps(OmegaConf.to_container(settings.scoring)),
        "UVICORN_LIMIT_CONCURRENCY": str(settings.concurrent_requests),
        "UVICORN_ACCESS_LOG": str(settings.access_log).lower(),
    }
    # `mlflow` itself, which would die of the signal at once, inherits that it is ignored; uvicorn,
    # its child, takes it and finishes what is in flight.
    taken = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        # A group of its own: Ctrl-C on a terminal goes to every process of the foreground one.
        return subprocess.Popen(command, env=environment, start_new_session=True)
    finally:
        signal.signal(signal.SIGTERM, taken)


def _wait_until_ready(settings: DictConfig, process: subprocess.Popen, stopping: Event) -> bool:
    """Return whether the server answers; not, where it ended or shall stop."""
    deadline = time.monotonic() + settings.start_timeout_s
    while process.poll() is None and not stopping.is_set():
        if _is_ready(settings):
            return True
        if time.monotonic() > deadline:
            raise UserError(
                f"the server did not answer within {settings.start_timeout_s} s: "
                "serve.start_timeout_s=SECONDS gives it longer"
            )
        stopping.wait(PAUSE_S)
    return False


def _is_ready(settings: DictConfig) -> bool:
    connection = http.client.HTTPConnection(
        EVERYWHERE.get(settings.host, settings.host), settings.port, timeout=PROBE_TIMEOUT_S
    )
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen, timeout: float) -> None:
    """End all processes of the server: gently at first, then for good."""
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        # Said again and again: before uvicorn is up, the signal is lost.
        _signal_group(process, signal.SIGTERM)
        try:
            process.wait(PAUSE_S)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        LOGGER.warning("requests still in flight after %s s are given up", timeout)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen, number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        # All are gone; macOS says the second.
        return


def _address(settings: DictConfig) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"
