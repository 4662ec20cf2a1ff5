"""Runs arrive at a real MLflow server, and lose nothing where it is absent, hangs or dies."""

import csv
import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from grapheme_to_phoneme import Pronouncer
from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.mlflow_connection import answers
from grapheme_to_phoneme.serving.ports import unused_port
from grapheme_to_phoneme.training.tracking import TrackingLogger, git_state
from tests.conftest import REPOSITORY, TinyRun, g2p_environment
from tests.mlflow_server import running_server
from tests.training.conftest import Train

EXPERIMENT = "grapheme-to-phoneme"

#: What every training logs, besides what Lightning adds.
METRICS = {
    "train/loss",
    "validation/loss",
    "validation/wer",
    "validation/per",
    "learning_rate/pg1",
    "train/device/samples_per_sec",
    "exported/dev_wer",
    "exported/dev_per",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a local store put its artifacts into a folder that goes away."""
    monkeypatch.chdir(tmp_path)


def only_run(uri: str) -> Run:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def logged_history(uri: str, run: Run, metric: str) -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(run.info.run_id, metric)
    return sorted((point.step, point.value) for point in history)


def csv_history(directory: Path, metric: str) -> list[tuple[int, float]]:
    (path,) = directory.glob("logs/part-*/metrics.csv")
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[metric]]
    return sorted((int(row["step"]), float(row[metric])) for row in rows)


def check_record(uri: str, directory: Path) -> Run:
    """Check that a store holds all that the run wrote to its own files, and who made it."""
    run = only_run(uri)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == directory.name
    assert METRICS <= set(run.data.metrics)
    for metric in METRICS:
        expected = csv_history(directory, metric)
        logged = logged_history(uri, run, metric)
        assert [step for step, _ in logged] == [step for step, _ in expected], metric
        assert [value for _, value in logged] == pytest.approx(
            [value for _, value in expected], rel=1e-5
        )
    assert len(csv_history(directory, "validation/wer")) >= 2
    for name in ("seed", "model.encoder_size", "optimizer.learning_rate", "data.train_path"):
        assert name in run.data.params
    assert run.data.params["optimizer.learning_rate"] == "0.005"
    metadata = Pronouncer(directory / "model.onnx").metadata
    assert run.data.tags["git_commit"] == run.data.tags["mlflow.source.git.commit"]
    assert run.data.tags["git_commit"] == metadata.git_commit
    assert run.data.tags["git_dirty"] == metadata.git_dirty
    names = {file.path for file in MlflowClient(uri).list_artifacts(run.info.run_id)}
    assert {"model.onnx", "metrics.yaml", "loss.png", "wer.png", "confusions.png"} <= names
    return run


def make_logger(uri: str, folder: Path) -> TrackingLogger:
    overrides = [f"logger.tracking_uri={uri}", f"logger.fallback_path={folder / 'local.db'}"]
    return TrackingLogger(compose_config(overrides).logger, folder, {"kind": "test"})


def make_local_store(folder: Path) -> None:
    """Make the tables, which takes seconds of computing, and no waiting that is measured here."""
    MlflowClient(f"sqlite:///{folder / 'local.db'}").search_experiments()


def test_state_of_the_repository() -> None:
    state = git_state()
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True
    )
    expected = head.stdout.strip() if head.returncode == 0 else "unknown"
    assert state["git_commit"] == expected
    assert set(state) == {"git_commit", "git_dirty"}


def test_probe() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert answers(uri, 1.0)
    assert not answers(uri, 1.0)
    assert not answers("http://no-such-host.invalid", 1.0)
    assert answers("sqlite:///some.db", 1.0)


@pytest.mark.parametrize("port", ["99999", "none"])
def test_probe_of_what_is_no_address(port: str) -> None:
    assert not answers(f"http://127.0.0.1:{port}", 1.0)


def test_run_without_a_server_is_whole_in_the_local_store(tiny_run: TinyRun) -> None:
    store = f"sqlite:///{tiny_run.folder / 'mlflow.db'}"
    run = check_record(store, tiny_run.directory)
    assert run.data.params["trainer.lightning.max_epochs"] == "6"
    said = tiny_run.completed.stderr.decode().splitlines()
    assert len([line for line in said if "no MLflow server answers" in line]) == 1


@pytest.mark.timeout(300)
def test_nothing_waits_for_an_absent_server(tmp_path: Path) -> None:
    make_local_store(tmp_path)
    began = time.monotonic()
    logger = make_logger(f"http://127.0.0.1:{unused_port()}", tmp_path)
    logger.log_metrics({"loss": 1.5}, step=3)
    assert time.monotonic() - began < 20
    client = MlflowClient(f"sqlite:///{tmp_path / 'local.db'}")
    assert client.get_run(logger.run_id).data.metrics == {"loss": 1.5}


@pytest.mark.timeout(300)
def test_nothing_waits_long_for_a_server_that_hangs(tmp_path: Path, monkeypatch, caplog) -> None:
    """It takes connections and never answers."""
    make_local_store(tmp_path)
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        logger = make_logger(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path)
        logger.log_hyperparams({"seed": 1})
        logger.log_metrics({"loss": 1.5}, step=3)
        logger.log_metrics({"loss": 1.0}, step=4)
        assert time.monotonic() - began < 60
    run = MlflowClient(f"sqlite:///{tmp_path / 'local.db'}").get_run(logger.run_id)
    assert (run.data.metrics, run.data.params) == ({"loss": 1.0}, {"seed": "1"})
    assert run.data.tags["kind"] == "test"
    warnings = [record.getMessage() for record in caplog.records if "failed" in record.msg]
    assert len(warnings) == 1 and "\n" not in warnings[0]


@pytest.mark.timeout(300)
def test_resumed_training_goes_on_in_its_run(tmp_path: Path) -> None:
    """As after a kill: the first logger is never told that the run is over."""
    make_local_store(tmp_path)
    absent = f"http://127.0.0.1:{unused_port()}"
    begun = make_logger(absent, tmp_path)
    begun.log_hyperparams({"seed": 1, "epochs": 2})
    begun.log_metrics({"loss": 1.5}, step=3)
    resumed = make_logger(absent, tmp_path)
    resumed.log_hyperparams({"seed": 1, "epochs": 4, "new": "x"})
    resumed.log_metrics({"loss": 1.0}, step=4)
    resumed.finalize()
    assert resumed.run_id == begun.run_id
    run = only_run(f"sqlite:///{tmp_path / 'local.db'}")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "1", "epochs": "2", "new": "x"}
    assert run.data.tags["resumed_with.epochs"] == "4"
    assert "resumed_with.seed" not in run.data.tags
    assert [step for step, _ in logged_history(begun._tracking_uri, run, "loss")] == [3, 4]


@pytest.mark.timeout(300)
def test_resumed_training_whose_run_was_deleted_begins_another(tmp_path: Path) -> None:
    make_local_store(tmp_path)
    absent = f"http://127.0.0.1:{unused_port()}"
    begun = make_logger(absent, tmp_path)
    begun.log_hyperparams({"seed": 1})
    MlflowClient(f"sqlite:///{tmp_path / 'local.db'}").delete_run(begun.run_id)
    resumed = make_logger(absent, tmp_path)
    resumed.log_hyperparams({"seed": 1})
    assert only_run(f"sqlite:///{tmp_path / 'local.db'}").info.run_id == resumed.run_id


@pytest.mark.timeout(300)
def test_local_artifacts_have_a_folder_of_their_own(tmp_path: Path) -> None:
    make_local_store(tmp_path)
    logger = make_logger(f"http://127.0.0.1:{unused_port()}", tmp_path)
    (tmp_path / "chart.png").write_bytes(b"chart")
    logger.log_file(tmp_path / "chart.png")
    (found,) = (tmp_path / "mlartifacts").rglob("chart.png")
    assert found.read_bytes() == b"chart"
    assert not (tmp_path / "mlruns").exists()


#: Begins as a training does, with nothing where the server is expected.
BEGIN_PROGRAM = """
import sys
from pathlib import Path
from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.training.tracking import build_loggers
config = compose_config([f"logger.tracking_uri={sys.argv[1]}"])
state = {"git_commit": "unknown", "git_dirty": "unknown"}
_, logger = build_loggers(config.logger, Path(sys.argv[2]), state)
logger.log_hyperparams({"seed": 1})
logger.log_metrics({"loss": 1.5}, step=3)
"""


@pytest.mark.timeout(600)
def test_trainings_that_begin_at_once_share_a_new_local_store(tmp_path: Path) -> None:
    names = {"one", "two", "three"}
    for name in names:
        (tmp_path / name).mkdir()
    absent = f"http://127.0.0.1:{unused_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BEGIN_PROGRAM, absent, name],
            cwd=tmp_path,
            env=g2p_environment(PYTHONPATH=str(REPOSITORY)),
            stderr=subprocess.PIPE,
        )
        for name in names
    ]
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()
    found = runs_of(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert {run.info.run_name for run in found} == names
    assert all(run.data.metrics == {"loss": 1.5} for run in found)


@pytest.mark.timeout(300)
def test_local_store_that_cannot_be_used_ends_no_training(tmp_path: Path, caplog) -> None:
    (tmp_path / "local.db").write_bytes(b"this is no database\n" * 100)
    logger = make_logger(f"http://127.0.0.1:{unused_port()}", tmp_path)
    logger.log_hyperparams({"seed": 1})
    logger.log_metrics({"loss": 1.5}, step=3)
    logger.log_file(tmp_path / "local.db")
    logger.finalize()
    assert logger.experiment is None and logger.is_off
    warnings = [record.getMessage() for record in caplog.records if "failed" in record.msg]
    assert len(warnings) == 1 and "logging to the run's files alone" in warnings[0]
    assert "\n" not in warnings[0]


@pytest.mark.timeout(1200)
def test_server_gets_runs_until_it_dies(
    train: Train, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, caplog
) -> None:
    """One real server: a run arrives; the next sees it killed in the middle and goes on."""
    caplog.set_level(logging.INFO, "grapheme_to_phoneme")
    folder = tmp_path_factory.mktemp("server")
    with running_server(folder) as server:
        address = f"logger.tracking_uri={server.uri}"
        first = train("first", address, "trainer.lightning.max_epochs=2")
        check_record(server.uri, first)
        assert not (tmp_path / "mlflow.db").exists()
        assert "logging to" not in caplog.text

        second = tmp_path / "second"

        def kill_amid() -> None:
            while not (second / "checkpoints" / "last.ckpt").exists():
                time.sleep(0.01)
            server.kill()

        killer = threading.Thread(target=kill_amid, daemon=True)
        killer.start()
        assert train("second", address, "trainer.lightning.max_epochs=12") == second
        killer.join(timeout=30)
    warnings = [record for record in caplog.records if "the MLflow server at" in record.msg]
    assert len(warnings) == 1
    # It died in the middle: the server had some of the run, and not all of it.
    runs = {run.info.run_name: run for run in runs_of(server.store)}
    arrived = logged_history(server.store, runs["second"], "validation/wer")
    assert 0 < len(arrived) < 12
    check_record(f"sqlite:///{tmp_path / 'mlflow.db'}", second)


def runs_of(uri: str) -> list[Run]:
    client = MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
