"""Ctrl-C ends a training in one line that says how to go on, and a further one is heard."""

import signal
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as pl
import pytest

from grapheme_to_phoneme.errors import InterruptedTrainingError
from grapheme_to_phoneme.training.callbacks import EpochLog
from tests.training.conftest import Train


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Hear Ctrl-C as in a terminal: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_training_says_how_to_go_on(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def interrupt(self: EpochLog, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(EpochLog, "on_validation_end", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedTrainingError) as interruption:
        train("run", "logger=none", "trainer.lightning.max_epochs=2")
    assert str(interruption.value) == f"interrupted: go on with `g2p train resume={tmp_path}/run`"
    assert interruption.value.exit_status == 130
    assert signal.getsignal(signal.SIGINT) is handler
    assert (tmp_path / "run" / "overrides.yaml").is_file()
    assert not (tmp_path / "run" / "model.onnx").exists()


def test_what_has_not_begun_is_not_gone_on_with(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("grapheme_to_phoneme.workflows.load_data", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train("run", "logger=none")
