"""The walls between the rooms of the package, by imports, and what a start must not load."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from grapheme_to_phoneme.constants import PACKAGE_NAME
from grapheme_to_phoneme.packaging.triton_repository import SERVED_CODE
from tests.conftest import G2P, REPOSITORY, TinyRun, g2p_environment

PACKAGE = REPOSITORY / PACKAGE_NAME

# What inference may share with the other rooms.
SHARED_VOCABULARY = {"constants", "errors", "normalization", "notation"}

HEAVY = {"torch", "lightning", "mlflow", "dvc", "matplotlib", "onnx", "ray"}
NETWORK_LIBRARIES = HEAVY | {"onnxruntime", "numpy"}

# Runs the command in a fresh interpreter and tells what it had loaded when it ended.
LISTING_PROGRAM = """
import json, sys
sys.argv = ["g2p", *json.loads(sys.argv[1])]
from grapheme_to_phoneme.commands import main
try:
    main()
except SystemExit as ending:
    status = ending.code
else:
    status = 0
sys.stdout.flush()
print("\\n" + json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def imported_modules(source: str, package: str) -> Iterator[str]:
    """Yield every module that a source file imports, wherever in it, by its absolute name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join((*(parents if node.level else ()), *filter(None, (node.module,))))
            # What is imported from a package may be a module of it.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_of(room: str = "") -> Iterator[tuple[Path, list[str]]]:
    """Yield every file of a room, or of the whole package, with the modules it imports."""
    for path in sorted((PACKAGE / room).rglob("*.py")):
        package = ".".join(path.relative_to(REPOSITORY).parent.parts)
        yield path, list(imported_modules(path.read_text(encoding="utf-8"), package))


def modules_after(*arguments: str, cwd: Path = REPOSITORY) -> tuple[int, set[str]]:
    """Run ``g2p`` and return its exit status and the top-level modules that were loaded."""
    completed = subprocess.run(
        [sys.executable, "-c", LISTING_PROGRAM, json.dumps(arguments)],
        cwd=cwd,
        env=g2p_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    status, modules = json.loads(completed.stdout.splitlines()[-1])
    return status, set(modules)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn", ["torch.nn"]),
        ("def load():\n    from torch import nn", ["torch.nn"]),
        ("from . import word_lists", ["one.two.word_lists"]),
        ("from ..lexicon import data", ["one.lexicon.data"]),
        ("from .pronouncer import Pronouncer", ["one.two.pronouncer.Pronouncer"]),
    ],
)
def test_imports_are_found(source: str, expected: list[str]) -> None:
    assert list(imported_modules(source, "one.two")) == expected


def test_inference_stands_alone() -> None:
    for path, modules in imports_of("inference"):
        for module in modules:
            top, _, rest = module.partition(".")
            if top == PACKAGE_NAME:
                assert rest.partition(".")[0] in SHARED_VOCABULARY | {"inference"}, path
            else:
                assert top in sys.stdlib_module_names | {"numpy", "onnxruntime"}, path


def test_shared_vocabulary_needs_nothing_but_itself() -> None:
    for name in SHARED_VOCABULARY:
        source = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
        for module in imported_modules(source, PACKAGE_NAME):
            top, _, rest = module.partition(".")
            assert top in sys.stdlib_module_names or rest.partition(".")[0] in SHARED_VOCABULARY


def test_lexicon_knows_no_network() -> None:
    above = ("evaluation", "training", "packaging", "workflows")
    rooms = {f"{PACKAGE_NAME}.{room}" for room in above}
    for path, modules in imports_of("lexicon"):
        for module in modules:
            assert module.partition(".")[0] not in {
                "torch",
                "lightning",
                "pytorch_lightning",
            }, path
            assert not any(f"{module}.".startswith(f"{room}.") for room in rooms), path


def test_serving_needs_no_training() -> None:
    others = ("evaluation", "lexicon", "training", "workflows")
    rooms = {f"{PACKAGE_NAME}.{room}" for room in others}
    for path, modules in imports_of("serving"):
        for module in modules:
            assert module.partition(".")[0] not in {"torch", "lightning"}, path
            assert not any(f"{module}.".startswith(f"{room}.") for room in rooms), path


def test_what_triton_runs_stands_alone() -> None:
    served = {PACKAGE / name for pattern in SERVED_CODE for name in PACKAGE.glob(pattern)}
    own = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in served}
    for path in served:
        package = ".".join(path.relative_to(REPOSITORY).parent.parts)
        for module in imported_modules(path.read_text(encoding="utf-8"), package):
            top = module.partition(".")[0]
            if top == PACKAGE_NAME:
                assert own & {module, module.rpartition(".")[0]}, path
            else:
                known = {"numpy", "onnxruntime", "triton_python_backend_utils"}
                assert top in sys.stdlib_module_names | known, path


def test_nothing_imports_the_commands() -> None:
    files = list(imports_of())
    assert len(files) > 20
    for path, modules in files:
        assert not any(
            f"{module}.".startswith(f"{PACKAGE_NAME}.commands.") for module in modules
        ), path


def test_import_of_the_package_loads_nothing_heavy() -> None:
    program = f"import json, sys, {PACKAGE_NAME}; print(json.dumps(sorted(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    modules = set(json.loads(shown.stdout))
    assert PACKAGE_NAME in modules
    assert not modules & NETWORK_LIBRARIES


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("train", "--help"), ("infer", "--help")]
)
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    status, modules = modules_after(*arguments)
    assert status == 0
    assert "fire" in modules and not modules & NETWORK_LIBRARIES


def test_training_reads_its_lexicon_before_it_loads_anything_heavy(tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text("ab\ta b\nba\t\n")
    status, modules = modules_after(
        "train", "data=lexicon", "data.train_path=bad.tsv", cwd=tmp_path
    )
    assert status == 2
    assert "omegaconf" in modules and not modules & {"torch", "lightning"}


def test_installed_command_loads_what_the_package_does() -> None:
    completed = subprocess.run(
        [sys.executable, "-X", "importtime", G2P, "--help"],
        env=g2p_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in completed.stderr.splitlines() if line.startswith("import time:")]
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert PACKAGE_NAME in modules and not modules & NETWORK_LIBRARIES


def test_prediction_loads_no_torch(tiny_run: TinyRun) -> None:
    status, modules = modules_after("infer", "--model", str(tiny_run.model), "stone")
    assert status == 0
    assert "onnxruntime" in modules and not modules & HEAVY


def test_evaluation_loads_no_torch(tiny_run: TinyRun, tmp_path: Path) -> None:
    lexicon = tmp_path / "some.tsv"
    lexicon.write_text("stone\tS T OW N\n")
    status, modules = modules_after(
        "evaluate", "--model", str(tiny_run.model), "--lexicon", str(lexicon)
    )
    assert status == 0
    assert "onnxruntime" in modules and not modules & HEAVY


@pytest.mark.parametrize("command", ["preprocess", "config"])
def test_commands_without_a_network_load_none(command: str, tmp_path: Path) -> None:
    # The file is missing on purpose: the command has loaded what it needs when it says so.
    status, modules = modules_after(command, "data.raw_path=missing", cwd=tmp_path)
    assert status in (0, 2)
    assert not modules & {"torch", "lightning", "mlflow", "onnxruntime"}
