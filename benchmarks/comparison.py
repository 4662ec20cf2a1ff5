"""Measures models of this project beside what people use now: `make benchmark`.

All systems answer in one run, in turn, so that what else the machine does meets all of them; each
runs in an environment of its own, behind the same protocol.
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import fire
import numpy as np

from benchmarks import environments, measuring
from benchmarks.measuring import Growth, Launch, Process
from benchmarks.report import Accuracy, Report, Row, learning_curve, write_report
from grapheme_to_phoneme.inference.pronouncer import available_cores
from grapheme_to_phoneme.lexicon.entries import group_by_spelling
from grapheme_to_phoneme.lexicon.reading import read_lexicon
from grapheme_to_phoneme.training.metrics import Score

BASELINE = "Phonetisaurus, 8-gram"

#: A word to start with: short, and in none of the parts.
FIRST_WORD = "brillig"

#: Bounds of what is asked for in a round, however slow or fast a system is.
FEWEST_WORDS = 10
FEWEST_CALLS = 3
MOST_CALLS = 2000

PREPARED = environments.REPOSITORY / "data" / "prepared" / "cmudict-stress-keep"
RAW = environments.REPOSITORY / "data" / "raw" / "cmudict.dict"


@dataclass(frozen=True)
class System:
    """What is measured.

    Attributes:
        name: how the tables call it.
        trained_on: what its model was trained on.
        launch: how to start it.
        model: the files of the model.
        installation: folders and files that it needs to run, besides Python.
        is_threaded: whether one process uses several cores.
        is_comparable: whether it learnt from the same training part and nothing else.
    """

    name: str
    trained_on: str
    launch: Launch
    model: tuple[Path, ...]
    installation: tuple[Path, ...]
    is_threaded: bool = False
    is_comparable: bool = False


@dataclass
class Samples:
    """What was measured of a system, a value for each round.

    Attributes:
        words: words in the call of a round, as many as it can answer in the time.
        calls: words of a round in a call of their own, likewise.
        one_core: words per second in one call on one core.
        all_cores: likewise on all cores.
        streaming: words per second, a word a call, on one core.
        p50_ms: median time of such a call.
        p99_ms: 99th percentile of it.
        starts: seconds from the start of a process to its first answer.
        memory_mb: the most resident memory of all rounds, on one core.
    """

    words: int = 0
    calls: int = 0
    one_core: list[float] = field(default_factory=list)
    all_cores: list[float] = field(default_factory=list)
    streaming: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    memory_mb: float = 0.0


def compare(
    *models: str,
    rounds: int = 5,
    seconds: float = 3.0,
    growth_seconds: float = 60.0,
    most_words: int = 1_000_000,
    output: str = "plots/benchmark",
) -> None:
    """Measure models and their alternatives; write a table and a chart.

    Args:
        models: model files, each in the folder of its run.
        rounds: how often everything is measured, starts among it.
        seconds: how long one measurement may take; slow systems get fewer words.
        growth_seconds: how long a list of words may take, of lists that grow tenfold.
        most_words: the longest of these lists.
        output: the folder for table and chart.
    """
    missing = [model for model in models if not Path(model).is_file()]
    if missing or not models:
        raise SystemExit(f"no model at {missing or ['']}: make quickstart trains one")
    started = time.monotonic()

    def tell(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:5.0f} s  {line}\n")

    load_before = os.getloadavg()
    tell("making the environments and training Phonetisaurus")
    training, systems = prepare([Path(model) for model in models])
    words = list(group_by_spelling(read_lexicon(PREPARED / "test.tsv")))
    cores = list(range(available_cores()))
    samples = {system.name: Samples() for system in systems}
    with ExitStack() as stack:
        single: dict[str, Process] = {}
        several: dict[str, list[Process]] = {}
        for system in systems:
            tell(f"loading {system.name}")
            single[system.name] = stack.enter_context(Process(system.launch, cores[:1]))
            groups = [cores] if system.is_threaded else [[core] for core in cores]
            several[system.name] = [
                stack.enter_context(Process(system.launch, group)) for group in groups
            ]
            for process in several[system.name]:
                process.ask([[FIRST_WORD]])
            in_a_call, alone = measuring.pace_of(single[system.name], words)
            # Far more than the one word whose time is taken off, whatever a call costs.
            fewest = min(len(words), max(FEWEST_WORDS, int(2 * alone / in_a_call)))
            samples[system.name].words = within(seconds, in_a_call, fewest, len(words))
            samples[system.name].calls = within(seconds, alone, FEWEST_CALLS, MOST_CALLS)
        for i in range(rounds):
            tell(f"round {i + 1} of {rounds}")
            for system in systems:
                measure_round(
                    samples[system.name], single[system.name], several[system.name], words
                )
        for system in systems:
            samples[system.name].memory_mb = single[system.name].peak_mb
        tell("scoring what learnt from the same training part")
        accuracies = [
            score(system, part, single[system.name])
            for part in ("dev", "test")
            for system in systems
            if system.is_comparable
        ]
    tell("starting each of them anew")
    for _ in range(rounds):
        for system in systems:
            samples[system.name].starts.append(
                measuring.time_to_first_answer(system.launch, cores[0], FIRST_WORD)
            )
    growth: dict[str, list[Growth]] = {}
    for system in systems:
        tell(f"longer and longer lists: {system.name}")
        growth[system.name] = list(
            measuring.measure_growth(system.launch, cores[0], words, most_words, growth_seconds)
        )
    baseline_wer = next(
        accuracy.wer
        for accuracy in accuracies
        if accuracy.system == BASELINE and accuracy.part == "dev"
    )
    curves = {BASELINE: [(training.seconds, baseline_wer)]}
    for model in models:
        log = Path(model).with_name("train.log")
        if log.is_file():
            curves[name_of(Path(model))] = learning_curve(log.read_text(encoding="utf-8"))
    report = Report(
        facts=[
            machine(),
            f"load of the machine before and after: {load_before[0]:.1f} and "
            f"{os.getloadavg()[0]:.1f} processes",
            f"{rounds} rounds, medians",
            commit(),
        ],
        rows=[row(system, samples[system.name], samples[BASELINE]) for system in systems],
        accuracies=accuracies,
        growth=growth,
        curves=curves,
    )
    for path in write_report(report, Path(output)):
        tell(f"wrote {path}")


def prepare(models: Sequence[Path]) -> tuple[environments.Training, list[System]]:
    """Make all environments; return Phonetisaurus' training and the systems."""
    environments.DIRECTORY.mkdir(exist_ok=True)
    names = ("ours", "phonetisaurus", "espeak_ng", "g2p_en", "gruut", "hama")
    pythons = {name: environments.make_environment(name) for name in names}
    packages = {name: site_packages(python) for name, python in pythons.items()}
    training = environments.train_phonetisaurus(pythons["phonetisaurus"], PREPARED / "train.tsv")
    nltk_data = environments.make_nltk_data(RAW)
    espeak_data = packages["espeak_ng"] / "espeakng_loader" / "espeak-ng-data"
    gruut_model = packages["gruut"] / "gruut_lang_en" / "g2p" / "model.crf"
    hama_assets = packages["hama"] / "hama" / "assets"
    ours = [
        System(
            name=name_of(model),
            trained_on="the train part",
            launch=Launch(pythons["ours"], ("ours", str(model))),
            model=(model,),
            installation=(packages["ours"], model),
            is_threaded=True,
            is_comparable=True,
        )
        for model in models
    ]
    return training, [
        *ours,
        System(
            name=BASELINE,
            trained_on="the train part",
            launch=Launch(pythons["phonetisaurus"], ("phonetisaurus", str(training.model))),
            model=(training.model,),
            installation=(packages["phonetisaurus"], training.model),
            is_comparable=True,
        ),
        System(
            name="espeak-ng, by phonemizer",
            trained_on="rules and exceptions written by hand",
            launch=Launch(pythons["espeak_ng"], ("espeak_ng",)),
            model=tuple(
                espeak_data / name
                for name in ("en_dict", "intonations", "phondata", "phonindex", "phontab")
            ),
            installation=(packages["espeak_ng"],),
        ),
        System(
            name="g2p_en, its network",
            trained_on="CMUdict, the test part's words among it",
            launch=Launch(pythons["g2p_en"], ("g2p_en",), (("NLTK_DATA", str(nltk_data)),)),
            model=(packages["g2p_en"] / "g2p_en" / "checkpoint20.npz",),
            installation=(packages["g2p_en"], nltk_data),
        ),
        System(
            name="gruut, its tagger",
            trained_on="a lexicon of its own for American English",
            launch=Launch(pythons["gruut"], ("gruut",)),
            model=(gruut_model,),
            installation=(packages["gruut"],),
        ),
        System(
            name="hama",
            trained_on="many languages; not said on which words",
            launch=Launch(pythons["hama"], ("hama",)),
            model=(hama_assets / "encoder.hama", hama_assets / "decoder_step.hama"),
            installation=(packages["hama"],),
        ),
    ]


def name_of(model: Path) -> str:
    """Return what the tables call a model: ours, and the name of its run."""
    return f"ours, {model.resolve().parent.name}"


def site_packages(python: Path) -> Path:
    """Return the folder of an environment's packages."""
    return next(python.parent.parent.glob("lib/python*/site-packages"))


def measure_round(
    samples: Samples, single: Process, several: Sequence[Process], words: Sequence[str]
) -> None:
    """Measure a system once in every way."""
    samples.one_core.append(measuring.batch_rate([single], words[: samples.words]))
    samples.all_cores.append(measuring.batch_rate(several, words[: samples.words]))
    seconds = measuring.latencies(single, words[: samples.calls])
    samples.streaming.append(len(seconds) / float(seconds.sum()))
    p50, p99 = np.percentile(seconds, (50, 99)) * 1000
    samples.p50_ms.append(float(p50))
    samples.p99_ms.append(float(p99))


def within(seconds: float, each: float, fewest: int, most: int) -> int:
    """Return how many fit into the time, where one takes ``each``, within bounds."""
    return max(fewest, min(most, int(seconds / each)))


def score(system: System, part: str, process: Process) -> Accuracy:
    """Score a system on a part, with stress and with the digits of stress taken off."""
    references = group_by_spelling(read_lexicon(PREPARED / f"{part}.tsv"))
    answers, _ = process.ask([list(references)])
    kept, stripped = Score(), Score()
    for (word, accepted), answer in zip(references.items(), answers, strict=True):
        kept.add(word, answer.split(), accepted)
        stripped.add(word, without_stress(answer.split()), list(map(without_stress, accepted)))
    return Accuracy(system.name, part, kept.wer, kept.per, stripped.wer, stripped.per)


def without_stress(phones: Sequence[str]) -> tuple[str, ...]:
    """Take the digits off ARPAbet's phones."""
    return tuple(phone.rstrip("012") for phone in phones)


def row(system: System, samples: Samples, baseline: Samples) -> Row:
    """Return a system's row of the table: medians, and the median of the ratios by rounds."""
    return Row(
        system=system.name,
        trained_on=system.trained_on,
        words=samples.words,
        calls=samples.calls,
        one_core=statistics.median(samples.one_core),
        ratio=measuring.median_ratio(samples.one_core, baseline.one_core),
        all_cores=statistics.median(samples.all_cores),
        streaming=statistics.median(samples.streaming),
        p50_ms=statistics.median(samples.p50_ms),
        p99_ms=statistics.median(samples.p99_ms),
        start_s=statistics.median(samples.starts),
        memory_mb=samples.memory_mb,
        model_mb=sum(map(measuring.size_mb, system.model)),
        installation_mb=sum(map(measuring.size_mb, system.installation)),
    )


def machine() -> str:
    """Describe the machine."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    return f"{available_cores()} cores of {name}, Python {platform.python_version()}"


def commit() -> str:
    """Name the state of the repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    done = subprocess.run(
        command, cwd=environments.REPOSITORY, capture_output=True, text=True, check=True
    )
    return f"commit {done.stdout.strip()}"


def main() -> None:
    """Run the command line."""
    fire.Fire(compare)


if __name__ == "__main__":
    main()
