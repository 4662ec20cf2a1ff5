"""What a training does at its end, and when it goes on, by Lightning's own loop."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.training.callbacks import build_callbacks


class Learner(pl.LightningModule):
    """Learns nothing, and has the error rates that it is told.

    Args:
        rates: one for each epoch.
    """

    def __init__(self, rates: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.rates = rates
        self.validated: list[int] = []

    def training_step(self, batch: dict, batch_index: int) -> torch.Tensor:
        return self.weight.sum()

    def validation_step(self, batch: dict, batch_index: int) -> None:
        self.validated.append(self.current_epoch + 1)
        self.log("validation/wer", self.rates[self.current_epoch], batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def train_dataloader(self) -> DataLoader:
        return DataLoader([{"letters": torch.zeros(1, 1)}] * 2, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader([{"letters": torch.zeros(1, 1)}], batch_size=None)


def learn(
    folder: Path, rates: list[float], epochs: int, every: int = 1, patience: int = 8
) -> tuple[pl.Trainer, Learner]:
    """Train for as many epochs, from the folder's last checkpoint on where there is one."""
    override = f"callbacks.early_stopping.patience={patience}"
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        check_val_every_n_epoch=every,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        callbacks=build_callbacks(compose_config([override]).callbacks, folder, 2),
        logger=CSVLogger(folder),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    learner = Learner(rates)
    last = folder / "checkpoints" / "last.ckpt"
    trainer.fit(learner, ckpt_path=last if last.is_file() else None, weights_only=True)
    return trainer, learner


def epoch_of(folder: Path, name: str) -> int:
    """Return the epoch after which a checkpoint was written, counted from 1."""
    path = folder / "checkpoints" / f"{name}.ckpt"
    return torch.load(path, weights_only=True)["epoch"] + 1


@pytest.mark.parametrize(("rate", "best"), [(5.0, 2), (1.0, 3)], ids=["worse", "better"])
def test_moved_run_knows_its_best_epoch(tmp_path: Path, rate: float, best: int) -> None:
    before, now = tmp_path / "before", tmp_path / "now"
    learn(before, [4.0, 2.0], epochs=2)
    before.rename(now)
    trainer, _ = learn(now, [4.0, 2.0, rate], epochs=3)
    assert (epoch_of(now, "best"), epoch_of(now, "last")) == (best, 3)
    paths = {callback.best_model_path for callback in trainer.checkpoint_callbacks}
    assert paths == {str(now / "checkpoints" / f"{name}.ckpt") for name in ("best", "last")}
    assert not before.exists()


def test_copied_run_leaves_the_other_alone(tmp_path: Path) -> None:
    before, now = tmp_path / "before", tmp_path / "now"
    learn(before, [4.0], epochs=1)
    (now / "checkpoints").mkdir(parents=True)
    for name in ("best", "last"):
        path = Path("checkpoints", f"{name}.ckpt")
        (now / path).write_bytes((before / path).read_bytes())
    learn(now, [4.0, 2.0], epochs=2)
    assert (epoch_of(now, "best"), epoch_of(now, "last")) == (2, 2)
    assert (epoch_of(before, "best"), epoch_of(before, "last")) == (1, 1)


@pytest.mark.parametrize("every", [1, 2])
def test_stopped_training_stays_stopped(tmp_path: Path, every: int) -> None:
    rates = [float(epoch) for epoch in range(9)]
    trainer, _ = learn(tmp_path, rates, epochs=9, every=every, patience=1)
    steps = trainer.global_step
    assert steps == 2 * 2 * every
    for _ in range(2):
        trainer, learner = learn(tmp_path, rates, epochs=9, every=every, patience=1)
        assert trainer.global_step == steps and learner.validated == []
    assert epoch_of(tmp_path, "best") == every


def test_last_epoch_is_validated(tmp_path: Path) -> None:
    _, learner = learn(tmp_path, [4.0, 3.0, 2.0, 1.0, 0.0], epochs=5, every=2)
    assert learner.validated == [2, 4, 5]
    assert epoch_of(tmp_path, "best") == 5


def test_training_that_is_shorter_than_its_validations_are_apart(tmp_path: Path) -> None:
    _, learner = learn(tmp_path, [4.0, 3.0], epochs=2, every=5)
    assert learner.validated == [2]
    assert epoch_of(tmp_path, "best") == 2
