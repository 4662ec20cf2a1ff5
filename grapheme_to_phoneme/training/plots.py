"""Charts of a run, as PNG files."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from grapheme_to_phoneme.training.metrics import NO_PHONE, Score, measure_reliability
from grapheme_to_phoneme.training.tracking import LOGS_DIRECTORY

Series = tuple[list[float], list[float]]

CHARTS_DIRECTORY = "charts"
FIGURE_SIZE = (7.0, 4.2)
DOTS_PER_INCH = 110
#: Confused pairs shown; beyond, the chart becomes unreadable.
MOST_CONFUSIONS = 25
#: Words of this length and longer share a bar.
LONGEST_BAR = 18

#: Charts whose first values would flatten all the others.
LOGARITHMIC = ("loss",)

#: File name, title, vertical axis, and the metrics with their labels.
CURVES: Sequence[tuple[str, str, str, dict[str, str]]] = (
    (
        "loss",
        "Loss",
        "cross-entropy, nats per letter",
        {"train/loss": "training", "validation/loss": "dev"},
    ),
    ("wer", "Word error rate on dev", "WER, %", {"validation/wer": "greedy search"}),
    ("per", "Phoneme error rate on dev", "PER, %", {"validation/per": "greedy search"}),
    ("learning_rate", "Learning rate", "learning rate", {"learning_rate/pg1": "AdamW"}),
    (
        "throughput",
        "Training speed",
        "words per second",
        {"train/device/samples_per_sec": "training"},
    ),
)


def read_metrics(run_directory: Path) -> dict[str, Series]:
    """Read a run's CSV logs: steps and values of every metric.

    Where a run was resumed, the later part replaces what the earlier one logged after the
    step from which it went on.
    """
    series: dict[str, dict[float, float]] = defaultdict(dict)
    parts = sorted(
        (run_directory / LOGS_DIRECTORY).glob("part-*/metrics.csv"),
        key=lambda path: int(path.parent.name.removeprefix("part-")),
    )
    for path in parts:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            continue
        first = min(float(row["step"]) for row in rows)
        for points in series.values():
            for step in [step for step in points if step >= first]:
                del points[step]
        for row in rows:
            for name, value in row.items():
                if value and name not in ("step", "epoch"):
                    series[name][float(row["step"])] = float(value)
    return {
        name: (sorted(points), [points[step] for step in sorted(points)])
        for name, points in series.items()
        if points
    }


def draw_curves(metrics: dict[str, Series], directory: Path, caption: str) -> list[Path]:
    """Draw every chart of :data:`CURVES` that has data; return the files."""
    paths = []
    for filename, title, axis_label, names in CURVES:
        present = {name: label for name, label in names.items() if name in metrics}
        if not present:
            continue
        figure = Figure(figsize=FIGURE_SIZE)
        axes = figure.subplots()
        for name, label in present.items():
            steps, values = metrics[name]
            marker = "o" if len(steps) < 50 else None
            axes.plot(steps, values, label=label, marker=marker, markersize=3)
        if filename in LOGARITHMIC:
            axes.set_yscale("log")
        axes.set_xlabel("training step")
        axes.set_ylabel(axis_label)
        axes.legend()
        paths.append(_save(figure, title, caption, directory / f"{filename}.png"))
    return paths


def draw_errors(score: Score, directory: Path, caption: str) -> list[Path]:
    """Draw the error by word length, the confused phones and the reliability; return the files."""
    return [
        _draw_reliability(score, directory / "reliability.png", caption),
        _draw_lengths(score, directory / "error_by_length.png", caption),
        _draw_confusions(score, directory / "confusions.png", caption),
    ]


def _draw_lengths(score: Score, path: Path, caption: str) -> Path:
    words: dict[int, int] = defaultdict(int)
    wrong: dict[int, int] = defaultdict(int)
    for length, count in score.words_by_length.items():
        words[min(length, LONGEST_BAR)] += count
        wrong[min(length, LONGEST_BAR)] += score.wrong_by_length[length]
    lengths = sorted(words)
    figure = Figure(figsize=FIGURE_SIZE)
    axes = figure.subplots()
    bars = axes.bar(lengths, [100 * wrong[length] / words[length] for length in lengths])
    axes.bar_label(bars, [str(words[length]) for length in lengths], fontsize=7)
    axes.set_xticks(
        lengths, [f"{length}+" if length == LONGEST_BAR else str(length) for length in lengths]
    )
    axes.set_xlabel("letters in the word (above the bars: number of words)")
    axes.set_ylabel("WER, %")
    return _save(figure, "Error by word length", caption, path)


def _draw_confusions(score: Score, path: Path, caption: str) -> Path:
    pairs = score.confusions.most_common(MOST_CONFUSIONS)
    expected = sorted({pair[0] for pair, _ in pairs} - {NO_PHONE})
    said = sorted({pair[1] for pair, _ in pairs} - {NO_PHONE})
    rows, columns = [*expected, NO_PHONE], [*said, NO_PHONE]
    counts = np.zeros((len(rows), len(columns)))
    for (reference, prediction), count in pairs:
        counts[rows.index(reference), columns.index(prediction)] = count
    figure = Figure(figsize=(FIGURE_SIZE[0], FIGURE_SIZE[0] * 0.85))
    axes = figure.subplots()
    image = axes.imshow(counts, cmap="Blues")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            dark = count > counts.max() / 2
            axes.text(
                j, i, int(count), ha="center", va="center", fontsize=6, color="w" if dark else "k"
            )
    axes.set_xlabel(f"said ({NO_PHONE}: left out)")
    axes.set_ylabel(f"expected ({NO_PHONE}: nothing)")
    figure.colorbar(image, label="times")
    return _save(figure, f"The {MOST_CONFUSIONS} most frequent confusions", caption, path)


def _draw_reliability(score: Score, path: Path, caption: str) -> Path:
    reliability = measure_reliability(score.confidences)
    figure = Figure(figsize=FIGURE_SIZE)
    axes, below = figure.subplots(2, height_ratios=(3, 1), sharex=True)
    axes.plot((0, 1), (0, 1), color="0.7", linestyle="--", label="as often as it says")
    label = f"ECE {reliability.ece:.1f} %"
    axes.plot(reliability.probabilities, reliability.accuracies, marker="o", label=label)
    axes.set_ylabel("share of right answers")
    axes.legend()
    below.bar(reliability.probabilities, reliability.counts, width=0.03)
    below.set_ylabel("words")
    below.set_xlabel("probability of the answer")
    return _save(figure, "How often an answer of some probability is right", caption, path)


def _save(figure: Figure, title: str, caption: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    figure.text(0.01, 0.005, caption, fontsize=6, color="0.4")
    figure.set_layout_engine("tight", rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return path
