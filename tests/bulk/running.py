"""Runs of ``g2p infer`` that a test stops or disturbs on their way."""

import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import TinyRun

#: Blocks so small that a short list has many, and a checkpoint after each.
SMALL_BLOCKS = ("infer.words_per_batch=40", "infer.seconds_between_checkpoints=0")


def infer_arguments(run: TinyRun, source: Path, target: Path, *more: str) -> list[str | Path]:
    overrides = " ".join(SMALL_BLOCKS)
    files = ("--input", source, "--output", target)
    return [
        "infer",
        "--model",
        run.model,
        *files,
        "--n-best",
        "2",
        "--overrides",
        overrides,
        *more,
    ]


def wait_for(is_so: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def children_of(process: int) -> set[int]:
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return {int(child) for path in lists for child in path.read_text().split()}
