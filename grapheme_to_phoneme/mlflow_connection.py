"""What every use of MLflow begins with: a quiet client, and whether a server is there at all."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

#: Names the run in MLflow that a training logs to, for when it is resumed or registered.
RECORD_NAME = "tracking.yaml"

DEFAULT_PORTS = {"http": 80, "https": 443}

TIMEOUT_VARIABLE = "MLFLOW_HTTP_REQUEST_TIMEOUT"


def prepare_client(config: DictConfig) -> None:
    """Set what MLflow reads from the environment; to be called before its first import.

    Args:
        config: the group ``logger``.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(config.max_retries))
    os.environ.setdefault(TIMEOUT_VARIABLE, str(config.timeout_s))
    # Both send data about the user to others unless told not to.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    # Bars for what takes a moment, where words are expected.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Below this level it tells of every table of a new local store that it makes.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let requests take longer: a model is not sent as fast as a metric."""
    before = os.environ.get(TIMEOUT_VARIABLE)
    os.environ[TIMEOUT_VARIABLE] = str(seconds)
    try:
        yield
    finally:
        if before is None:
            del os.environ[TIMEOUT_VARIABLE]
        else:
            os.environ[TIMEOUT_VARIABLE] = before


def answers(tracking_uri: str, timeout: float) -> bool:
    """Return whether something listens at an HTTP tracking address, within ``timeout`` seconds.

    MLflow's own client retries for minutes before it gives up. Addresses that are not HTTP,
    databases for one, count as answering; what is no address does not.
    """
    try:
        parts = urlsplit(tracking_uri)
        if parts.scheme not in DEFAULT_PORTS:
            return True
        address = (parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme])
        with socket.create_connection(address, timeout=timeout):
            return True
    # A port that is no number, or too large a one, is found out when it is asked for.
    except (OSError, ValueError):
        return False


def recorded_run(run_directory: Path, tracking_uri: str) -> str | None:
    """Return the id of the run in MLflow that a training logged to, if that store has it.

    Args:
        run_directory: the training's directory.
        tracking_uri: the store.
    """
    path = run_directory / RECORD_NAME
    if not path.is_file():
        return None
    record = OmegaConf.load(path)
    if record.tracking_uri != tracking_uri:
        return None
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        run = MlflowClient(tracking_uri).get_run(record.run_id)
    except (MlflowException, OSError):
        return None
    return record.run_id if run.info.lifecycle_stage == "active" else None
