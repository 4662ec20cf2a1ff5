"""The model file says the same in JavaScript, native or WebAssembly, with no code of ours."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from tests.conftest import REPOSITORY, TinyRun
from tests.node import INSTALLATION_LIMIT_S, install_packages, run_node

RUNTIMES = ("onnxruntime-node", "onnxruntime-web")
VERSION = "1.30.0"
PROGRAM = Path(__file__).with_name("pronounce.mjs")
#: Made once for a clone; some hundred megabytes.
FOLDER = REPOSITORY / "build" / "javascript" / VERSION

#: An empty word, letters that no model knows, one that is not in the basic plane.
ODDITIES = ["", "é", "sto😀ne", "ß'", "a" * 60]


@pytest.fixture(scope="module")
def runtimes() -> Path:
    """A folder with ONNX Runtime for Node.js and for the web."""
    if not all((FOLDER / "node_modules" / name / "package.json").is_file() for name in RUNTIMES):
        # Their own install step fetches libraries for NVIDIA's GPUs from another host.
        install_packages(FOLDER, *(f"{name}@{VERSION}" for name in RUNTIMES))
    return FOLDER


@pytest.fixture(scope="module")
def words(tiny_run: TinyRun) -> list[str]:
    """Real words that the model did not learn from, and odd ones."""
    return [*list(group_by_spelling(tiny_run.lexicon.dev))[:400], *ODDITIES]


@pytest.mark.timeout(INSTALLATION_LIMIT_S + 600)
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_javascript_says_what_python_says(
    runtimes: Path, tiny_run: TinyRun, words: list[str], runtime: str, variant: str
) -> None:
    model = getattr(tiny_run, f"{variant}_model")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {"words": np.array(words, dtype=object), "beam_size": np.array([1])}
    texts, scores = session.run(["pronunciations", "log_probabilities"], feeds)
    completed = run_node(
        "node", PROGRAM, runtime, model, cwd=runtimes, input=json.dumps(words), timeout=300
    )
    assert completed.returncode == 0, completed.stderr
    said = json.loads(completed.stdout)
    same = np.array(said["pronunciations"]) == texts[:, 0].astype(str)
    if variant == "float32":
        assert same.all()
        np.testing.assert_allclose(said["logProbabilities"], scores[:, 0], atol=1e-3)
    else:
        # Products of bytes are rounded by each processor's own instructions.
        assert same.mean() > 0.99
