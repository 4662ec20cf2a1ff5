"""The installed command, as a shell runs it."""

import inspect
import os
import re
import shutil
import signal
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
import yaml

from grapheme_to_phoneme import Pronouncer
from grapheme_to_phoneme.commands import Commands
from grapheme_to_phoneme.constants import EXIT_UNKNOWN_CHARACTERS
from tests.conftest import G2P, REPOSITORY, TinyRun, g2p_environment, run_g2p

COMMANDS = sorted(name for name in vars(Commands) if not name.startswith("_"))

#: Those that read a run's or a model's settings first, and those that take other words too.
OF_A_RUN = (
    "convert_lexicon",
    "export",
    "export_tensorrt",
    "infer",
    "languages",
    "package",
    "register",
    "review_lexicon",
    "serve",
)

#: What a shell user types for each of them.
TYPED = {name: name.replace("_", "-") for name in COMMANDS}


@pytest.fixture(scope="module")
def pronouncer(tiny_run: TinyRun) -> Pronouncer:
    """The trained model, through the library."""
    return Pronouncer(tiny_run.model, threads=1)


def infer(
    run: TinyRun, *arguments: str | Path, status: int = 0, **options
) -> subprocess.CompletedProcess[bytes]:
    completed = run_g2p("infer", "--model", run.model, *arguments, **options)
    assert completed.returncode == status, completed.stderr.decode()
    return completed


def expected_lines(pronouncer: Pronouncer, words: list[str]) -> list[str]:
    return [f"{answer.word}\t{' '.join(answer.phones)}" for answer in pronouncer.pronounce(words)]


def lines_of(completed: subprocess.CompletedProcess[bytes]) -> list[str]:
    return completed.stdout.decode("utf-8", "surrogateescape").splitlines()


def check_refused(completed: subprocess.CompletedProcess[bytes], *named: str) -> str:
    """Check that a command ended with one line that begins as ours do; return it."""
    assert completed.returncode not in (0, None)
    said = completed.stderr.decode()
    assert said.count("\n") == 1, said
    assert said.startswith("g2p: error: ")
    assert completed.stdout == b""
    for text in named:
        assert text in said
    return said


# Help


def test_list_of_commands() -> None:
    completed = run_g2p("--help")
    assert completed.returncode == 0
    shown = (completed.stdout + completed.stderr).decode()
    for name in COMMANDS:
        assert name in shown
        summary = inspect.getdoc(getattr(Commands, name)).splitlines()[0]
        assert summary in shown


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(name: str, flag: str, tmp_path: Path) -> None:
    completed = run_g2p(TYPED[name], flag, cwd=tmp_path)
    assert completed.returncode == 0
    shown = (completed.stdout + completed.stderr).decode()
    method = getattr(Commands, name)
    documentation = inspect.getdoc(method)
    assert documentation.splitlines()[0] in shown
    described = documentation.partition("Args:")[2]
    # Every description is there whole, whatever is in it.
    for description in re.split(r"\n {4}\w+: ", described)[1:]:
        assert " ".join(description.split()) in " ".join(shown.split())
    assert "flags are accepted" not in shown.lower()
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            assert f"{parameter.name}:" in described
            assert parameter.name in shown.lower()
    assert list(tmp_path.iterdir()) == []


def test_help_wins_over_work(tiny_run: TinyRun) -> None:
    completed = infer(tiny_run, "stone", "--help")
    assert completed.stdout == b"" and b"Pronounce words" in completed.stderr


def test_help_shows_commands_alone() -> None:
    completed = run_g2p("infer", "--help")
    assert "FIRE" not in (completed.stdout + completed.stderr).decode()


def test_nothing_at_all() -> None:
    completed = run_g2p()
    assert b"infer" in completed.stdout + completed.stderr


def test_version() -> None:
    completed = run_g2p("--version")
    assert (completed.returncode, completed.stderr) == (0, b"")
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert completed.stdout.decode() == f"g2p {pyproject['project']['version']}\n"


# What is not understood


def test_unknown_command() -> None:
    completed = run_g2p("trian")
    assert completed.returncode == 2
    assert b"Traceback" not in completed.stderr and b"train" in completed.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_unknown_flags_are_refused_before_any_work(name: str, tmp_path: Path) -> None:
    completed = run_g2p(TYPED[name], "--no-such-flag", "3", cwd=tmp_path)
    check_refused(completed, "does not know --no-such-flag", "--help")
    assert completed.returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in OF_A_RUN])
@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("word", "'word' is no setting"),
        ("no_such_key=3", "no_such_key"),
        ("trainer.no_such_key=3", "trainer.no_such_key"),
        (
            "model=no_such_model",
            "averages baseline fast main recurrent "
            "reference several small taught three together",
        ),
        ("model=[", "configuration: "),
        ("seed=abc", "seed takes a whole number, such as 1, not abc"),
        ("seed=1.5", "seed takes a whole number"),
        ("logger.enabled=3", "logger.enabled takes true or false"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate takes a number"),
        ("optimizer=3", "Config group override must be a string"),
        ("paths.runs_dir=[1]", "paths.runs_dir takes a text"),
        ("=3", "configuration: "),
    ],
)
def test_unknown_overrides_are_refused_before_any_work(
    name: str, override: str, named: str, tmp_path: Path
) -> None:
    check_refused(run_g2p(TYPED[name], override, cwd=tmp_path), named)
    assert list(tmp_path.iterdir()) == []


def test_unknown_override_of_a_run(tiny_run: TinyRun) -> None:
    completed = run_g2p("export", "--run", "runs/tiny", "export.no_such=1", cwd=tiny_run.folder)
    check_refused(completed, "export.no_such")


@pytest.mark.parametrize("flag", ["--n-best", "--beam-size", "--threads"])
@pytest.mark.parametrize("value", ["many", "-1", "1.5", "1e3"])
def test_numbers_must_be_numbers(tiny_run: TinyRun, flag: str, value: str) -> None:
    completed = run_g2p("infer", "--model", tiny_run.model, f"{flag}={value}", "stone")
    check_refused(completed, f"{flag} takes a whole number, not '{value}'")


@pytest.mark.parametrize("arguments", [("--n-best=0",), ("--n-best=3", "--beam-size=2")])
def test_impossible_numbers(tiny_run: TinyRun, arguments: tuple[str, ...]) -> None:
    check_refused(run_g2p("infer", "--model", tiny_run.model, *arguments, "stone"), "at least")


def test_numbers_may_begin_with_zeros(tiny_run: TinyRun) -> None:
    assert len(lines_of(infer(tiny_run, "--n-best", "02", "--threads", "01", "stone"))) == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("stone", "--", "kitten"), "'kitten' stands after --"),
        (("--", "-x"), "'-x' stands after --"),
        (("stone", "--input"), "--input takes a value: write --input=VALUE"),
        (("--dictionary", "--show-source", "stone"), "--dictionary takes a value"),
    ],
)
def test_nothing_is_passed_over(tiny_run: TinyRun, arguments: tuple[str, ...], named: str) -> None:
    check_refused(run_g2p("infer", "--model", tiny_run.model, *arguments), named)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs a full device")
@pytest.mark.parametrize("command", ["languages", "config"])
def test_full_standard_output(command: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        completed = subprocess.run(
            [G2P, command], stdout=full, stderr=subprocess.PIPE, cwd=tmp_path
        )
    assert completed.returncode == 2
    assert completed.stderr.decode() == ("g2p: error: cannot write: No space left on device\n")


@pytest.mark.parametrize("named", ["taken", "taken/run"])
def test_folder_of_a_run_that_is_a_file(tmp_path: Path, named: str) -> None:
    (tmp_path / "taken").touch()
    completed = run_g2p("train", f"paths.run_dir={named}", "logger=none", cwd=tmp_path)
    check_refused(completed, "cannot use", "taken")


def test_export_from_another_folder_of_runs(tmp_path: Path) -> None:
    check_refused(run_g2p("export", "paths.runs_dir=elsewhere", cwd=tmp_path), "in elsewhere")


# Configuration


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer.learning_rate=1", "alignment.max_phones_per_letter=3"),
        ("trainer.lightning.precision=16", "trainer.lightning.devices=[0,1]"),
        ("model=baseline", "model.dropout=0", "experiment=quick"),
        ("logger=none", "logger.tracking_uri=http://127.0.0.1:5000"),
    ],
)
def test_values_of_the_right_kind(overrides: tuple[str, ...]) -> None:
    assert run_g2p("config", *overrides).returncode == 0


def test_configuration_is_printed_as_yaml() -> None:
    completed = run_g2p("config", "model=baseline", "seed=7")
    assert completed.returncode == 0
    config = yaml.safe_load(completed.stdout)
    assert config["seed"] == 7
    assert config["model"]["memory_windows"] == []
    assert {"data", "preprocessing", "trainer", "export", "infer", "evaluate"} <= set(config)


def test_preset_is_applied() -> None:
    default, quick = (
        yaml.safe_load(run_g2p("config", *overrides).stdout)
        for overrides in ((), ("experiment=quick",))
    )
    epochs = [config["trainer"]["lightning"]["max_epochs"] for config in (default, quick)]
    assert epochs[1] < epochs[0]


# Words as arguments


def test_words_as_arguments(tiny_run: TinyRun, pronouncer: Pronouncer) -> None:
    words = ["stone", "kitten", "Stone", "stone"]
    completed = infer(tiny_run, *words)
    assert lines_of(completed) == expected_lines(pronouncer, words)
    assert completed.stderr == b""


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("None", 0),
        ("True", 0),
        ("False", 0),
        ("a,b", EXIT_UNKNOWN_CHARACTERS),
        ("1e5", EXIT_UNKNOWN_CHARACTERS),
        ("[a]", EXIT_UNKNOWN_CHARACTERS),
        ("{}", EXIT_UNKNOWN_CHARACTERS),
        ("'a'", 0),
        ("0x10", EXIT_UNKNOWN_CHARACTERS),
        ("a=b", EXIT_UNKNOWN_CHARACTERS),
        ("two words", EXIT_UNKNOWN_CHARACTERS),
        ("$HOME", EXIT_UNKNOWN_CHARACTERS),
        ("infer", 0),
        ("", 0),
    ],
)
def test_words_stay_words(
    tiny_run: TinyRun, pronouncer: Pronouncer, word: str, status: int
) -> None:
    completed = infer(tiny_run, word, "stone", status=status)
    assert lines_of(completed) == expected_lines(pronouncer, [word, "stone"])


def test_lone_hyphen_is_a_word(tiny_run: TinyRun, pronouncer: Pronouncer) -> None:
    completed = run_g2p("infer", "--model", tiny_run.model, "-", "stone")
    assert lines_of(completed) == expected_lines(pronouncer, ["-", "stone"])


def test_flags_may_stand_anywhere(tiny_run: TinyRun, pronouncer: Pronouncer) -> None:
    expected = expected_lines(pronouncer, ["stone", "kitten"])
    for arguments in (
        ("stone", "kitten", "--model", tiny_run.model),
        ("stone", "--model", tiny_run.model, "kitten"),
        (f"--model={tiny_run.model}", "stone", "kitten"),
    ):
        assert lines_of(run_g2p("infer", *arguments)) == expected


def test_short_flags_that_help_offers(tiny_run: TinyRun, pronouncer: Pronouncer) -> None:
    expected = expected_lines(pronouncer, ["stone"])
    for flags in (("-m", tiny_run.model), (f"-m={tiny_run.model}",)):
        assert lines_of(run_g2p("infer", *flags, "stone")) == expected


def test_several_pronunciations(tiny_run: TinyRun, pronouncer: Pronouncer) -> None:
    expected = []
    for answer in pronouncer.pronounce(["stone", "kitten"], n_best=3):
        for choice in (answer, *answer.alternatives):
            line = f"{answer.word}\t{' '.join(choice.phones)}\t{choice.probability:.6f}"
            expected.append(line)
    for flag in (("--n-best", "3"), ("--n_best=3",)):
        assert lines_of(infer(tiny_run, "stone", "kitten", *flag)) == expected


# The user's dictionary


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    """A lexicon of the user's own; the name looks like a number."""
    path = tmp_path / "2024"
    path.write_text("Stone\tZ ǂ\nSTONE\tZ ǂ\nstone\tA\nO’Neil\tQ\nc3po\tS IY\n")
    return path


def test_dictionary_overrides_the_model(
    tiny_run: TinyRun, pronouncer: Pronouncer, dictionary: Path
) -> None:
    words = ["stone", "kitten", "Stone", "o'neil", "C3PO"]
    (kitten,) = expected_lines(pronouncer, ["kitten"])
    expected = ["stone\tZ ǂ", kitten, "Stone\tZ ǂ", "o'neil\tQ", "C3PO\tS IY"]
    for flags in (
        ("--dictionary", dictionary),
        (f"-d={dictionary}",),
        ("--dictionary", dictionary.name),
        ("--overrides", f"infer.dictionary={dictionary}"),
    ):
        completed = infer(tiny_run, *flags, *words, cwd=dictionary.parent)
        assert lines_of(completed) == expected
        assert completed.stderr == b""


def test_sources_are_shown(tiny_run: TinyRun, pronouncer: Pronouncer, dictionary: Path) -> None:
    (kitten,) = expected_lines(pronouncer, ["kitten"])
    flags = ("--dictionary", dictionary, "--show-source")
    expected = ["stone\tZ ǂ\tdictionary", f"{kitten}\tmodel"]
    assert lines_of(infer(tiny_run, *flags, "stone", "kitten")) == expected
    assert lines_of(infer(tiny_run, *flags, standard_input=b"stone\nkitten\n")) == expected
    (answer,) = pronouncer.pronounce(["kitten"], n_best=2)
    assert lines_of(infer(tiny_run, *flags, "--n-best", "2", "stone", "kitten")) == [
        "stone\tZ ǂ\t0.500000\tdictionary",
        "stone\tA\t0.500000\tdictionary",
        *(
            f"kitten\t{' '.join(choice.phones)}\t{choice.probability:.6f}\tmodel"
            for choice in (answer, *answer.alternatives)
        ),
    ]


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (("--show-source",), True),
        (("--show_source",), True),
        (("--show-source=true",), True),
        (("--show_source=True",), True),
        (("--overrides=infer.show_source=true",), True),
        (("--show-source=false",), False),
        (("--show-source=FALSE",), False),
    ],
)
def test_flag_without_a_value_takes_no_word(
    tiny_run: TinyRun, pronouncer: Pronouncer, flags: tuple[str, ...], shown: bool
) -> None:
    ending = "\tmodel" if shown else ""
    expected = [line + ending for line in expected_lines(pronouncer, ["true", "stone"])]
    assert lines_of(infer(tiny_run, *flags, "true", "stone")) == expected


def test_flag_without_a_value_takes_no_other(tiny_run: TinyRun) -> None:
    completed = run_g2p("infer", "--model", tiny_run.model, "--show-source=yes", "stone")
    check_refused(completed, "--show-source takes no value, or --show-source=false, not 'yes'")
    completed = run_g2p("infer", "--model", tiny_run.model, "--show_alignment=2", "stone")
    check_refused(completed, "--show-alignment takes no value, or --show-alignment=false, not '2'")
    check_refused(run_g2p("evaluate", "--show-source"), "evaluate does not know --show-source")


def test_dictionary_of_the_other_format(tiny_run: TinyRun, tmp_path: Path) -> None:
    path = tmp_path / "mine.dict"
    path.write_text(";;; mine\nSTONE Z # not the model's\nstone(2) S AA1\nkitten K\n")
    flags = ("--dictionary", path, "--n-best", "3")
    assert lines_of(infer(tiny_run, *flags, "stone")) == [
        "stone\tZ\t0.500000",
        "stone\tS AA1\t0.500000",
    ]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "there is no file mine.tsv"),
        (b"", "mine.tsv is empty"),
        (b"stone\n", "mine.tsv has 1 malformed line: line 1: 'stone' is one column"),
        (b"stone\tS\nkitten\t\n", "line 2: 'kitten' has no phones"),
        (b"\xe2\x80\x8b\tS\n", "line 1: nothing is left of the spelling"),
        (b"caf\xe9\tK\n", "mine.tsv is not UTF-8 in 1 line"),
    ],
)
def test_dictionary_that_cannot_be_read(
    tiny_run: TinyRun, tmp_path: Path, content: bytes | None, named: str
) -> None:
    if content is not None:
        (tmp_path / "mine.tsv").write_bytes(content)
    flags = ("--dictionary", "mine.tsv", "--output", "out.tsv")
    completed = run_g2p("infer", "--model", tiny_run.model, *flags, "stone", cwd=tmp_path)
    check_refused(completed, named)
    assert completed.returncode == 2
    assert not list(tmp_path.glob("out.tsv*"))


# Alignment


def shown_alignment(text: str) -> tuple[str, str]:
    """Return the letters and the phones of an alignment's column."""
    pairs = [pair.split("→") for pair in text.split(" ")]
    chunks = [phones.split("+") for _, phones in pairs if phones != "_"]
    return "".join(letter for letter, _ in pairs), " ".join(sum(chunks, []))


def test_alignment_is_shown(tiny_run: TinyRun, tmp_path: Path) -> None:
    words = [entry.spelling for entry in tiny_run.lexicon.dev[:200]]
    word_list = tmp_path / "words.txt"
    word_list.write_text("".join(f"{word}\n" for word in words))
    flags = ("--input", word_list)
    plain = lines_of(infer(tiny_run, *flags, "--n-best=3"))
    aligned = lines_of(infer(tiny_run, *flags, "--n-best=3", "--show-alignment"))
    assert [line.rpartition("\t")[0] for line in aligned] == plain
    assert len(aligned) > 2 * len(words)
    for line in aligned:
        word, phones, _, alignment = line.split("\t")
        assert shown_alignment(alignment) == (word, phones)
    assert any("→_" in line for line in aligned) and any("+" in line for line in aligned)


def test_alignment_comes_before_the_source(tiny_run: TinyRun, dictionary: Path) -> None:
    flags = ("--show-source", "--show-alignment", "--dictionary", dictionary)
    completed = infer(tiny_run, *flags, "kitten", "stone", "7", "", status=EXIT_UNKNOWN_CHARACTERS)
    kitten, *others = lines_of(completed)
    word, phones, alignment, source = kitten.split("\t")
    assert alignment.startswith("k→K i→IH ") and source == "model"
    assert shown_alignment(alignment) == (word, phones)
    assert others == ["stone\tZ ǂ\t\tdictionary", "7\t\t\tmodel", "\t\t\tmodel"]


# Word lists


def test_file_to_file(tiny_run: TinyRun, pronouncer: Pronouncer, tmp_path: Path) -> None:
    words = [entry.spelling for entry in tiny_run.lexicon.dev[:300]] + ["", "stone"]
    source, target = tmp_path / "words.txt", tmp_path / "lexicon.tsv"
    source.write_text("".join(f"{word}\n" for word in words))
    completed = infer(tiny_run, "--input", source, "--output", target)
    assert completed.stdout == b""
    assert target.read_text().splitlines() == expected_lines(pronouncer, words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lexicon.tsv", "words.txt"]


def test_file_is_not_replaced_by_its_answers(tiny_run: TinyRun, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("stone\n")
    completed = infer(tiny_run, "--input", words, "--output", words, status=2)
    check_refused(completed, f"would change the input, {words}")
    assert words.read_text() == "stone\n"


@pytest.mark.parametrize("arguments", [(), ("--input", "-"), ("--input=-",)])
def test_pipe(tiny_run: TinyRun, pronouncer: Pronouncer, arguments: tuple[str, ...]) -> None:
    completed = infer(tiny_run, *arguments, standard_input=b"stone\r\nkitten")
    assert lines_of(completed) == expected_lines(pronouncer, ["stone", "kitten"])


def test_empty_pipe(tiny_run: TinyRun) -> None:
    assert infer(tiny_run, standard_input=b"").stdout == b""


def test_every_line_is_answered(tiny_run: TinyRun) -> None:
    content = b"stone\n\n\xff\xfe\n\0\n\xf0\x9f\x98\x80\n" + b"a" * 10_000 + b"\nend"
    completed = infer(tiny_run, standard_input=content, status=EXIT_UNKNOWN_CHARACTERS)
    words = [line.split(b"\t")[0] for line in completed.stdout.split(b"\n")[:-1]]
    assert words == content.split(b"\n")
    said = completed.stderr.decode().splitlines()
    assert said == [
        "'\\udcff\\udcfe': the model does not know byte 0xFF (not UTF-8), byte 0xFE (not UTF-8)",
        "'\\x00': the model does not know U+0000 no name",
        "'😀': the model does not know '😀' U+1F600 GRINNING FACE",
    ]


def test_unknown_characters_end_with_a_status_of_their_own(tiny_run: TinyRun) -> None:
    completed = infer(tiny_run, "stöne", "kitten", status=EXIT_UNKNOWN_CHARACTERS)
    assert completed.returncode == 4
    assert lines_of(completed)[0].startswith("stöne\tS T")
    assert completed.stderr.decode() == (
        "'stöne': the model does not know 'ö' U+00F6 LATIN SMALL LETTER O WITH DIAERESIS\n"
    )


def test_many_unknown_words_are_counted(tiny_run: TinyRun) -> None:
    content = b"".join(b"word%d\n" % number for number in range(100))
    completed = infer(tiny_run, standard_input=content, status=EXIT_UNKNOWN_CHARACTERS)
    assert len(lines_of(completed)) == 100
    said = completed.stderr.decode().splitlines()
    assert len(said) == 21 and said[-1] == "80 more such words"


def test_reader_that_stops_reading(tiny_run: TinyRun, tmp_path: Path) -> None:
    """``g2p infer --input many | head -1`` ends soon and says nothing."""
    word_list = tmp_path / "words.txt"
    word_list.write_text("stone\n" * 500_000)
    with subprocess.Popen(
        [G2P, "infer", "--model", tiny_run.model, "--input", word_list],
        env=g2p_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout.readline().startswith(b"stone\tS ")
            process.stdout.close()
            said = process.stderr.read()
            process.wait(timeout=120)
        finally:
            process.kill()
    assert said == b""


def take_interrupts() -> None:
    """Undo what a shell that starts the tests in the background does to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupt_leaves_no_file_under_the_name(tiny_run: TinyRun, tmp_path: Path) -> None:
    target = tmp_path / "lexicon.tsv"
    with subprocess.Popen(
        [G2P, "infer", "--model", tiny_run.model, "--input", "-", "--output", target],
        env=g2p_environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=take_interrupts,
    ) as process:
        try:
            while not (tmp_path / "lexicon.tsv.partial").exists():
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=120) == 130
            assert process.stderr.read() == b"g2p: error: interrupted\n"
        finally:
            process.kill()
    assert not target.exists()


def test_words_and_a_file_are_too_much(tiny_run: TinyRun, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("stone\n")
    completed = run_g2p("infer", "--model", tiny_run.model, "--input", words, "stone")
    check_refused(completed, "give words or --input, not both")


def test_missing_input(tiny_run: TinyRun, tmp_path: Path) -> None:
    completed = run_g2p(
        "infer", "--model", tiny_run.model, "--input", "none.txt", "--output", "out", cwd=tmp_path
    )
    check_refused(completed, "cannot read none.txt: No such file or directory")
    assert not (tmp_path / "out").exists()


def test_example_comes_from_the_storage_that_is_named(tiny_run: TinyRun, tmp_path: Path) -> None:
    flags = ("--model", tiny_run.model, "--overrides", "storage=s3 paths.data_dir=mine")
    completed = run_g2p("infer", *flags, "--input", "mine/example/words.txt", cwd=tmp_path)
    check_refused(completed, "storage=s3 needs an address", "storage.remote.url=")
    # Who does not ask for it needs no storage.
    assert run_g2p("infer", *flags, "stone", cwd=tmp_path).returncode == 0


def test_output_that_cannot_be_written(tiny_run: TinyRun, tmp_path: Path) -> None:
    target = tmp_path / "missing" / "out.tsv"
    completed = run_g2p("infer", "--model", tiny_run.model, "--output", target, "stone")
    check_refused(completed, f"cannot write {target}: No such file or directory")


# Which model


def test_newest_model_is_taken_and_said(tiny_run: TinyRun, pronouncer: Pronouncer) -> None:
    completed = run_g2p("infer", "stone", cwd=tiny_run.folder)
    assert lines_of(completed) == expected_lines(pronouncer, ["stone"])
    assert completed.stderr.decode() == "model: runs/tiny/model.onnx (the newest)\n"


def test_newest_of_several(tiny_run: TinyRun, tmp_path: Path) -> None:
    for number, name in enumerate(("first", "newest", "third")):
        model = tmp_path / "runs" / name / "model.onnx"
        model.parent.mkdir(parents=True)
        shutil.copyfile(tiny_run.model, model)
        moment = 2_000_000_000 if name == "newest" else 1_000_000_000 + number
        os.utime(model, (moment, moment))
    completed = run_g2p("infer", "stone", cwd=tmp_path)
    assert completed.stderr.decode() == "model: runs/newest/model.onnx (the newest)\n"


def test_no_model_yet(tmp_path: Path) -> None:
    check_refused(run_g2p("infer", "stone", cwd=tmp_path), "no trained model", "g2p train")


@pytest.mark.parametrize("content", [None, b"", b"stone\tS T OW N\n"])
def test_file_that_is_no_model(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "words.onnx"
    if content is not None:
        path.write_bytes(content)
    completed = run_g2p("infer", "--model", path, "stone")
    check_refused(completed, "words.onnx")
    assert completed.returncode == 2


# Evaluation


def test_evaluation_on_a_lexicon(tiny_run: TinyRun, tmp_path: Path) -> None:
    model, lexicon = tmp_path / "model.onnx", tmp_path / "mine.tsv"
    shutil.copyfile(tiny_run.model, model)
    (answer,) = Pronouncer(model).pronounce(["stone"])
    right = " ".join(answer.phones)
    lexicon.write_text(f"stone\tZ\nstone\t{right}\nkitten\tZ Z\nÖö\tZ\n")
    completed = run_g2p("evaluate", "--model", model, "--lexicon", lexicon, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr.decode()
    rows = [line.split() for line in completed.stdout.decode().splitlines()]
    assert rows[2][:5] == ["all", "words", "3", "2", "66.67"]
    written = yaml.safe_load((tmp_path / "evaluation-lexicon-mine.yaml").read_text())
    assert (written["words"], written["wrong_words"], written["wer"]) == (3, 2, 66.6667)
    # Neither one phone for six letters nor a letter that the model does not know is among five.
    assert written["oracle_wer_5"] == 66.6667
    assert written["git_commit"] == Pronouncer(model).metadata.git_commit


@pytest.mark.parametrize(
    ("overrides", "phones"),
    [
        ((), 9),
        (("data=lexicon",), 9),
        (("data.format=kaldi",), 13),
        (("data=multilingual",), 9),
        (("data=multilingual", "++data.format=kaldi"), 13),
    ],
)
def test_evaluation_on_a_lexicon_of_a_format(
    tiny_run: TinyRun, tmp_path: Path, overrides: tuple[str, ...], phones: int
) -> None:
    model, lexicon = tmp_path / "model.onnx", tmp_path / "mine.txt"
    shutil.copyfile(tiny_run.model, model)
    # CMUdict has comments and Kaldi has none; by content it is CMUdict's.
    lexicon.write_text("stone S T OW N # K\nkitten K IH T AH N # K\n")
    flags = ("--model", model, "--lexicon", lexicon)
    completed = run_g2p("evaluate", *overrides, *flags, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr.decode()
    written = yaml.safe_load((tmp_path / "evaluation-lexicon-mine.yaml").read_text())
    assert written["reference_phones"] == phones


def test_evaluation_says_what_training_said(tiny_run: TinyRun, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    shutil.copyfile(tiny_run.model, model)
    words = sorted({entry.spelling for entry in tiny_run.lexicon.dev})[:50]
    groups = tmp_path / "groups.tsv"
    groups.write_text("".join(f"{word.upper()}\tfirst fifty\n" for word in words))
    completed = run_g2p(
        "evaluate",
        *tiny_run.lexicon.overrides(),
        f"evaluate.groups={groups}",
        "--model",
        model,
        "--part",
        "dev",
        cwd=tmp_path,
    )
    assert completed.returncode == 0, completed.stderr.decode()
    assert b"\nfirst fifty " in completed.stdout
    evaluated = yaml.safe_load((tmp_path / "evaluation-dev.yaml").read_text())
    trained = yaml.safe_load((tiny_run.directory / "metrics.yaml").read_text())
    for name in ("words", "wrong_words", "phone_errors", "reference_phones"):
        assert evaluated[name] == trained[name]
    assert evaluated["ece"] == pytest.approx(trained["ece"], abs=0.01)
    assert 0 < evaluated["oracle_wer_5"] < evaluated["wer"]
    assert evaluated["sha256"] == Pronouncer(model).metadata.split_sha256["dev"]
    assert evaluated["groups"]["first fifty"]["words"] == 50


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--part", "training"), "choose train, dev or test"),
        (("--lexicon", "none.tsv"), "none.tsv"),
        (("--model", "none.onnx"), "there is no model file none.onnx"),
    ],
)
def test_evaluation_of_nothing(
    tiny_run: TinyRun, tmp_path: Path, arguments: tuple[str, str], named: str
) -> None:
    given = {"--model": str(tiny_run.model), **dict([arguments])}
    flags = [text for pair in given.items() for text in pair]
    completed = run_g2p("evaluate", *tiny_run.lexicon.overrides(), *flags, cwd=tmp_path)
    assert completed.returncode == 2
    assert completed.stderr.decode().splitlines()[-1].startswith("g2p: error: ")
    assert named in completed.stderr.decode()


# Training and export: what they refuse (what they do is tested end to end)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "is empty"),
        ("stone\nkitten\n", "line 1: 'stone' is one column"),
        ("stone\tS T\nkitten\n", "line 2: 'kitten' is one column"),
    ],
)
def test_training_on_a_bad_lexicon(tmp_path: Path, content: str, named: str) -> None:
    lexicon = tmp_path / "mine.tsv"
    lexicon.write_text(content)
    completed = run_g2p("train", "data=lexicon", f"data.train_path={lexicon}", cwd=tmp_path)
    check_refused(completed, "mine.tsv", named)


def test_training_on_a_word_that_is_scored_on(tmp_path: Path) -> None:
    lexicon = tmp_path / "mine.tsv"
    lexicon.write_text("stone\tS T OW N\n")
    completed = run_g2p(
        "train",
        "data=lexicon",
        f"data.train_path={lexicon}",
        f"data.dev_path={lexicon}",
        cwd=tmp_path,
    )
    assert completed.returncode == 2
    said = completed.stderr.decode().splitlines()
    assert said[-1].startswith("g2p: error: 1 word in both the train and the dev lexicon")


def test_export_without_a_run(tmp_path: Path) -> None:
    check_refused(run_g2p("export", cwd=tmp_path), "no trained model")
    completed = run_g2p("export", "--run", "nowhere", cwd=tmp_path)
    check_refused(completed, "nowhere is no training run")
