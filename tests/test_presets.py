"""The size of a lexicon chooses a preset, unless somebody has chosen."""

from itertools import product
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.presets import automatic_overrides
from tests.conftest import run_g2p

LETTERS = "abcdefghij"


def write_lexicon(path: Path, words: int) -> list[str]:
    """Write that many words, the first of them twice, and return the overrides that name it."""
    spellings = ["".join(letters) for letters in product(LETTERS, repeat=5)][:words]
    lines = [f"{spelling}\t{' '.join(spelling)}\n" for spelling in (*spellings, spellings[0])]
    path.write_text("".join(lines))
    return ["data=lexicon", f"data.train_path={path}"]


@pytest.mark.parametrize(
    ("words", "preset"),
    [(800, "small"), (2_999, "small"), (3_000, "medium"), (79_999, "medium"), (80_000, "default")],
)
def test_size_chooses(tmp_path: Path, caplog, words: int, preset: str) -> None:
    caplog.set_level("INFO")
    overrides = write_lexicon(tmp_path / "mine.tsv", words)
    assert automatic_overrides(compose_config(overrides), overrides) == [f"experiment={preset}"]
    said = f"{words:,} words to learn from: the preset {preset} (experiment=NAME chooses another)"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_bounds_are_settings(tmp_path: Path) -> None:
    overrides = [*write_lexicon(tmp_path / "mine.tsv", 50), "preset_below_words.small=50"]
    assert automatic_overrides(compose_config(overrides), overrides) == ["experiment=medium"]


def test_network_that_goes_on_learning_has_its_own_preset(tmp_path: Path) -> None:
    overrides = [*write_lexicon(tmp_path / "mine.tsv", 50), "start_run=runs/several"]
    assert automatic_overrides(compose_config(overrides), overrides) == ["experiment=adapted"]


@pytest.mark.parametrize("name", ["default", "quick", "fast", "reference", "medium", "taught"])
def test_named_preset_is_kept(tmp_path: Path, name: str) -> None:
    overrides = [*write_lexicon(tmp_path / "mine.tsv", 50), f"experiment={name}"]
    assert automatic_overrides(compose_config(overrides), overrides) == []


def test_korean_syllables_are_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("산술\ts a n s u l\nmoon\tm u n\n")
    overrides = ["data=lexicon", f"data.train_path={path}", "experiment=default"]
    form = "preprocessing.normalization.unicode_form"
    assert automatic_overrides(compose_config(overrides), overrides) == [f"{form}=NFD"]
    overrides.append(f"{form}=NFKC")
    assert automatic_overrides(compose_config(overrides), overrides) == []


def test_lexicon_that_cannot_be_read(tmp_path: Path) -> None:
    overrides = ["data=lexicon", f"data.train_path={tmp_path / 'none.tsv'}"]
    with pytest.raises(UserError, match="none.tsv"):
        automatic_overrides(compose_config(overrides), overrides)


@pytest.mark.parametrize(
    "preset",
    ["small", "several", "medium", "taught", "fast", "reference", "default"],
)
def test_what_the_command_line_says_wins(preset: str) -> None:
    given = ["model=baseline", "trainer.lightning.max_epochs=2", "optimizer.learning_rate=0.5"]
    config = compose_config([f"experiment={preset}", *given])
    assert config.model == compose_config(["model=baseline"]).model
    assert config.trainer.lightning.max_epochs == 2
    assert config.optimizer.learning_rate == 0.5


def test_finished_run_stands_in_for_a_teacher() -> None:
    config = compose_config(["experiment=taught", "distillation.teachers.together=runs/finished"])
    assert config.distillation.teachers.together == "runs/finished"
    given = "distillation.teachers.together.optimizer.learning_rate"
    with pytest.raises(UserError, match=f"{given} takes a number"):
        compose_config(["experiment=taught", f"{given}=much"])


def test_teacher_of_the_taught_preset() -> None:
    """What a teacher's training does not say is as in the network's own that learns from it."""
    config = compose_config(["experiment=taught"])
    teacher = OmegaConf.merge(config, config.distillation.teachers.together)
    assert teacher.model.companion.members == 2
    assert config.model.companion is None
    assert teacher.model.dropout > config.model.dropout
    assert teacher.trainer.lightning.check_val_every_n_epoch == 2
    assert config.model.encoder_size == compose_config(["model=main"]).model.encoder_size


def test_reference_has_two_kinds_of_networks() -> None:
    config = compose_config(["experiment=reference"])
    first, second = config.model, config.model.companion
    assert second.companion is None
    assert [bool(network.memory_windows) for network in (first, second)] == [True, False]
    assert [bool(network.recurrent_layers) for network in (first, second)] == [False, True]
    assert not config.distillation.teachers


def test_medium_has_three_kinds_of_networks() -> None:
    first = compose_config(["experiment=medium"]).model
    second, third = first.companion, first.companion.companion
    assert third.companion is None
    assert [bool(network.memory_windows) for network in (first, second, third)] == [1, 0, 0]
    assert [bool(network.recurrent_layers) for network in (first, second, third)] == [0, 1, 0]
    assert [network.averages for network in (first, second, third)] == [False, False, True]


def test_run_keeps_its_preset(tmp_path: Path) -> None:
    """Export and resume compose the configuration again from what is written beside the run."""
    overrides = write_lexicon(tmp_path / "mine.tsv", 60)
    brief = ["trainer.lightning.max_epochs=1", "trainer.lightning.check_val_every_n_epoch=1"]
    small = ["model.members=2", "model.encoder_size=16", "export.tolerated_loss=100"]
    completed = run_g2p(
        "train", *overrides, *brief, *small, "logger=none", "paths.run_dir=run", cwd=tmp_path
    )
    assert completed.returncode == 0, completed.stderr.decode()
    said = "60 words to learn from: the preset small"
    assert said in completed.stderr.decode() and said in (tmp_path / "run/train.log").read_text()
    written = yaml.safe_load((tmp_path / "run/overrides.yaml").read_text())
    assert "experiment=small" in written
    config = compose_config(written)
    assert config.model.members == 2
    assert config.model.recurrent_layers == compose_config(["model=small"]).model.recurrent_layers
    assert (tmp_path / "run/model.onnx").is_file()
