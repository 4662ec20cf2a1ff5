"""Writes what was measured as a table and a chart."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.measuring import Growth

TABLE_NAME = "results.md"
CHART_NAME = "benchmark.png"
FIGURE_SIZE = (11.0, 8.0)
DOTS_PER_INCH = 110

#: How a run's log begins a line, and what it says after an epoch.
LOG_TIME = "%Y-%m-%d %H:%M:%S,%f"
EPOCH = re.compile(r"(?P<time>\S+ \S+) INFO epoch \d+ of .*dev WER (?P<wer>[\d.]+)")

#: Seconds of training and the WER of the dev part then, in percent.
Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Row:
    """What was measured of a system: medians over the rounds.

    Attributes:
        system: its name.
        trained_on: what its model was trained on.
        words: words in the call of a round.
        calls: words of a round in a call of their own.
        one_core: words per second in one call on one core.
        ratio: the median of the ratios to the baseline's ``one_core``, round by round.
        all_cores: words per second on all cores.
        streaming: words per second, a word a call, on one core.
        p50_ms: median time of such a call.
        p99_ms: 99th percentile of it.
        start_s: seconds from the start of a process to its first answer.
        memory_mb: the most resident memory of all rounds, on one core.
        model_mb: size of the model.
        installation_mb: size of everything it needs, besides Python.
    """

    system: str
    trained_on: str
    words: int
    calls: int
    one_core: float
    ratio: float
    all_cores: float
    streaming: float
    p50_ms: float
    p99_ms: float
    start_s: float
    memory_mb: float
    model_mb: float
    installation_mb: float


@dataclass(frozen=True)
class Accuracy:
    """Error rates of a system on a part, in percent."""

    system: str
    part: str
    wer: float
    per: float
    wer_without_stress: float
    per_without_stress: float


@dataclass(frozen=True)
class Report:
    """All that was measured.

    Attributes:
        facts: machine, versions and conditions, a sentence each.
        rows: speed and size, a system each.
        accuracies: error rates of the systems that learnt from the same training part.
        growth: what longer and longer lists take, by system.
        curves: WER against seconds of training, by system.
    """

    facts: Sequence[str]
    rows: Sequence[Row]
    accuracies: Sequence[Accuracy]
    growth: Mapping[str, Sequence[Growth]]
    curves: Mapping[str, Curve]


def learning_curve(log: str) -> Curve:
    """Return the seconds since a run's log began, and the dev WER, of each of its epochs."""
    started = datetime.strptime(" ".join(log.split(maxsplit=2)[:2]), LOG_TIME)
    return [
        (
            (datetime.strptime(epoch["time"], LOG_TIME) - started).total_seconds(),
            float(epoch["wer"]),
        )
        for epoch in EPOCH.finditer(log)
    ]


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write the table and the chart; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    table, chart = folder / TABLE_NAME, folder / CHART_NAME
    table.write_text(format_report(report), encoding="utf-8")
    draw_report(report).savefig(chart, dpi=DOTS_PER_INCH)
    return [table, chart]


def format_report(report: Report) -> str:
    """Return the report as Markdown."""
    speed = [
        (
            row.system,
            f"{row.one_core:,.0f}",
            f"{row.ratio:.2f}",
            f"{row.all_cores:,.0f}",
            f"{row.streaming:,.0f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
            f"{row.start_s:.2f}",
            f"{row.memory_mb:,.0f}",
            f"{row.model_mb:,.1f}",
            f"{row.installation_mb:,.0f}",
            f"{row.words:,} / {row.calls:,}",
        )
        for row in report.rows
    ]
    accuracy = [
        (
            entry.system,
            entry.part,
            f"{entry.wer:.2f}",
            f"{entry.per:.2f}",
            f"{entry.wer_without_stress:.2f}",
            f"{entry.per_without_stress:.2f}",
        )
        for entry in report.accuracies
    ]
    growth = [
        (name, f"{step.words:,}", f"{step.rate:,.0f}", f"{step.memory_mb:,.0f}")
        for name, steps in report.growth.items()
        for step in steps
    ]
    curves = [
        (name, f"{seconds:,.0f}", f"{wer:.2f}")
        for name, curve in report.curves.items()
        for seconds, wer in curve
    ]
    parts = [
        "# Beside what people use now",
        "Written by `make benchmark`. " + "; ".join(report.facts) + ".",
        "Speed and size. One word a call is on one core. The ratio is to Phonetisaurus on one "
        "core, round by round. Phonetisaurus loads its model for every call: this is taken off "
        "its words/s, and is in its columns of one word a call.",
        format_table(
            (
                "system",
                "words/s, one core",
                "ratio",
                "words/s, all cores",
                "words/s, one word a call",
                "p50, ms",
                "p99, ms",
                "first answer, s",
                "memory, MB",
                "model, MB",
                "installation, MB",
                "words / calls of a round",
            ),
            speed,
        ),
        "What each was trained on:",
        format_table(
            ("system", "trained on"), [(row.system, row.trained_on) for row in report.rows], 2
        ),
        "Errors, where the same training part was learnt from. Without stress: the digits taken "
        "off answers and references.",
        format_table(
            ("system", "part", "WER %", "PER %", "WER %, no stress", "PER %, no stress"),
            accuracy,
            2,
        ),
        "Longer and longer lists of distinct words, on one core.",
        format_table(("system", "words", "words/s", "memory, MB"), growth),
        "Training: seconds, and the WER of the dev part then.",
        format_table(("system", "seconds", "WER %"), curves),
    ]
    return "\n\n".join(parts) + "\n"


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1
) -> str:
    """Return a Markdown table, aligned as prettier aligns it.

    Args:
        header: the names of the columns.
        rows: their values.
        text_columns: how many of the first columns are flush left; the others are numbers.
    """
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * width if i < text_columns else "-" * (width - 1) + ":"
        for i, width in enumerate(widths)
    ]
    return "\n".join(map(line, (header, rule, *rows)))


def draw_report(report: Report) -> Figure:
    """Draw speed, latency, training and growth."""
    figure = Figure(figsize=FIGURE_SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    (speed, latency), (training, growth) = figure.subplots(2, 2)
    names = [row.system for row in report.rows]
    _bars(
        speed,
        names,
        {
            "one core": [row.one_core for row in report.rows],
            "all cores": [row.all_cores for row in report.rows],
        },
        "words per second in one call",
    )
    _bars(
        latency,
        names,
        {
            "median": [row.p50_ms for row in report.rows],
            "99th percentile": [row.p99_ms for row in report.rows],
        },
        "one word in a call, ms",
    )
    for name, curve in report.curves.items():
        training.plot(*zip(*curve, strict=True), marker="o", markersize=4, label=name)
    training.set_xscale("log")
    training.set_xlabel("seconds of training")
    training.set_ylabel("WER of the dev part, %")
    training.legend(fontsize=7)
    for name, steps in report.growth.items():
        if steps:
            growth.plot(
                [step.words for step in steps],
                [step.memory_mb for step in steps],
                marker="o",
                markersize=4,
                label=name,
            )
    growth.set_xscale("log")
    growth.set_xlabel("words")
    growth.set_ylabel("most resident memory, MB")
    growth.set_ylim(bottom=0)
    growth.legend(fontsize=7)
    figure.suptitle("Beside what people use now")
    figure.supxlabel("; ".join(report.facts), fontsize=6, color="0.4")
    return figure


def _bars(
    axes: Axes, names: Sequence[str], values: Mapping[str, Sequence[float]], label: str
) -> None:
    """Draw a group of bars for each name, on a logarithmic axis, the first name on top."""
    height = 0.8 / len(values)
    for i, (series, numbers) in enumerate(values.items()):
        places = [place + i * height for place in range(len(names))]
        bars = axes.barh(places, numbers, height, label=series)
        axes.bar_label(
            bars,
            [f"{number:,.0f}" if number >= 100 else f"{number:.2g}" for number in numbers],
            fontsize=6,
            padding=2,
        )
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(names))], names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel(label)
    axes.legend(fontsize=7)
