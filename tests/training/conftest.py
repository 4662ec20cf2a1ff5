"""Fixtures for tests that train within the process of the tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from grapheme_to_phoneme import runs, workflows
from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.lexicon.writing import write_tsv
from tests.conftest import TINY_MODEL_OVERRIDES, TinyLexicon

FEW_WORDS = 1500

Train = Callable[..., Path]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So small a network gains nothing from a second thread; a training changes this too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def train(
    tiny_lexicon: TinyLexicon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> Train:
    """Give a function that trains on few words in a folder of its own; it returns the run."""
    paths = {"train": tmp_path / "train.tsv", "dev": tmp_path / "dev.tsv"}
    write_tsv(paths["train"], tiny_lexicon.train[:FEW_WORDS])
    write_tsv(paths["dev"], tiny_lexicon.dev[:200])
    monkeypatch.chdir(tmp_path)
    # The tests must not change what MLflow does in the tests after them.
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(runs.RUN_DIRECTORY_VARIABLE, raising=False)

    def run(name: str, *further: str) -> Path:
        overrides = [
            "data=lexicon",
            f"data.train_path={paths['train']}",
            f"data.dev_path={paths['dev']}",
            *TINY_MODEL_OVERRIDES,
            "optimizer.consistency=1.0",
            # So short a training would end before anything is due to be logged.
            "trainer.lightning.log_every_n_steps=1",
            "callbacks.throughput_window=2",
            "export.parity_words=20",
            "export.parity_batch_sizes=[8]",
            f"paths.run_dir={tmp_path / name}",
            *further,
        ]
        config = compose_config(overrides)
        directory = runs.new_run_directory(config)
        workflows.train(config, overrides, directory)
        return directory

    return run
