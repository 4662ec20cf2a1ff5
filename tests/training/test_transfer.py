"""A network that goes on learning another lexicon keeps what it knows of the same signs."""

import re
from pathlib import Path

import pytest
import torch

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.data import load_data
from grapheme_to_phoneme.lexicon.writing import write_tsv
from grapheme_to_phoneme.training.alphabets import Alphabets
from grapheme_to_phoneme.training.fitting import fit, load_start
from grapheme_to_phoneme.training.lightning_module import PronunciationModule, load_checkpoint
from grapheme_to_phoneme.training.network import NetworkDimensions
from grapheme_to_phoneme.training.preparation import prepare
from grapheme_to_phoneme.training.tracking import git_state
from grapheme_to_phoneme.training.transfer import transfer
from tests.conftest import TinyLexicon, TinyRun
from tests.training.test_lightning_module import JOINT, SETTINGS
from tests.training.test_network import DIMENSIONS

TAGS = "\ue000\ue001"
FIRST = Alphabets(tuple(f"abcd{TAGS}"), ((), ("p",), ("t",), ("p", "t"), ("k",)))
#: Other orders, a letter and two chunks more, some fewer.
SECOND = Alphabets(tuple(f"xdba{TAGS}"), (("k",), ("s",), (), ("t",), ("t", "s"), ("p",)))
SHARED_LETTERS, SHARED_CHUNKS = "abd", ((), ("p",), ("t",), ("k",))


def make_module(alphabets: Alphabets, codes: str, seed: int, **changes) -> PronunciationModule:
    """Return an untrained module whose tags stand for the languages of the codes, in order."""
    torch.manual_seed(seed)
    dimensions = NetworkDimensions.from_dict(
        {
            **DIMENSIONS,
            "letters": len(alphabets.letters) + 1,
            "chunks": len(alphabets.chunks) + 1,
            **changes,
        }
    )
    languages = [{"tag": tag, "code": code} for tag, code in zip(TAGS, codes, strict=True)]
    facts = {"languages": languages}
    return PronunciationModule.create(dimensions, alphabets, SETTINGS, 1, facts).eval()


@pytest.mark.parametrize("changes", [{}, JOINT], ids=["memory", "members"])
def test_shared_signs_are_said_as_before(changes: dict) -> None:
    source = make_module(FIRST, "fi", 1, **changes)
    target = make_module(SECOND, "if", 2, **changes)
    assert transfer(source, target) == (len(SHARED_LETTERS) + len(TAGS), len(SHARED_CHUNKS))
    said = []
    for module, tag in ((source, TAGS[0]), (target, TAGS[1])):
        letters = torch.tensor([module.alphabets.encode(tag + SHARED_LETTERS)])
        shared = [module.alphabets.chunk_ids[chunk] for chunk in SHARED_CHUNKS]
        with torch.no_grad():
            logits = module.network(letters, torch.tensor([shared]))
        said.append(logits[..., shared])
    torch.testing.assert_close(*said)


def test_memory_knows_what_chunks_mean_in_every_window() -> None:
    source, target = make_module(FIRST, "fi", 1), make_module(SECOND, "fi", 2)
    before = target.network.encoder.memory.chunks.weight.detach().clone()
    transfer(source, target)
    windows = len(DIMENSIONS["memory_windows"])
    tables = [
        module.network.encoder.memory.chunks.weight.view(
            windows, len(module.alphabets.chunks) + 1, -1
        )
        for module in (source, target)
    ]
    for chunk in SHARED_CHUNKS:
        theirs, ours = FIRST.chunk_ids[chunk], SECOND.chunk_ids[chunk]
        assert torch.equal(tables[1][:, ours], tables[0][:, theirs])
    new = SECOND.chunk_ids[("s",)]
    assert torch.equal(tables[1][:, new], before.view_as(tables[1])[:, new])


def test_training_goes_on_from_a_run(
    tiny_run: TinyRun, tiny_lexicon: TinyLexicon, tmp_path: Path, one_thread: None, caplog
) -> None:
    """What a network knows already makes it better after an epoch of few words."""
    few = tmp_path / "few.tsv"
    write_tsv(few, tiny_lexicon.dev[-200:])
    caplog.set_level("INFO")
    rates = {}
    for name, choices in (
        ("adapted", ["experiment=adapted", f"start_run={tiny_run.directory}"]),
        ("alone", ["experiment=small", "model.members=1"]),
    ):
        overrides = [
            *choices,
            "data=lexicon",
            f"data.train_path={few}",
            f"data.dev_path={tiny_lexicon.dev_path}",
            "data.allow_overlap=true",
            "trainer.lightning.max_epochs=1",
            "logger=none",
        ]
        config = compose_config(overrides)
        start = load_start(config, overrides)
        data = load_data(config)
        prepared = prepare(data, config.alignment, config.seed)
        fitted = fit(config, data, prepared, tmp_path / name, git_state(), start=start)
        rates[name] = float(fitted.trainer.callback_metrics["validation/wer"])
        facts = load_checkpoint(fitted.best_checkpoint).facts
        assert ("start_split_sha256" in facts["training"]) == (name == "adapted")
    assert f"{tiny_run.directory} knows " in caplog.text
    assert rates["adapted"] < rates["alone"] - 10


def test_missing_start_is_named() -> None:
    config = compose_config(["start_run=nowhere"])
    with pytest.raises(UserError, match=r"start_run: nowhere/checkpoints/best\.ckpt is missing"):
        load_start(config, [])


@pytest.mark.parametrize("text", ["model=small", "model.encoder_size=64", "++model.members=2"])
def test_another_network_is_refused(tiny_run: TinyRun, text: str) -> None:
    overrides = [f"start_run={tiny_run.directory}", text]
    with pytest.raises(UserError, match=re.escape(f"network along: leave {text} out")):
        load_start(compose_config(overrides), overrides)
