"""Settings that are refused before a training, and what one that has begun takes."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.configuration import compose_config, save_config
from grapheme_to_phoneme.errors import MissingDependencyError, UserError
from grapheme_to_phoneme.training.settings import check_export_settings, check_settings
from grapheme_to_phoneme.workflows import export, train

#: The lexicon is not there, so that nothing is trained where nothing is refused before.
BEGUN_WITH = ("data=lexicon", "data.train_path=no_lexicon.tsv", "logger=none")


@pytest.fixture(scope="module")
def config() -> DictConfig:
    """The default configuration."""
    return compose_config([])


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("model.kernel_size", 4, "kernel_size is an odd number, not 4"),
        ("model.members", 0, "members is at least 1, not 0"),
        ("model.memory_windows", [[1, 2]], "memory_windows lie around their letter"),
        ("model.memory_windows", [[1, 2, 3]], "the group model makes no network"),
        ("model.memory_size", 0, "memory_size is at least 1 with memory_windows"),
        ("model.attention_heads", 5, "encoder_size is a multiple of attention_heads"),
        ("model.encoder_size", 0, "encoder_size is at least 1, not 0"),
        ("model.encoder_size", None, "the group model makes no network"),
        ("model.dropout", 2.0, "dropout is from 0 to below 1, not 2.0"),
        ("model.companion", {"encoder_size": 4}, "the group model makes no network"),
        ("export.temperature_range", [0.0, 2.0], "temperature_range takes two numbers above 0"),
        ("export.temperature_range", [2.0, 0.5], "temperature_range takes two numbers above 0"),
        ("export.temperature_range", [1.0, "a"], "temperature_range takes two numbers above 0"),
        ("export.temperature_range", [1.0], "temperature_range takes two numbers above 0"),
        ("export.temperature_steps", 0, "temperature_steps takes a whole number of at least 1"),
        ("export.member_weight_caution", -1.0, "caution takes a number of at least 0, not -1.0"),
        ("export.tolerated_loss", "no", "tolerated_loss takes a number of at least 0, not no"),
        ("export.equalization", [0.8, 1.5], "equalization takes a list of numbers from 0 to 1"),
        ("export.tolerance", float("nan"), "tolerance takes a number of at least 0, not nan"),
        ("export.latency_words", 0, "latency_words takes a whole number of at least 1, not 0"),
        ("export.parity_batch_sizes", [], "parity_batch_sizes takes a list of whole numbers"),
        ("export.parity_beam_sizes", [1, 0], "takes a list of whole numbers of at least 1"),
        ("optimizer.betas", [0.9], "betas are two numbers"),
        ("optimizer.most_warmup", 1.5, "most_warmup is from 0 to 1, not 1.5"),
        ("optimizer.learning_rate", -1.0, "learning_rate is above 0, not -1.0"),
        ("optimizer.momentum", 0.9, "the group optimizer: .*'momentum'"),
        ("seed", -1, "seed takes a whole number of at least 0, not -1"),
        ("seed", 5000000000, "seed takes at most 4294967295"),
        ("trainer.lightning.max_epochs", "abc", "max_epochs takes a whole number of at least 1"),
        ("trainer.lightning.max_epochs", 0, "max_epochs takes a whole number of at least 1"),
        ("trainer.lightning.precision", "foo", "the group trainer .*'foo'"),
        ("trainer.lightning.strategy", "foo", "the group trainer .*'foo'"),
        ("trainer.lightning.accelerator", "foo", "the group trainer .*'foo'"),
        ("trainer.lightning.accumulate_grad_batches", 0, "accumulate_grad_batches takes a whole"),
        ("trainer.lightning.check_val_every_n_epoch", 0, "check_val_every_n_epoch takes a whole"),
        ("trainer.lightning.check_val_every_n_epoch", None, "not None"),
        ("trainer.lightning.log_every_n_steps", None, "log_every_n_steps takes a whole number"),
        ("trainer.lightning.foo", 1, "the group trainer .*'foo'"),
        ("trainer.batches.workers", -1, "workers takes a whole number of at least 0, not -1"),
        ("distillation.teachers.one", 5, "teachers.one takes what its training changes"),
        ("distillation.teachers.one", {"modle": {"dropout": 0.1}}, "configuration: .*modle"),
        ("distillation.teachers.one", {"model": {"members": 0}}, "members is at least 1"),
    ],
)
def test_settings_that_no_training_can_have(
    config: DictConfig, key: str, value: object, told: str
) -> None:
    changed = config.copy()
    OmegaConf.update(changed, key, value, merge=False, force_add=True)
    with pytest.raises(UserError, match=told) as refusal:
        check_settings(changed)
    assert "\n" not in str(refusal.value)


def test_export_refuses_what_it_cannot_have(tmp_path: Path) -> None:
    config = compose_config(["export.temperature_range=[0,2]"])
    with pytest.raises(UserError, match="temperature_range takes two numbers above 0"):
        export(config, tmp_path, None)
    # What the training had is not the export's to judge.
    check_export_settings(compose_config(["trainer.lightning.max_epochs=0"]))


def test_setting_that_is_taken_away(config: DictConfig) -> None:
    with pytest.raises(UserError, match="seed takes a whole number"):
        check_settings(compose_config(["~seed=1"]))


@pytest.mark.parametrize("name", ["adapted", "quick", "reference", "several", "small", "taught"])
def test_presets_are_good_settings(name: str) -> None:
    check_settings(compose_config([f"experiment={name}"]))


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a training that has got as far as its first checkpoint."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    save_config(compose_config(BEGUN_WITH), BEGUN_WITH, run)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    return run


def saved(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in ("config.yaml", "overrides.yaml")]


def go_on(run: Path, *changes: str) -> None:
    overrides = [*BEGUN_WITH, *changes]
    train(compose_config(overrides), overrides, run)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("seed=2", "seed was 1 when"),
        ("model.encoder_size=32", "model.encoder_size was 256 when"),
        ("model=small", "model.attention_heads was 4 when"),
        ("optimizer.learning_rate=0.1", "optimizer.learning_rate was 0.003 when"),
        ("optimizer.weight_decay=0.1", "optimizer.weight_decay was"),
        ("callbacks.early_stopping.patience=2", "callbacks.early_stopping.patience was 8 when"),
        ("trainer.lightning.max_epochs=30", "trainer.lightning.max_epochs was 20 when"),
        ("+trainer.lightning.max_steps=30", "trainer.lightning.max_steps was not set when"),
        ("trainer=ddp", "trainer.lightning.devices was 1 when"),
        ("distillation.share=0.1", "distillation.share was 0.5 when"),
        ("+distillation.teachers.one=runs/one", "distillation.teachers.one was not set when"),
        ("start_run=runs/other", "start_run was None when"),
    ],
)
def test_resumed_training_refuses_what_it_cannot_change(
    begun: Path, change: str, told: str
) -> None:
    before = saved(begun)
    with pytest.raises(UserError, match=told) as refusal:
        go_on(begun, change)
    assert "begin a new run" in str(refusal.value) and f"start_run={begun}" in str(refusal.value)
    assert saved(begun) == before


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("trainer.lightning.accelerator=cpu", "trainer.batches.workers=2"),
        ("logger.experiment_name=other", "export.tolerated_loss=1", "paths.runs_dir=elsewhere"),
        ("callbacks.progress_refresh_rate=1", "callbacks.resumable_every_n_epochs=2"),
    ],
)
def test_resumed_training_takes_the_rest(begun: Path, changes: tuple[str, ...]) -> None:
    before = saved(begun)
    with pytest.raises(UserError, match="no_lexicon.tsv"):
        go_on(begun, *changes)
    # What ends before the training goes on is no part of it.
    assert saved(begun) == before


def test_hardware_that_is_not_here_is_not_recorded(begun: Path) -> None:
    before = saved(begun)
    with pytest.raises(MissingDependencyError, match="asks for what is not here"):
        go_on(begun, "trainer.lightning.accelerator=tpu")
    assert saved(begun) == before


def test_training_that_has_not_learnt_yet_takes_all(begun: Path) -> None:
    (begun / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(UserError, match="no_lexicon.tsv"):
        go_on(begun, "seed=2", "model.encoder_size=32")
