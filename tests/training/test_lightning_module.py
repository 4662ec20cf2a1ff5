"""The loss of a training step, with one pass and with two; checkpoints that cannot be read."""

import subprocess
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.training.lightning_module import (
    OptimizerSettings,
    PronunciationModule,
    load_checkpoint,
)
from grapheme_to_phoneme.training.objective import disagreement
from tests.training.test_network import (
    ALPHABETS,
    CHUNKS,
    make_network,
    make_words,
    pad,
)

SETTINGS = OptimizerSettings(1e-3, 0.02, 10, 0.02, (0.9, 0.98), 0.05, 1.0)
WITHOUT_DROPOUT = {"dropout": 0.0, "memory_dropout": 0.0, "history_dropout": 0.0}
JOINT = {"memory_windows": [], "encoder_layers": 0, "recurrent_layers": 1, "members": 3}


def make_module(consistency: float, **changes: object) -> PronunciationModule:
    network = make_network(**changes)
    settings = {**SETTINGS.__dict__, "consistency": consistency}
    module = PronunciationModule(
        network.dimensions.to_dict(), ALPHABETS.to_dict(), settings, seed=1, facts={}
    )
    module.network.load_state_dict(network.state_dict())
    return module.train()


def loss_of(module: PronunciationModule) -> float:
    """Return the loss of a batch with words of different lengths, always with the same dropout."""
    letters = pad(make_words([3, 6, 5]))
    chunks = torch.arange(letters.numel()).view_as(letters) % (CHUNKS - 1) + 1
    torch.manual_seed(1)
    with torch.no_grad():
        return module.training_step({"letters": letters, "chunks": chunks}, 0).item()


def test_disagreement_is_the_mean_divergence_in_either_direction() -> None:
    first, second = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    expected = 0.5 * sum(
        functional.kl_div(
            other.log_softmax(-1), one.log_softmax(-1), log_target=True, reduction="batchmean"
        )
        for one, other in ((first, second), (second, first))
    )
    torch.testing.assert_close(disagreement(first, second).mean(), expected)
    assert disagreement(first, first + 3.0).abs().max().item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("changes", [{}, JOINT], ids=["one network", "members"])
def test_passes_that_agree_cost_nothing(changes: dict) -> None:
    once, twice = (
        loss_of(make_module(consistency, **{**changes, **WITHOUT_DROPOUT}))
        for consistency in (0.0, 5.0)
    )
    assert twice == pytest.approx(once, rel=1e-5)


@pytest.mark.parametrize("changes", [{}, JOINT], ids=["one network", "members"])
def test_passes_that_disagree_cost_by_the_weight(changes: dict) -> None:
    little, more, most = (
        loss_of(make_module(consistency, **{**changes, "dropout": 0.5}))
        for consistency in (1e-9, 1.0, 2.0)
    )
    assert more > little
    assert most - more == pytest.approx(more - little, rel=1e-3)


@pytest.mark.parametrize("content", [b"", b"no checkpoint\n", b"PK\x03\x04 half a file"])
def test_file_that_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no checkpoint of this package"):
        load_checkpoint(path)


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none.ckpt")


def test_checkpoint_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match="is no checkpoint of this package"):
        load_checkpoint(path)


def test_checkpoint_that_would_run_code_does_not(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": {"dimensions": subprocess.Popen}}, path)
    with pytest.raises(UserError, match="is no checkpoint of this package"):
        load_checkpoint(path)
