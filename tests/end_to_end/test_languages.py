"""One model of several languages, and a model for each of several languages."""

import random
import re
import shlex
from pathlib import Path

import pytest
import yaml

from grapheme_to_phoneme import Pronouncer
from grapheme_to_phoneme.configuration import compose_config, save_config
from grapheme_to_phoneme.constants import EXIT_TRAININGS_FAILED
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.multirun import Result, expand, format_results, run_all
from tests.conftest import TINY_RUN_LIMIT_S, run_g2p

#: Four small trainings: half a minute each on an idle core, most of it start and export.
pytestmark = pytest.mark.timeout(TINY_RUN_LIMIT_S + 300)

#: A network so small that it trains in seconds, and learns what the lexicons below say.
SMALL = (
    "experiment=small",
    "logger=none",
    "model.members=1",
    "model.encoder_size=32",
    "model.recurrent_layers=1",
    "model.history_size=32",
    "model.decoder_size=32",
    "model.output_size=32",
    "optimizer.learning_rate=1e-2",
    "trainer.lightning.check_val_every_n_epoch=1",
    "export.tolerated_loss=100",
    "export.parity_batch_sizes=[8]",
)

LETTERS = "abcdefgh"
SYLLABLES = "가나다라마바"
WORDS = 300
DEV_WORDS = 30


def write_lexicon(folder: Path, code: str, phones: dict[str, str]) -> None:
    """Write random words over the letters of a language, each of which has its phones."""
    source = random.Random(code)
    spellings: dict[str, None] = {}
    while len(spellings) < WORDS + DEV_WORDS:
        letters = source.choices(list(phones), k=source.randint(2, 5))
        spellings["".join(letters)] = None
    lines = [
        f"{spelling}\t{' '.join(phones[letter] for letter in spelling)}\n"
        for spelling in spellings
    ]
    (folder / f"{code}_train.tsv").write_text("".join(lines[DEV_WORDS:]))
    (folder / f"{code}_dev.tsv").write_text("".join(lines[:DEV_WORDS]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lexicons: one and two say the same letters otherwise, kor has syllables."""
    folder = tmp_path_factory.mktemp("languages")
    write_lexicon(folder, "one", {letter: letter for letter in LETTERS})
    write_lexicon(folder, "two", {letter: letter.upper() for letter in LETTERS})
    consonants = "knTLmb"
    syllables = {
        syllable: f"{consonant} a"
        for syllable, consonant in zip(SYLLABLES, consonants, strict=True)
    }
    write_lexicon(folder, "kor", syllables)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """A trained model of all three."""
    given = ",".join(
        f"{code}:{{group:lexicon,train_path:{code}_train.tsv,dev_path:{code}_dev.tsv}}"
        for code in ("one", "two", "kor")
    )
    (folder / "lexicons.txt").write_text(f"data.lexicons={{{given}}}")
    completed = run_g2p(
        "train",
        "data=multilingual",
        f"data.lexicons={{{given}}}",
        *SMALL,
        "trainer.lightning.max_epochs=6",
        "paths.run_dir=runs/all",
        cwd=folder,
    )
    assert completed.returncode == 0, completed.stderr.decode()
    return folder / "runs" / "all" / "model.onnx"


def infer(model: Path, *arguments: str) -> str:
    completed = run_g2p("infer", "--model", model, *arguments)
    assert completed.returncode == 0, completed.stderr.decode()
    return completed.stdout.decode()


def test_suggested_command_has_a_word_of_the_language(model: Path) -> None:
    *_, last = (model.parent / "train.log").read_text().splitlines()
    command = last.partition("try it: g2p ")[2]
    completed = run_g2p(*shlex.split(command), cwd=model.parent.parent.parent)
    assert completed.returncode == 0, completed.stderr.decode()
    word, phones = completed.stdout.decode().split("\t")
    assert word in command and phones


def test_language_is_an_option(model: Path) -> None:
    assert infer(model, "--language", "one", "bad", "fed") == "bad\tb a d\nfed\tf e d\n"
    assert infer(model, "--language", "two", "bad", "fed") == "bad\tB A D\nfed\tF E D\n"
    # Syllables are taken apart, whichever of their forms is given, and the tag is not shown.
    aligned = infer(model, "--language", "KOR", "--show-alignment", "나라")
    assert aligned.startswith("나라\tn a L a\t") and "\ue002" not in aligned


def test_language_of_the_library(model: Path) -> None:
    one, two = (Pronouncer(model, threads=1, language=code) for code in ("one", "two"))
    (answer,) = one.pronounce(["head"], with_alignment=True)
    assert answer.word == "head"
    assert answer.alignment == tuple((letter, (letter,)) for letter in "head")
    assert [" ".join(found.phones) for found in two.pronounce(["head", ""])] == ["H E A D", ""]
    long = Pronouncer(model, threads=1, language="two", longest_word=5)
    assert long.pronounce(["badefacade" * 3])[0].phones[:2] == ("B", "A")
    own = Pronouncer(model, threads=1, language="one", dictionary={"HEAD": [("h", "d")]})
    assert own.pronounce(["head"])[0].source == "dictionary"
    tagged = Pronouncer(model, threads=1)
    first, second = (language.tag for language in tagged.metadata.languages[:2])
    found = tagged.pronounce([f"{first}bad", f"{second}bad"])
    assert [answer.phones for answer in found] == [("b", "a", "d"), ("B", "A", "D")]


def test_language_that_is_not_said_or_not_there(model: Path) -> None:
    for arguments in ((), ("--language", "three")):
        completed = run_g2p("infer", "--model", model, *arguments, "bad")
        assert completed.returncode == 2 and completed.stdout == b""
        said = completed.stderr.decode()
        assert "say one of one, two, kor" in said and said.count("\n") == 1
    with pytest.raises(UserError, match="say one of one, two, kor"):
        Pronouncer(model, threads=1).pronounce(["bad"])


def test_model_says_what_it_knows(model: Path) -> None:
    metadata = Pronouncer(model, threads=1).metadata
    assert metadata.language == "mul"
    assert [language.code for language in metadata.languages] == ["one", "two", "kor"]
    forms = [language.normalization.unicode_form for language in metadata.languages]
    assert forms == ["NFC", "NFC", "NFD"]
    assert all(language.scores["dev_wer"] < 50 for language in metadata.languages)


def test_evaluation_by_language(folder: Path, model: Path) -> None:
    lexicons = (folder / "lexicons.txt").read_text()
    # Another order than the model's, and one of its languages not at all.
    reordered = "data.lexicons={two:{group:lexicon,train_path:two_train.tsv,dev_path:two_dev.tsv}}"
    for given, codes in ((lexicons, ["one", "two", "kor"]), (reordered, ["two"])):
        completed = run_g2p(
            "evaluate",
            *("data=multilingual", given, "data.unicode_forms=null", "--model", model),
            cwd=folder,
        )
        assert completed.returncode == 0, completed.stderr.decode()
        scores = yaml.safe_load((model.parent / "evaluation-dev.yaml").read_text())["groups"]
        assert list(scores) == codes
        assert all(scores[code]["words"] == DEV_WORDS for code in codes)
        assert scores["two"]["wer"] < 50
        assert "mean of the languages: WER" in completed.stdout.decode()
    alone = run_g2p(
        "evaluate",
        *("--model", model, "--lexicon", "two_dev.tsv", "--language", "two", "data=lexicon"),
        cwd=folder,
    )
    assert alone.returncode == 0, alone.stderr.decode()
    found = yaml.safe_load((model.parent / "evaluation-lexicon-two_dev.yaml").read_text())
    assert found["wer"] == scores["two"]["wer"]


# Many models


def test_values_are_expanded() -> None:
    jobs, swept = expand(["data=wikipron", "data.language=ita,fre", "seed=1,2", "+a.b=x"])
    assert [job.name for job in jobs] == ["ita_1", "ita_2", "fre_1", "fre_2"]
    assert jobs[1].overrides == ("data=wikipron", "data.language=ita", "seed=2", "+a.b=x")
    assert swept == ["data.language", "seed"]
    (first, _), _ = expand(["data.train_path=a/b.tsv,c.tsv"])
    assert first.name == "a%2Fb.tsv"
    for overrides in (["seed=1"], ["data.language=ita,ita"], ["seed=1,"]):
        with pytest.raises(UserError):
            expand(overrides)


def test_table_of_results() -> None:
    results = [
        Result("ita", "runs/ita", "", 100, 20.0, 5.0, 90.4),
        Result("fre", "runs/fre", "no file"),
        Result("ice", "runs/ice", "", 50, 10.0, 2.0, 60.0),
    ]
    assert format_results(results) == [
        "name\twords\tWER\tPER\tseconds\trun",
        "ita\t100\t20.00\t5.00\t90\truns/ita",
        "fre\t-\t-\t-\t0\truns/fre\tfailed: no file",
        "ice\t50\t10.00\t2.00\t60\truns/ice",
        "mean\t150\t15.00\t3.50\t150\t-",
    ]
    assert len(format_results(results[1:2])) == 2


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What Hydra's launcher is given, in place of trainings."""
    monkeypatch.chdir(tmp_path)
    given: list[list[str]] = []
    monkeypatch.setattr(
        "grapheme_to_phoneme.multirun._launch",
        lambda overrides, swept, threads: given.append(overrides),
    )
    return given


def test_text_with_a_comma_stays_one_setting_of_the_launcher(launched: list[list[str]]) -> None:
    run_all(["seed=1,2", "+multirun.settings.partition='gpu,long'", "+multirun.settings.qos=null"])
    assert "hydra.launcher.partition='gpu,long'" in launched[0]
    assert "hydra.launcher.qos=null" in launched[0]


@pytest.mark.parametrize(
    ("begun_with", "is_taken"),
    [
        (["experiment=small", "seed=1", "paths.run_dir='runs/1'"], True),
        (["preprocessing.normalization.unicode_form=NFD", "seed=1"], True),
        (["optimizer.learning_rate=0.1", "seed=1", "paths.run_dir='runs/1'"], False),
        (["seed=3"], False),
    ],
)
def test_folder_has_runs_with_the_same_settings(
    launched: list[list[str]], tmp_path: Path, begun_with: list[str], is_taken: bool
) -> None:
    save_config(compose_config(begun_with), begun_with, tmp_path / "runs" / "1")
    arguments = ["seed=1,2", "multirun.dir=runs"]
    if is_taken:
        run_all(arguments)
        assert launched
    else:
        with pytest.raises(UserError, match="runs/1 holds a run with other settings"):
            run_all(arguments)
        assert not launched


def test_folder_that_is_a_number(launched: list[list[str]]) -> None:
    told = "multirun.dir takes a text, not 5: a file or folder of that name is ./5"
    with pytest.raises(UserError, match=re.escape(told)):
        run_all(["seed=1,2", "multirun.dir=5"])


@pytest.fixture(scope="module")
def multirun(folder: Path) -> tuple[str, ...]:
    """The arguments of a multirun with one lexicon that is not there."""
    return (
        "train",
        "--multirun",
        "data=lexicon",
        "data.train_path=one_train.tsv,none.tsv,two_train.tsv",
        *SMALL,
        "trainer.lightning.max_epochs=1",
        "multirun.dir=runs/each",
    )


def test_one_failure_leaves_the_others_alone(folder: Path, multirun: tuple[str, ...]) -> None:
    completed = run_g2p(*multirun, cwd=folder)
    assert completed.returncode == EXIT_TRAININGS_FAILED, completed.stderr.decode()
    lines = completed.stdout.decode().splitlines()
    assert lines == (folder / "runs/each/results.tsv").read_text().splitlines()
    names = [line.split("\t")[0] for line in lines]
    assert names == ["name", "one_train.tsv", "none.tsv", "two_train.tsv", "mean"]
    assert "failed: " in lines[2] and "none.tsv" in lines[2].partition("failed: ")[2]
    for line in (lines[1], lines[3]):
        _, words, wer, *_, run = line.split("\t")
        assert words == f"{WORDS // 10}" and float(wer) <= 100
        assert (folder / run / "model.onnx").is_file()
    assert "1 of 3 trainings failed" in completed.stderr.decode()


@pytest.mark.parametrize("launcher", ["default", "joblib", "processes"])
def test_again_does_what_is_missing(
    folder: Path, multirun: tuple[str, ...], launcher: str
) -> None:
    if launcher != "default":
        plugin = {"joblib": "joblib", "processes": "submitit"}[launcher]
        pytest.importorskip(f"hydra_plugins.hydra_{plugin}_launcher")
    runs = folder / "runs" / "each"
    models = [runs / f"{name}_train.tsv" / "model.onnx" for name in ("one", "two")]
    written = [path.stat().st_mtime_ns for path in models]
    tries = (runs / "none.tsv" / "output.log").read_bytes()
    completed = run_g2p(*multirun, f"multirun={launcher}", cwd=folder)
    assert completed.returncode == EXIT_TRAININGS_FAILED, completed.stderr.decode()
    assert len(completed.stdout.splitlines()) == 5
    assert [path.stat().st_mtime_ns for path in models] == written
    assert len((runs / "none.tsv" / "output.log").read_bytes()) > len(tries)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("seed=2",), "holds a run with other settings"),
        (("multirun=nowhere",), "nowhere"),
        (("hydra/launcher=nowhere",), "nowhere"),
        (("no.such=1",), "no.such"),
        (("resume=runs/each",), "multirun.dir=DIR"),
    ],
)
def test_multirun_that_cannot_be(
    folder: Path, multirun: tuple[str, ...], arguments: tuple[str, ...], named: str
) -> None:
    completed = run_g2p(*multirun, *arguments, cwd=folder)
    said = completed.stderr.decode().splitlines()
    assert completed.returncode == 2 and completed.stdout == b""
    assert said[-1].startswith("g2p: error: ") and named in said[-1]
