"""Fixtures that more than one room's tests use."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import settings
from omegaconf import DictConfig

from grapheme_to_phoneme.configuration import config_directory
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.lexicon.downloading import download_data
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling, ungroup
from grapheme_to_phoneme.lexicon.files import sha256_of
from grapheme_to_phoneme.lexicon.reading import read_lexicon
from grapheme_to_phoneme.lexicon.splitting import open_split
from grapheme_to_phoneme.lexicon.writing import write_tsv
from grapheme_to_phoneme.serving.ports import unused_port
from grapheme_to_phoneme.training.lightning_module import PronunciationModule, load_checkpoint

REPOSITORY = Path(__file__).resolve().parent.parent

#: The command as it is installed beside the interpreter that runs the tests.
G2P = Path(sys.executable).with_name("g2p")

#: Where the check of the wheel looks for a model.
TINY_MODEL = REPOSITORY / "build" / "tiny_model.onnx"

TINY_TRAIN_WORDS = 8000
TINY_DEV_WORDS = 1200
TINY_EPOCHS = 6
#: It takes a twentieth of that on two idle cores.
TINY_RUN_LIMIT_S = 900

#: All of the main network's parts, but few weights: the training takes seconds.
TINY_MODEL_OVERRIDES = (
    "experiment=default",
    "model=main",
    "trainer.batches.letters_per_batch=2048",
    "model.encoder_size=96",
    "model.encoder_layers=1",
    "model.memory_size=48",
    "model.history_size=48",
    "model.decoder_size=96",
    "model.output_size=96",
    "optimizer.learning_rate=5e-3",
    "optimizer.warmup_steps=60",
    "callbacks.weight_averaging.decay=0.98",
    # So small a network, on so few words, may lose more to rounding than a real one.
    "export.tolerated_loss=3.0",
)


def pytest_configure() -> None:
    """Judge properties by what is true, not by how busy the machine is."""
    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the first of the tests that share the trained model wait for it on a slow machine."""
    for item in items:
        if "tiny_run" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(TINY_RUN_LIMIT_S + 300))


def compose_lexicon_config(*overrides: str, data: str = "cmudict", storage: str = "local"):
    """Return the configuration of the groups that ``lexicon/`` uses."""
    groups = (
        "+paths=default",
        f"+storage={storage}",
        f"+data={data}",
        "+preprocessing=default",
        "+direction=grapheme-to-phoneme",
    )
    with initialize_config_dir(config_dir=str(config_directory()), version_base="1.3"):
        return compose(config_name=None, overrides=[*groups, *overrides])


def g2p_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a ``g2p`` process: nothing that a developer's shell has set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    # So small a network gains nothing from a second thread, and loses much on a busy machine.
    return {**kept, "OMP_NUM_THREADS": "1", **variables}


def run_g2p(
    *arguments: str | Path,
    cwd: Path = REPOSITORY,
    standard_input: bytes = b"",
    timeout: float = TINY_RUN_LIMIT_S,
) -> subprocess.CompletedProcess[bytes]:
    """Run the real command; its streams are bytes."""
    return subprocess.run(
        [G2P, *arguments],
        cwd=cwd,
        input=standard_input,
        env=g2p_environment(),
        capture_output=True,
        timeout=timeout,
    )


@dataclass(frozen=True)
class TinyLexicon:
    """Files of short CMUdict words without stress, and their entries.

    Attributes:
        train_path: entries to learn from.
        dev_path: entries to choose by.
        train: the entries of ``train_path``.
        dev: the entries of ``dev_path``.
    """

    train_path: Path
    dev_path: Path
    train: list[Entry]
    dev: list[Entry]

    def overrides(self) -> tuple[str, ...]:
        """Return the overrides that name the files."""
        return (
            "data=lexicon",
            f"data.train_path={self.train_path}",
            f"data.dev_path={self.dev_path}",
        )


@dataclass(frozen=True)
class TinyRun:
    """A finished ``g2p train``.

    Attributes:
        folder: the folder that the command ran in; the run is in its ``runs``.
        directory: the run's directory.
        overrides: the command's overrides, but for the run's directory.
        completed: the finished process.
        lexicon: what it learnt from.
    """

    folder: Path
    directory: Path
    overrides: tuple[str, ...]
    completed: subprocess.CompletedProcess[bytes]
    lexicon: TinyLexicon

    @property
    def model(self) -> Path:
        """The model file."""
        return self.directory / "model.onnx"

    @property
    def float32_model(self) -> Path:
        """The variant that says what PyTorch says."""
        return self.directory / "variants" / "float32.onnx"

    @property
    def int8_model(self) -> Path:
        """The quantised variant."""
        return self.directory / "variants" / "int8.onnx"

    @property
    def float16_model(self) -> Path:
        """The variant for GPUs."""
        return self.directory / "variants" / "float16.onnx"

    @property
    def core(self) -> Path:
        """The network without strings, in float32."""
        return self.directory / "core" / "float32.onnx"

    @property
    def float16_core(self) -> Path:
        """The network without strings, in float16."""
        return self.directory / "core" / "float16.onnx"

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint."""
        return self.directory / "checkpoints" / "best.ckpt"

    def exported_module(self) -> PronunciationModule:
        """Return the best checkpoint's network, as the export calibrated it."""
        module = load_checkpoint(self.checkpoint)
        training = Pronouncer(self.float32_model).metadata.training
        module.network.calibrate(training["temperature"], training["smoothing"])
        return module


@pytest.fixture(scope="session")
def cmudict_config() -> DictConfig:
    """The configuration of the open split, as it stands in the repository."""
    return compose_lexicon_config(f"paths.root={REPOSITORY}")


@pytest.fixture(scope="session")
def cmudict_path(cmudict_config: DictConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real raw lexicon: the repository's copy if it has one, else a fresh download."""
    path = Path(cmudict_config.data.download_path)
    if path.is_file() and sha256_of(path) == cmudict_config.data.sha256:
        return path
    folder = tmp_path_factory.mktemp("cmudict")
    # The tests must not put anything into the developer's DVC storage.
    return download_data(
        compose_lexicon_config(f"paths.root={folder}", "storage.pull=false", "storage.push=false")
    )


@pytest.fixture(scope="session")
def tiny_lexicon(cmudict_path: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyLexicon:
    """A few thousand words of the open split's own train and dev parts."""
    split = open_split(group_by_spelling(read_lexicon(cmudict_path, "cmudict", strip_stress=True)))

    def take(entries: list[Entry], words: int) -> list[Entry]:
        groups = group_by_spelling(entries)
        short = [spelling for spelling in groups if 3 <= len(spelling) <= 8][:words]
        return ungroup({spelling: groups[spelling] for spelling in short})

    folder = tmp_path_factory.mktemp("tiny_lexicon")
    train, dev = take(split.train, TINY_TRAIN_WORDS), take(split.dev, TINY_DEV_WORDS)
    paths = (folder / "train.tsv", folder / "dev.tsv")
    for path, entries in zip(paths, (train, dev), strict=True):
        write_tsv(path, entries)
    return TinyLexicon(*paths, train, dev)


@pytest.fixture(scope="session")
def tiny_run(tiny_lexicon: TinyLexicon, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A real ``g2p train`` of some seconds, with nothing listening where MLflow is expected.

    Its model is left in ``build/`` for the check of the wheel.
    """
    folder = tmp_path_factory.mktemp("tiny_run")
    overrides = (
        *tiny_lexicon.overrides(),
        "data.language=en-US",
        "data.notation=arpabet",
        *TINY_MODEL_OVERRIDES,
        f"trainer.lightning.max_epochs={TINY_EPOCHS}",
        f"logger.tracking_uri=http://127.0.0.1:{unused_port()}",
    )
    completed = run_g2p(
        "train", *overrides, "paths.run_dir=runs/tiny", cwd=folder, timeout=TINY_RUN_LIMIT_S
    )
    assert completed.returncode == 0, completed.stderr.decode()
    run = TinyRun(folder, folder / "runs" / "tiny", overrides, completed, tiny_lexicon)
    TINY_MODEL.parent.mkdir(exist_ok=True)
    shutil.copyfile(run.model, TINY_MODEL)
    return run


@pytest.fixture(scope="session")
def stand_in_engine(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in for a TensorRT engine of the tiny run; its run is two folders above."""
    # It imports this module.
    from tests.engines import write_engine

    return write_engine(tiny_run, tmp_path_factory.mktemp("engine") / "run")


@pytest.fixture(scope="session")
def package_with_lexicon(tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's package, with the words that it learnt from."""
    folder = tmp_path_factory.mktemp("package_with_lexicon") / "tiny"
    completed = run_g2p(
        "package",
        *("--run", "runs/tiny", f"package.output={folder}", "package.lexicon=train"),
        cwd=tiny_run.folder,
    )
    assert completed.returncode == 0, completed.stderr.decode()
    return folder
