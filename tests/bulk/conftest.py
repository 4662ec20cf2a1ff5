"""A list that takes long enough to be interrupted, and the answer to it."""

from pathlib import Path

import pytest

from tests.conftest import TinyRun, run_g2p


@pytest.fixture(scope="session")
def long_list(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand words, in 50 blocks of the smallest."""
    path = tmp_path_factory.mktemp("long_list") / "words.txt"
    words = [entry.spelling for entry in tiny_run.lexicon.train[:2000]]
    path.write_text("".join(f"{word}\n" for word in words))
    return path


@pytest.fixture(scope="session")
def long_answer(tiny_run: TinyRun, long_list: Path) -> bytes:
    """What one process says to it, to its standard output."""
    completed = run_g2p("infer", "--model", tiny_run.model, "--input", long_list, "--n-best", "2")
    assert completed.returncode == 0, completed.stderr.decode()
    return completed.stdout
