"""The measuring and reporting parts of the benchmark; the systems themselves are not installed."""

import io
import json
import sys
from itertools import islice
from pathlib import Path

import pytest

from benchmarks import measuring
from benchmarks.adapter import LOADERS, serve
from benchmarks.comparison import without_stress
from benchmarks.environments import REQUIREMENTS, nltk_lexicon
from benchmarks.measuring import Growth, Launch, Process, batch_rate, blend
from benchmarks.report import (
    Accuracy,
    Report,
    Row,
    format_report,
    format_table,
    learning_curve,
    write_report,
)

LOG = """\
2026-11-25 02:50:19,955 INFO aligned 112,032 of 112,074 training entries
2026-11-25 02:52:27,455 INFO epoch 1 of 3: dev WER 33.804, dev PER 8.7, 0:03:51 left
2026-11-25 02:54:26,955 INFO epoch 2 of 3: dev WER 31.443, dev PER 7.9, 0:01:57 left
2026-11-25 02:57:48,801 INFO dev part, by the exported model:
"""


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Start a system that spells words out, five milliseconds a word, through the real adapter."""
    package = tmp_path / "grapheme_to_phoneme.py"
    package.write_text("""
import time
from types import SimpleNamespace


class Pronouncer:
    def __init__(self, model):
        print("a system that prints")

    def pronounce(self, words):
        time.sleep(0.005 * len(words))
        return [SimpleNamespace(phones=tuple(word)) for word in words]
""")
    return Launch(Path(sys.executable), ("ours", "nothing.onnx"), (("PYTHONPATH", str(tmp_path)),))


def test_the_protocol_times_each_call() -> None:
    answers = io.StringIO()
    serve(lambda words: [word.upper() for word in words], ['[["a", "b"], ["c"]]\n'], answers)
    answer = json.loads(answers.getvalue())
    assert answer["answers"] == ["A", "B", "C"]
    assert len(answer["seconds"]) == 2 and all(second >= 0 for second in answer["seconds"])


def test_a_process_answers_and_ends(launch: Launch) -> None:
    with Process(launch, [0]) as process:
        answers, seconds = process.ask([["ab", "c"], ["d"]])
        assert answers == ["a b", "c", "d"]
        assert seconds[0] >= 0.01 and seconds[1] >= 0.005
        assert 1 < process.peak_mb < 1000
        assert process.age > sum(seconds)
    assert process._process.poll() is not None


def test_a_process_that_dies_is_reported(launch: Launch) -> None:
    with Process(Launch(launch.python, ("nobody",)), [0]) as process:
        with pytest.raises(SystemExit, match="gave no answer"):
            process.ask([["word"]])


def test_rates_are_of_the_calls_alone(launch: Launch) -> None:
    words = ["word"] * 100
    with Process(launch, [0]) as first, Process(launch, [0]) as second:
        alone = batch_rate([first], words)
        together = batch_rate([first, second], words)
        # Two hundred a second, give or take what a busy machine adds to a call.
        assert 50 < alone < 400
        # Waiting takes no core, so that two are faster on any machine.
        assert alone < together < 800
        times = measuring.latencies(first, words[:5])
        assert len(times) == 5 and min(times) >= 0.005
        in_a_call, alone = measuring.pace_of(first, words)
        assert 0.002 < in_a_call < 0.1 and 0.005 <= alone < 1.0


def test_growth_counts_all_words_and_ends_before_it_takes_too_long(launch: Launch) -> None:
    known = [f"{first}{second}" for first in "abcdefghij" for second in ("en", "ing", "er", "s")]
    known += [f"{word}{end}" for word in known for end in ("able", "ness", "ward", "like")]
    steps = list(measuring.measure_growth(launch, 0, known, 100_000, 30.0))
    assert [step.words for step in steps] == [1000]
    assert 20 < steps[0].rate <= 200
    assert steps[0].memory_mb > 1
    assert list(measuring.measure_growth(launch, 0, known, 100_000, 0.1)) == []


def test_blended_words_are_distinct_and_the_same_each_time() -> None:
    known = ["banana", "cherry", "elderberry", "fig", "grape", "melon"]
    words = list(islice(blend(known, seed=1), 20))
    assert len(set(words)) == 20
    assert words == list(islice(blend(known, seed=1), 20))
    assert set("".join(words)) <= set("".join(known))


def test_ratios_are_taken_pair_by_pair() -> None:
    # The machine was slow in the second round, for both.
    assert measuring.median_ratio([20.0, 10.0, 22.0], [10.0, 5.0, 10.0]) == 2.0
    with pytest.raises(ValueError):
        measuring.median_ratio([1.0], [1.0, 2.0])


def test_sizes_leave_compiled_copies_out(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "module.py").write_bytes(b"x" * 500_000)
    (tmp_path / "__pycache__" / "module.pyc").write_bytes(b"x" * 500_000)
    assert measuring.size_mb(tmp_path) == measuring.size_mb(tmp_path / "module.py") == 0.5


def test_a_log_gives_a_learning_curve() -> None:
    assert learning_curve(LOG) == [(127.5, 33.804), (247.0, 31.443)]


def test_cmudict_in_the_form_of_nltk(tmp_path: Path) -> None:
    raw = tmp_path / "cmudict.dict"
    raw.write_text("read R EH1 D # the past\nread(2) R IY1 D\n")
    assert nltk_lexicon(raw) == "READ 1 R EH1 D\nREAD 2 R IY1 D\n"


def test_stress_is_taken_off() -> None:
    assert without_stress(["T", "AH0", "M", "EY1"]) == ("T", "AH", "M", "EY")


def test_every_system_has_pinned_requirements() -> None:
    files = {path.stem: path for path in REQUIREMENTS.glob("*.txt")}
    assert set(files) == set(LOADERS) - {"ours"}
    for path in files.values():
        assert all("==" in line for line in path.read_text().splitlines())


def test_tables_are_aligned() -> None:
    table = format_table(("system", "words/s"), [("ours", "10,000"), ("a longer name", "5")])
    assert table.splitlines() == [
        "| system        | words/s |",
        "| ------------- | ------: |",
        "| ours          |  10,000 |",
        "| a longer name |       5 |",
    ]


def test_a_report_has_every_number_and_a_chart(tmp_path: Path) -> None:
    row = Row(
        "ours", "this", 100, 20, 1234.5, 2.5, 2000.0, 800.0, 1.25, 2.5, 0.5, 90.0, 11.8, 75.0
    )
    report = Report(
        facts=["2 cores"],
        rows=[row],
        accuracies=[Accuracy("ours", "dev", 30.81, 7.79, 24.0, 6.0)],
        growth={"ours": [Growth(1000, 1000.0, 90.0), Growth(10_000, 1100.0, 91.0)]},
        curves={"ours": [(10.0, 50.0), (20.0, 40.0)]},
    )
    table, chart = write_report(report, tmp_path)
    text = table.read_text(encoding="utf-8")
    assert text == format_report(report)
    for number in ("1,234", "2.50", "1.25", "30.81", "1,100", "40.00", "11.8"):
        assert number in text
    assert chart.read_bytes().startswith(b"\x89PNG")
