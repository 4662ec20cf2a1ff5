"""MLflow tracking that never stops a training.

A server that is absent or dies is replaced by a local store, and that by the run's own files.
"""

import importlib.util
import logging
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.mlflow_connection import (
    RECORD_NAME,
    answers,
    prepare_client,
    recorded_run,
)

LOGGER = logging.getLogger(__name__)

LOGS_DIRECTORY = "logs"
#: Added to the name of the local store's file: what trainings lock that begin at once.
LOCK_SUFFIX = ".lock"
#: Seconds that they wait for each other, more than the first needs to make the store.
LOCK_TIMEOUT_S = 300
#: Before the names of tags that hold what a resumed training changed.
RESUMED_WITH = "resumed_with."
#: Characters of a hyperparameter that MLFlowLogger keeps.
PARAMETER_LENGTH = 250


def git_state() -> dict[str, str]:
    """Return the commit of the package's source and whether tracked files differ from it.

    Where the package was installed without its repository, both are ``unknown``.
    """
    source = Path(__file__).resolve().parents[2]

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    unknown = {"git_commit": "unknown", "git_dirty": "unknown"}
    # An environment may lie inside somebody else's repository.
    if not (source / "pyproject.toml").is_file():
        return unknown
    try:
        commit = ask("rev-parse", "HEAD")
        dirty = bool(ask("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return unknown
    return {"git_commit": commit, "git_dirty": str(dirty).lower()}


class TrackingLogger(MLFlowLogger):
    """MLflow logging that moves to a local SQLite store when its server fails.

    Everything logged so far is kept and logged again to the local store, so the record there
    is whole. If that fails, too, the training goes on without MLflow. A resumed training goes on
    in the run that it began, where the same store answers.

    Args:
        config: the group ``logger``.
        run_directory: the training's directory, whose name is the run's in MLflow.
        tags: tags of the run; the Git commit is among them.
    """

    def __init__(self, config: DictConfig, run_directory: Path, tags: dict[str, str]) -> None:
        prepare_client(config)
        uri = config.tracking_uri
        self._fallback_path = Path(config.fallback_path).resolve()
        self._fallback_uri = f"sqlite:///{self._fallback_path}"
        self._fallback_artifacts = Path(config.fallback_artifacts).resolve().as_uri()
        self._settings = {
            "experiment_name": config.experiment_name,
            "run_name": run_directory.name,
        }
        self._record = run_directory / RECORD_NAME
        self._hyperparameters: list[dict[str, Any]] = []
        self._metrics: list[tuple[dict[str, float], int | None]] = []
        self._artifacts: list[Path] = []
        self._is_off = False
        self._is_local = not answers(uri, config.probe_timeout_s)
        if self._is_local:
            LOGGER.warning(
                "no MLflow server answers at %s: logging to %s instead", uri, self._fallback_uri
            )
            uri = self._fallback_uri
        self._connect(uri, tags)
        if not self._is_off:
            self._run_id = recorded_run(run_directory, self._tracking_uri)

    def _connect(self, uri: str, tags: dict[str, str] | None) -> None:
        self._attempt(lambda: self._open(uri, tags))

    def _open(self, uri: str, tags: dict[str, str] | None) -> None:
        """Open a store; the local one is made by one of the trainings that begin at once."""
        connect = partial(super().__init__, tracking_uri=uri, tags=tags, **self._settings)
        if not self._is_local:
            connect()
            return
        self._fallback_path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self._fallback_path):
            connect(artifact_location=self._fallback_artifacts)
            self._make_experiment()

    @rank_zero_only
    def _make_experiment(self) -> None:
        if self._mlflow_client.get_experiment_by_name(self._experiment_name) is None:
            self._mlflow_client.create_experiment(self._experiment_name, self._artifact_location)

    @property
    def experiment(self) -> Any:
        """MLflow's client, as of MLFlowLogger; None where no store can be used."""
        return None if self._is_off else super().experiment

    @property
    def is_off(self) -> bool:
        """Whether no store can be used."""
        return self._is_off

    @property
    def is_local(self) -> bool:
        """Whether the run is in the local store for want of a server."""
        return self._is_local

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Log hyperparameters, as MLFlowLogger does; the first thing that is logged.

        MLflow takes no second value: what a resumed training changes becomes a tag.
        """
        self._hyperparameters.append(params)
        self._attempt(lambda: self._log_hyperparams(params))

    def _log_hyperparams(self, params: dict[str, Any]) -> None:
        client, run_id = self.experiment, self.run_id
        known = client.get_run(run_id).data.params
        client.update_run(run_id, status="RUNNING")
        MLFlowLogger.log_hyperparams(
            self, {name: value for name, value in params.items() if name not in known}
        )
        for name, value in params.items():
            if name in known and known[name] != str(value)[:PARAMETER_LENGTH]:
                client.set_tag(run_id, f"{RESUMED_WITH}{name}", str(value))
        record = {"tracking_uri": self._tracking_uri, "run_id": run_id}
        OmegaConf.save(OmegaConf.create(record), self._record)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics, as MLFlowLogger does."""
        values = dict(metrics)
        self._metrics.append((values, step))
        self._attempt(lambda: MLFlowLogger.log_metrics(self, values, step))

    @rank_zero_only
    def log_file(self, path: Path) -> None:
        """Log a file as an artifact of the run."""
        self._artifacts.append(path)
        self._attempt(lambda: self.experiment.log_artifact(self.run_id, str(path)))

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Close the run, as MLFlowLogger does."""
        self._attempt(lambda: MLFlowLogger.finalize(self, status))

    def _attempt(self, action: Callable[[], Any]) -> None:
        if self._is_off:
            return
        try:
            action()
        # What a store's database raises is no error of MLflow's; none of them ends a training.
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            if self._is_local:
                LOGGER.warning(
                    "the local MLflow store %s failed (%s): logging to the run's files alone",
                    self._fallback_uri,
                    reason,
                )
                self._is_off = True
                return
            LOGGER.warning(
                "the MLflow server at %s failed (%s): logging to %s instead",
                self._tracking_uri,
                reason,
                self._fallback_uri,
            )
            self._is_local = True
            self._connect(self._fallback_uri, self.tags)
            self._attempt(self._log_again)

    def _log_again(self) -> None:
        """Log all that was logged before."""
        for params in self._hyperparameters:
            self._log_hyperparams(params)
        for metrics, step in self._metrics:
            MLFlowLogger.log_metrics(self, metrics, step)
        for path in self._artifacts:
            self.experiment.log_artifact(self.run_id, str(path))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time do what is inside, by a lock that goes with its process.

    SQLite's, which locks on every system, in a file that holds nothing else.
    """
    lock = sqlite3.connect(
        path.with_name(path.name + LOCK_SUFFIX), timeout=LOCK_TIMEOUT_S, isolation_level=None
    )
    with closing(lock):
        lock.execute("BEGIN EXCLUSIVE")
        yield


def build_loggers(config: DictConfig, run_directory: Path, state: dict[str, str]) -> list[Logger]:
    """Return the loggers of a run: a CSV file always, MLflow where it is installed and wanted.

    Args:
        config: the group ``logger``.
        run_directory: where the CSV file goes; its name is the run's.
        state: of the source, by :func:`git_state`.
    """
    logs = run_directory / LOGS_DIRECTORY
    # Lightning's logger begins a file anew, so a resumed run writes the next part.
    part = len(list(logs.glob("part-*"))) + 1
    # Written at once: a killed run must not take its last rows with it.
    loggers: list[Logger] = [
        CSVLogger(run_directory, LOGS_DIRECTORY, f"part-{part}", flush_logs_every_n_steps=1)
    ]
    if not config.enabled:
        return loggers
    if importlib.util.find_spec("mlflow") is None:
        LOGGER.warning("MLflow is not installed (the extra `tracking`): logging to files alone")
        return loggers
    # MLflow finds no commit when it is started from an environment inside the repository.
    tags = {"mlflow.source.git.commit": state["git_commit"], **state}
    tracking = TrackingLogger(config, run_directory, tags)
    if not tracking.is_off:
        loggers.append(tracking)
    return loggers
