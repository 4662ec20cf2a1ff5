"""TensorRT engines: all that can be tried without a GPU, and on one where there is one.

TensorRT for RTX is TensorRT's parser and compiler for another family of GPUs. It compiles on a
machine without any, and the package registries have it: so what is built here is real, and only
what runs an engine waits for a GPU.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from omegaconf import DictConfig

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import MissingDependencyError, UserError
from grapheme_to_phoneme.inference.core import CoreAlphabets, Profile
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.lexicon.preprocessing import ensure_sample
from grapheme_to_phoneme.lexicon.reading import read_lexicon
from grapheme_to_phoneme.packaging.engine_description import (
    EngineDescription,
    description_path,
    find_engine,
)
from grapheme_to_phoneme.packaging.onnx_export import open_session
from grapheme_to_phoneme.packaging.tensorrt_engine import (
    EnginePronouncer,
    check_fit,
    check_version,
)
from grapheme_to_phoneme.packaging.tensorrt_export import (
    choose_profile,
    compare,
    properties_of,
    read_sample,
)
from tests.conftest import REPOSITORY, TinyRun, compose_lexicon_config, run_g2p

SCRIPT = REPOSITORY / "scripts" / "export_tensorrt.sh"

#: Made once for a clone; 230 MB.
RTX_PACKAGE = "tensorrt-rtx-cu12==1.7.1.116"
RTX_FOLDER = REPOSITORY / "build" / "tensorrt_rtx" / RTX_PACKAGE.partition("==")[2]
INSTALLATION_LIMIT_S = 900

HAS_TENSORRT = find_spec("tensorrt") is not None and torch.cuda.is_available()
NEEDS_GPU = pytest.mark.skipif(not HAS_TENSORRT, reason="needs TensorRT and an NVIDIA GPU")
NEEDS_RTX_WHEELS = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64",
    reason="TensorRT for RTX has wheels for x86-64 alone",
)

#: Options of trtexec that we use, in the documentation of TensorRT 10 and 11 ("Command-Line
#: Programs"); 11 takes --stronglyTyped and ignores it.
TRTEXEC_OPTIONS = {
    "--onnx",
    "--saveEngine",
    "--minShapes",
    "--optShapes",
    "--maxShapes",
    "--timingCacheFile",
    "--stronglyTyped",
    "--skipInference",
}

#: Gone with TensorRT 11: "Migrating trtexec Usage from TensorRT 10.x to 11.x" there.
REMOVED_OPTIONS = ("--fp16", "--int8", "--bf16", "--fp8", "--int4", "--best", "--calib")

# Runs with TensorRT for RTX on the path: parses and compiles core networks with our own function.
BUILDING_PROGRAM = """
import json, sys
from pathlib import Path
import tensorrt_rtx
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.core import Profile
from grapheme_to_phoneme.packaging.tensorrt_export import build_plan
outcomes = []
for name in sys.argv[2:]:
    try:
        profile = Profile((1, 1), (64, 8), (512, 64))
        outcomes.append(len(build_plan(tensorrt_rtx, Path(name), profile, None)))
    except UserError as error:
        outcomes.append(str(error))
Path(sys.argv[1]).write_text(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def alphabets(tiny_run: TinyRun) -> CoreAlphabets:
    """What the ids of the tiny model mean."""
    return CoreAlphabets.from_properties(properties_of(tiny_run.core), "core")


@pytest.fixture(scope="module")
def dev_words(tiny_run: TinyRun) -> list[str]:
    """Words that the network did not learn from, of mixed lengths."""
    return list(group_by_spelling(tiny_run.lexicon.dev))


@pytest.fixture(scope="module")
def sample(dev_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of them in a file."""
    path = tmp_path_factory.mktemp("sample") / "words.txt"
    path.write_text("".join(f"{word}\n" for word in dev_words[:200]))
    return path


@pytest.fixture(scope="module")
def config() -> DictConfig:
    return compose_config([])


# The sample and the shapes


def test_sample_is_the_one_under_dvc(cmudict_path: Path, tmp_path: Path) -> None:
    """Real words of the dev part, the same for everybody."""
    config = compose_lexicon_config(
        f"paths.root={tmp_path}",
        f"data.raw_path={cmudict_path}",
        "storage.pull=false",
        "storage.push=false",
    )
    made = ensure_sample(config)
    tracked = yaml.safe_load((REPOSITORY / "data/example/sample_words.txt.dvc").read_text())
    completed = subprocess.run(["md5sum", made], capture_output=True, text=True, check=True)
    assert completed.stdout.split()[0] == tracked["outs"][0]["md5"]
    assert len(made.read_text().split()) == config.preprocessing.example.sample_words
    assert ensure_sample(config) == made


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot read"), (b"", "has no words"), (b"\xff", "cannot read")]
)
def test_sample_that_is_none(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_sample(compose_config([f"tensorrt.sample={path}"]))


def test_other_data_has_no_sample() -> None:
    with pytest.raises(UserError, match="data=lexicon has no sample: say tensorrt.sample=FILE"):
        read_sample(compose_config(["data=lexicon", "data.train_path=x.tsv"]))


def test_profile_follows_the_lengths(alphabets: CoreAlphabets, config: DictConfig) -> None:
    words = ["a" * length for length in (3, 5, 5, 6, 6, 6, 7, 9, 30)]
    profile = choose_profile(words, alphabets, config)
    assert profile == Profile((1, 1), (64, 6), (512, config.tensorrt.longest_word))
    assert choose_profile(["a" * 100], alphabets, config) == Profile((1, 1), (64, 100), (512, 100))


@pytest.mark.parametrize("sizes", [[1, 64], [0, 64, 512], [64, 1, 512], [1, "many", 512]])
def test_profile_of_other_batches(
    alphabets: CoreAlphabets, config: DictConfig, sizes: list[object]
) -> None:
    changed = config.copy()
    changed.tensorrt.batch_sizes = sizes
    with pytest.raises(UserError, match="batch_sizes takes three whole numbers of at least 1"):
        choose_profile(["stone"], alphabets, changed)


def test_profile_covers_the_longest_word_of_the_data(
    alphabets: CoreAlphabets, config: DictConfig, cmudict_path: Path, dev_words: list[str]
) -> None:
    entries = read_lexicon(cmudict_path, "cmudict")
    longest = max(len(entry.spelling) for entry in entries)
    profile = choose_profile(dev_words, alphabets, config)
    assert longest > max(map(len, dev_words))
    assert profile.smallest[1] <= 1 and profile.largest[1] >= longest


# trtexec


def show_arguments(tiny_run: TinyRun, *arguments: str | Path) -> list[str]:
    completed = run_g2p("export-tensorrt", "--show-arguments", *arguments, cwd=tiny_run.folder)
    assert completed.returncode == 0, completed.stderr.decode()
    return completed.stdout.decode().splitlines()


def test_arguments_of_trtexec(tiny_run: TinyRun, sample: Path) -> None:
    lines = show_arguments(tiny_run, "--run", "runs/tiny", f"tensorrt.sample={sample}")
    options = dict(line.partition("=")[::2] for line in lines)
    assert len(options) == len(lines) and set(options) == TRTEXEC_OPTIONS
    assert options["--onnx"] == "runs/tiny/core/float16.onnx"
    assert options["--saveEngine"] == "runs/tiny/core/float16.plan.partial"
    lengths = sorted(map(len, sample.read_text().split()))
    assert options["--minShapes"] == "letters:1x1"
    assert options["--optShapes"] == f"letters:64x{lengths[len(lengths) // 2]}"
    assert options["--maxShapes"] == "letters:512x64"


def test_arguments_suit_tensorrt_11(tiny_run: TinyRun, sample: Path) -> None:
    lines = show_arguments(tiny_run, "--core", tiny_run.core, f"tensorrt.sample={sample}")
    assert f"--onnx={tiny_run.core}" in lines
    assert not {line.partition("=")[0] for line in lines}.intersection(REMOVED_OPTIONS)
    script = SCRIPT.read_text(encoding="utf-8")
    assert not any(f"{option} " in script for option in REMOVED_OPTIONS)


# What is missing


@pytest.mark.skipif(HAS_TENSORRT, reason="TensorRT and a GPU are here")
def test_missing_tensorrt_is_told_in_a_line(tiny_run: TinyRun, tmp_path: Path) -> None:
    core = Path(shutil.copyfile(tiny_run.float16_core, tmp_path / "core.onnx"))
    completed = run_g2p("export-tensorrt", "--core", core, cwd=tmp_path)
    said = completed.stderr.decode()
    assert completed.returncode == 3 and said.count("\n") == 1
    assert said.startswith("g2p: error: this needs ")
    if find_spec("tensorrt") is None:
        assert "pip install tensorrt-cu12" in said
    if not torch.cuda.is_available():
        assert "an NVIDIA GPU that PyTorch can use" in said
    assert [path.name for path in tmp_path.iterdir()] == ["core.onnx"]
    with pytest.raises(MissingDependencyError, match="this needs"):
        EnginePronouncer(core)


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="a GPU may be here")
@pytest.mark.parametrize("trtexec", [None, "true"])
def test_script_tells_what_is_missing(tmp_path: Path, trtexec: str | None) -> None:
    environment = {"PATH": os.environ["PATH"], **({"TRTEXEC": trtexec} if trtexec else {})}
    completed = subprocess.run(
        [SCRIPT, "--core", "core.onnx"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 3 and completed.stdout == ""
    assert completed.stderr.count("\n") == 1
    assert completed.stderr.startswith("export_tensorrt: error: this needs ")
    assert "an NVIDIA GPU with its driver" in completed.stderr
    if trtexec is not None:
        assert "trtexec (" not in completed.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", ["10.12.0.36", "10.16.1.11", "11.0.0.114", "11.4.0.106"])
def test_versions_that_do(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["8.6.1", "10.9.0.34", "10.11.0.33"])
def test_versions_that_are_too_old(version: str) -> None:
    with pytest.raises(MissingDependencyError, match=f"TensorRT 10.12 or later, not {version}"):
        check_version(version)


def test_run_without_a_core_network(tiny_run: TinyRun) -> None:
    precision = "tensorrt.precision=bfloat16"
    completed = run_g2p("export-tensorrt", "--run", "runs/tiny", precision, cwd=tiny_run.folder)
    assert completed.returncode == 2
    assert b"there is no core network runs/tiny/core/bfloat16.onnx" in completed.stderr


@pytest.mark.parametrize("content", [None, b"", b"no ONNX"])
def test_core_that_is_none(tmp_path: Path, sample: Path, content: bytes | None) -> None:
    core = tmp_path / "core.onnx"
    if content is not None:
        core.write_bytes(content)
    flags = ("--core", core, "--show-arguments", f"tensorrt.sample={sample}")
    completed = run_g2p("export-tensorrt", *flags, cwd=tmp_path)
    assert completed.returncode == 2 and completed.stderr.count(b"\n") == 1
    assert b"core.onnx" in completed.stderr


def test_model_with_strings_is_no_core(tiny_run: TinyRun, sample: Path) -> None:
    flags = ("--core", tiny_run.model, "--show-arguments", f"tensorrt.sample={sample}")
    completed = run_g2p("export-tensorrt", *flags, cwd=tiny_run.folder)
    assert completed.returncode == 2 and b"takes strings" in completed.stderr


# Comparing


def runner_of(core: Path):
    session = open_session(core)
    return lambda letters: session.run(["chunk_ids", "log_probabilities"], {"letters": letters})


def test_comparison_takes_rounding(
    tiny_run: TinyRun, dev_words: list[str], config: DictConfig
) -> None:
    profile = Profile((1, 3), (50, 6), (100, 20))
    run = runner_of(tiny_run.float16_core)
    agreement, worst = compare(run, tiny_run.core, dev_words, profile, config)
    assert 0.99 <= agreement <= 1.0 and 0.0 < worst < 0.05
    same = runner_of(tiny_run.core)
    assert compare(same, tiny_run.core, dev_words, profile, config) == (1.0, 0.0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda chunk_ids, scores: (np.maximum(chunk_ids - 1, 0), scores),
        lambda chunk_ids, scores: (chunk_ids, scores - 0.1),
        lambda chunk_ids, scores: (chunk_ids, scores * np.nan),
        lambda chunk_ids, scores: (chunk_ids * 0, scores * 0),
    ],
    ids=["phones", "scores", "not-a-number", "nothing"],
)
def test_comparison_finds_damage(
    tiny_run: TinyRun, dev_words: list[str], config: DictConfig, damage
) -> None:
    run = runner_of(tiny_run.core)
    with pytest.raises(UserError, match="the engine differs from ONNX Runtime: "):
        compare(
            lambda letters: damage(*run(letters)),
            tiny_run.core,
            dev_words[:100],
            Profile((1, 1), (50, 6), (100, 20)),
            config,
        )


# What lies beside an engine


DESCRIPTION = EngineDescription(
    plan_sha256="0f",
    core_sha256="1e",
    tensorrt_version="10.12.0.36",
    gpu="NVIDIA H100 80GB HBM3",
    profile=Profile((1, 1), (64, 7), (512, 64)),
    beam_size=1,
    agreement=0.999,
    worst_difference=0.002,
    properties={"grapheme_to_phoneme.format_version": "1", "text": "ˈe: [x], {y} ${z}"},
)


def test_description_round_trip(tmp_path: Path) -> None:
    engine = tmp_path / "float16.plan"
    DESCRIPTION.write(engine)
    assert description_path(engine).name == "float16.plan.yaml"
    assert EngineDescription.read(engine) == DESCRIPTION


def test_description_holds_the_alphabets(
    tiny_run: TinyRun, alphabets: CoreAlphabets, tmp_path: Path
) -> None:
    engine = tmp_path / "float16.plan"
    replace(DESCRIPTION, properties=properties_of(tiny_run.core)).write(engine)
    properties = EngineDescription.read(engine).properties
    assert CoreAlphabets.from_properties(properties, "engine") == alphabets


@pytest.mark.parametrize("content", ["", "- 1", "profile: {}", "profile: 3\n", "a: [", "gpu: x"])
def test_damaged_description(tmp_path: Path, content: str) -> None:
    engine = tmp_path / "float16.plan"
    description_path(engine).write_text(content)
    with pytest.raises(UserError, match="float16.plan.yaml is damaged"):
        EngineDescription.read(engine)


def test_missing_description(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must lie beside the engine and is missing"):
        EngineDescription.read(tmp_path / "float16.plan")


def test_engine_of_a_run(stand_in_engine: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(stand_in_engine.parents[1], tmp_path / "run"))
    plan = run / "core" / "float32.plan"
    assert find_engine(run / "model.onnx") == plan
    # The run was exported again, the engine was exchanged, its description is gone.
    core, built = plan.with_suffix(".onnx"), plan.read_bytes()
    core.write_bytes(b"another network")
    assert find_engine(run / "model.onnx") is None
    core.write_bytes(built)
    plan.write_bytes(b"another engine")
    assert find_engine(run / "model.onnx") is None
    plan.write_bytes(built)
    description_path(plan).unlink()
    assert find_engine(run / "model.onnx") is None
    assert find_engine(tmp_path / "nothing" / "model.onnx") is None


@pytest.mark.parametrize(
    ("version", "gpu"),
    [("11.0.0.114", DESCRIPTION.gpu), (DESCRIPTION.tensorrt_version, "NVIDIA L4")],
)
def test_engine_fits_one_version_and_one_gpu(version: str, gpu: str) -> None:
    check_fit(DESCRIPTION, DESCRIPTION.tensorrt_version, DESCRIPTION.gpu)
    with pytest.raises(UserError, match="was built for TensorRT 10.12.0.36 on NVIDIA H100"):
        check_fit(DESCRIPTION, version, gpu)


# The real parser and compiler


@pytest.fixture(scope="module")
def rtx_path() -> Path:
    """A folder with TensorRT for RTX."""
    if not (RTX_FOLDER / "tensorrt_rtx").is_dir():
        partial = RTX_FOLDER.with_name(RTX_FOLDER.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        installed = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", partial, RTX_PACKAGE],
            capture_output=True,
            text=True,
            timeout=INSTALLATION_LIMIT_S,
        )
        assert installed.returncode == 0, installed.stderr
        partial.rename(RTX_FOLDER)
    return RTX_FOLDER


@NEEDS_RTX_WHEELS
@pytest.mark.timeout(INSTALLATION_LIMIT_S + 900)
def test_tensorrt_parses_and_compiles(tiny_run: TinyRun, rtx_path: Path, tmp_path: Path) -> None:
    """Both networks; and neither the model with strings nor a table of bytes."""
    bytes_inside = onnx.load(tiny_run.core)
    table = next(item for item in bytes_inside.graph.initializer if item.data_type == 6)
    narrow = onnx.numpy_helper.to_array(table).astype(np.int16)
    table.CopyFrom(onnx.numpy_helper.from_array(narrow, table.name))
    onnx.save_model(bytes_inside, tmp_path / "narrow.onnx")
    completed = subprocess.run(
        [
            sys.executable,
            "-c",
            BUILDING_PROGRAM,
            tmp_path / "outcomes.json",
            tiny_run.core,
            tiny_run.float16_core,
            tiny_run.float32_model,
            tmp_path / "narrow.onnx",
        ],
        env={**os.environ, "PYTHONPATH": f"{rtx_path}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert completed.returncode == 0, completed.stderr
    outcomes = json.loads((tmp_path / "outcomes.json").read_text())
    float32, float16, strings, narrow = outcomes
    assert float32 > float16 > 100_000
    for refused in (strings, narrow):
        assert refused.startswith("TensorRT cannot read ")


# On a GPU


@NEEDS_GPU
@pytest.mark.timeout(1800)
def test_engine_on_a_gpu(tiny_run: TinyRun, sample: Path, tmp_path: Path) -> None:
    core = Path(shutil.copyfile(tiny_run.float16_core, tmp_path / "core.onnx"))
    completed = run_g2p(
        "export-tensorrt", "--core", core, f"tensorrt.sample={sample}", cwd=tmp_path
    )
    assert completed.returncode == 0, completed.stderr.decode()
    assert b"parity with ONNX Runtime" in completed.stderr
    words = sample.read_text().split()
    expected = Pronouncer(tiny_run.float16_model).pronounce(words)
    answers = EnginePronouncer(tmp_path / "core.plan").pronounce(words)
    same = [phones == answer.phones for (phones, _), answer in zip(answers, expected)]
    assert np.mean(same) >= 0.99
