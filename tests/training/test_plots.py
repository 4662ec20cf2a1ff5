"""Charts are images that show the data they were given."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from grapheme_to_phoneme.training.metrics import Score
from grapheme_to_phoneme.training.plots import CURVES, draw_curves, draw_errors, read_metrics
from tests.conftest import TinyRun

STEPS = [10.0, 20.0, 30.0]


def ink_of(path: Path) -> np.ndarray:
    """Return where a PNG image is not white, (height, width)."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = imread(path)
    assert pixels.shape[0] > 300 and pixels.shape[1] > 500
    return pixels[..., :3].min(axis=2) < 0.9


def write_part(run: Path, number: int, *lines: str) -> None:
    path = run / "logs" / f"part-{number}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")


def test_every_chart_is_drawn(tmp_path: Path) -> None:
    names = [name for _, _, _, series in CURVES for name in series]
    metrics = {name: (STEPS, [3.0, 2.0, 1.5]) for name in names}
    paths = draw_curves(metrics, tmp_path / "charts", "caption")
    assert {path.stem for path in paths} == {"loss", "wer", "per", "learning_rate", "throughput"}
    for path in paths:
        assert ink_of(path).mean() > 0.01


def test_other_data_gives_another_chart(tmp_path: Path) -> None:
    charts = []
    for number, values in enumerate(([3.0, 2.0, 1.0], [1.0, 2.0, 3.0])):
        folder = tmp_path / str(number)
        (path,) = draw_curves({"validation/wer": (STEPS, values)}, folder, "caption")
        charts.append(ink_of(path))
    assert charts[0].shape == charts[1].shape
    assert (charts[0] != charts[1]).any()


def test_metrics_that_were_not_logged_have_no_chart(tmp_path: Path) -> None:
    assert draw_curves({"something/else": (STEPS, STEPS)}, tmp_path, "caption") == []
    assert list(tmp_path.iterdir()) == []


def test_errors_are_drawn(tmp_path: Path) -> None:
    score = Score()
    for length in range(1, 31):
        score.add("w" * length, ("K", "AH"), [("K", "AE", "T")])
        score.add("w" * length, ("K",), [("K",)])
    paths = draw_errors(score, tmp_path, "caption")
    names = ["reliability.png", "error_by_length.png", "confusions.png"]
    assert [path.name for path in paths] == names
    assert ink_of(paths[0]).mean() > 0.02
    # Bars of half the height fill much more of the picture than axes and text do.
    assert ink_of(paths[1]).mean() > 0.15
    assert ink_of(paths[2]).mean() > 0.02


@pytest.mark.parametrize("words", [0, 1])
def test_faultless_score_can_be_drawn(tmp_path: Path, words: int) -> None:
    score = Score()
    for _ in range(words):
        score.add("word", ("K",), [("K",)])
    assert all(ink_of(path).any() for path in draw_errors(score, tmp_path, "caption"))


def test_metrics_are_read(tmp_path: Path) -> None:
    write_part(
        tmp_path, 1, "epoch,loss,step,wer", "0,2.5,9,", "0,,9,50", "1,1.5,19,", "1,,19,40.5"
    )
    assert read_metrics(tmp_path) == {
        "loss": ([9.0, 19.0], [2.5, 1.5]),
        "wer": ([9.0, 19.0], [50.0, 40.5]),
    }


def test_resumed_part_replaces_what_it_repeats(tmp_path: Path) -> None:
    write_part(tmp_path, 1, "loss,step", "3,9", "2,19", "1,29")
    write_part(tmp_path, 2, "loss,step,wer", "2.1,19,", "1.2,29,40")
    # Later than the ninth: parts are ordered by their number.
    write_part(tmp_path, 10, "loss,step", "1.3,29", "0.5,39")
    assert read_metrics(tmp_path) == {"loss": ([9.0, 19.0, 29.0, 39.0], [3.0, 2.1, 1.3, 0.5])}


def test_part_that_was_killed_before_its_first_row(tmp_path: Path) -> None:
    write_part(tmp_path, 1, "loss,step", "3,9")
    write_part(tmp_path, 2, "loss,step")
    assert read_metrics(tmp_path) == {"loss": ([9.0], [3.0])}
    assert read_metrics(tmp_path / "no_run") == {}


def test_charts_of_a_real_run(tiny_run: TinyRun, tmp_path: Path) -> None:
    paths = draw_curves(read_metrics(tiny_run.directory), tmp_path, "caption")
    assert {path.stem for path in paths} == {"loss", "wer", "per", "learning_rate", "throughput"}
