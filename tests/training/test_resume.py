"""A training that was killed goes on and ends as if nothing had happened."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from grapheme_to_phoneme.training.plots import read_metrics
from tests.conftest import G2P, TINY_EPOCHS, TINY_RUN_LIMIT_S, TinyRun, g2p_environment, run_g2p


def start_and_kill(run: TinyRun, folder: Path, after_epochs: int) -> str:
    """Start the training of ``run`` anew, kill -9 it in the middle, and return its log."""
    overrides = (*run.overrides, "logger.enabled=false", "paths.run_dir=killed")
    log = folder / "killed" / "train.log"
    process = subprocess.Popen(
        [G2P, "train", *overrides],
        cwd=folder,
        env=g2p_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + TINY_RUN_LIMIT_S
        while not log.exists() or f"epoch {after_epochs} of" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        # Somewhere within the next epoch.
        time.sleep(0.3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    return log.read_text()


@pytest.fixture(scope="module")
def resumed(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the settings of the tiny one, killed in its fourth epoch and resumed."""
    folder = tmp_path_factory.mktemp("resume")
    log = start_and_kill(tiny_run, folder, after_epochs=3)
    assert f"epoch {TINY_EPOCHS} of" not in log
    assert not (folder / "killed" / "model.onnx").exists()
    completed = run_g2p("train", "resume=killed", cwd=folder)
    assert completed.returncode == 0, completed.stderr.decode()
    said = completed.stderr.decode()
    assert "going on from" in said and "epoch 1 of" not in said
    return folder / "killed"


def test_resumed_run_ends_like_an_unbroken_one(tiny_run: TinyRun, resumed: Path) -> None:
    unbroken, mended = (
        OmegaConf.load(directory / "metrics.yaml") for directory in (tiny_run.directory, resumed)
    )
    assert mended.words == unbroken.words
    assert mended.wer == pytest.approx(unbroken.wer, abs=0.25)
    assert mended.per == pytest.approx(unbroken.per, abs=0.1)


def test_resumed_run_took_the_same_steps(tiny_run: TinyRun, resumed: Path) -> None:
    unbroken, mended = read_metrics(tiny_run.directory), read_metrics(resumed)
    for name in ("validation/wer", "validation/loss", "train/loss", "learning_rate/pg1"):
        # No row is missing of what was logged before the kill, none is there twice.
        assert mended[name][0] == unbroken[name][0], name
        assert mended[name][1] == pytest.approx(unbroken[name][1], rel=1e-3), name


def test_resumed_weights_are_the_unbroken_ones(tiny_run: TinyRun, resumed: Path) -> None:
    unbroken, mended = (
        torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)
        for directory in (tiny_run.directory, resumed)
    )
    assert mended["global_step"] == unbroken["global_step"]
    for name, weights in unbroken["state_dict"].items():
        torch.testing.assert_close(mended["state_dict"][name], weights, atol=1e-3, rtol=1e-3)


def test_log_and_settings_go_on(resumed: Path) -> None:
    log = (resumed / "train.log").read_text()
    for epoch in range(1, TINY_EPOCHS + 1):
        assert f"epoch {epoch} of {TINY_EPOCHS}" in log
    overrides = OmegaConf.load(resumed / "overrides.yaml")
    assert "paths.run_dir=killed" in overrides
    assert not any(text.startswith("resume=") for text in overrides)


def test_finished_run_is_not_begun_anew(tiny_run: TinyRun) -> None:
    completed = run_g2p(
        "train", *tiny_run.overrides, "paths.run_dir=runs/tiny", cwd=tiny_run.folder
    )
    assert completed.returncode == 2
    assert "holds a run already" in completed.stderr.decode()


def test_nothing_to_resume(tmp_path: Path) -> None:
    completed = run_g2p("train", "resume=nowhere", cwd=tmp_path)
    assert completed.returncode == 2
    assert completed.stderr.decode().startswith("g2p: error: nowhere is no training run")


def test_another_lexicon_is_refused(tiny_run: TinyRun, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run.directory, copy)
    lexicon = tmp_path / "other.tsv"
    shutil.copyfile(tiny_run.lexicon.train_path, lexicon)
    with lexicon.open("a") as file:
        file.write("zzyzx\tZ AY Z IH K S\n")
    settings = [copy / name for name in ("config.yaml", "overrides.yaml")]
    before = [path.read_bytes() for path in settings]
    completed = run_g2p(
        "train",
        f"resume={copy}",
        f"data.train_path={lexicon}",
        "logger.enabled=false",
        cwd=tmp_path,
    )
    assert completed.returncode == 2
    assert "was trained on another lexicon" in completed.stderr.decode()
    assert [path.read_bytes() for path in settings] == before
