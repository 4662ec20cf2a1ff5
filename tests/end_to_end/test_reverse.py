"""A model that spells, from the command line."""

import json
import shlex
import subprocess
from pathlib import Path

import onnx
import pytest
import yaml

from grapheme_to_phoneme import Pronouncer
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import DESCRIPTION_PROPERTY
from grapheme_to_phoneme.lexicon.writing import write_tsv
from grapheme_to_phoneme.serving.ports import unused_port
from tests.bulk.running import SMALL_BLOCKS, size_of, wait_for
from tests.conftest import (
    G2P,
    TINY_MODEL_OVERRIDES,
    TinyLexicon,
    g2p_environment,
    run_g2p,
)
from tests.test_commands import check_refused

TRAIN_WORDS, DEV_WORDS = 2500, 300
#: Of letters; what has not learnt to spell comes to more than 70.
WORST_PER = 45.0


@pytest.fixture(scope="module")
def run(tiny_lexicon: TinyLexicon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a tiny training in reverse; the folder above its ``runs`` is the command's."""
    folder = tmp_path_factory.mktemp("reverse")
    write_tsv(folder / "train.tsv", tiny_lexicon.train[:TRAIN_WORDS])
    write_tsv(folder / "dev.tsv", tiny_lexicon.dev[:DEV_WORDS])
    completed = run_g2p(
        "train",
        "direction=phoneme-to-grapheme",
        "data=lexicon",
        "data.train_path=train.tsv",
        "data.dev_path=dev.tsv",
        "data.notation=arpabet",
        *TINY_MODEL_OVERRIDES,
        "trainer.lightning.max_epochs=4",
        "trainer.batches.letters_per_batch=512",
        "logger=none",
        "export.parity_words=50",
        "export.parity_batch_sizes=[1,16]",
        "paths.run_dir=runs/reverse",
        cwd=folder,
    )
    assert completed.returncode == 0, completed.stderr.decode()
    said = completed.stderr.decode()
    assert "entries sound like words of the training part and are left out" in said
    suggested = said.splitlines()[-1].removeprefix("try it: g2p ")
    spelled = run_g2p(*shlex.split(suggested), cwd=folder)
    assert spelled.returncode == 0, spelled.stderr.decode()
    return folder / "runs" / "reverse"


def test_it_learns_to_spell(run: Path) -> None:
    metrics = yaml.safe_load((run / "metrics.yaml").read_text())
    assert 0 < metrics["words"] <= DEV_WORDS
    assert metrics["per"] < WORST_PER


def test_metadata_says_the_direction(run: Path) -> None:
    properties = {item.key: item.value for item in onnx.load(run / "model.onnx").metadata_props}
    description = json.loads(properties[DESCRIPTION_PROPERTY])
    assert description["direction"] == "phoneme-to-grapheme"
    assert "AY" in description["normalization"]["symbols"]
    assert set("abcdefghijklmnopqrstuvwxyz") >= set(description["phones"]) - {"'", "-", "."}


def test_spellings(run: Path) -> None:
    pronouncer = Pronouncer(run / "model.onnx")
    said = ["K AE T", "N AY T", " s  t "]
    answers = pronouncer.pronounce(said)
    assert [answer.word for answer in answers] == said
    completed = run_g2p("infer", "--model", run / "model.onnx", *said)
    assert completed.stdout.decode() == "".join(
        f"{answer.word}\t{''.join(answer.phones)}\n" for answer in answers
    )
    (best,) = pronouncer.pronounce(["K AE T"], with_alignment=True)
    assert [phone for phone, _ in best.alignment] == ["K", "AE", "T"]
    assert sum((letters for _, letters in best.alignment), ()) == best.phones


def test_several_spellings_with_their_alignment(run: Path) -> None:
    flags = ("--n-best", "2", "--show-alignment")
    completed = run_g2p("infer", "--model", run / "model.onnx", "N AY T", *flags)
    lines = [line.split("\t") for line in completed.stdout.decode().splitlines()]
    assert len(lines) == 2
    for word, spelling, probability, alignment in lines:
        assert word == "N AY T" and spelling.isalpha() and 0 < float(probability) <= 1
        letters = [pair.partition("→")[2] for pair in alignment.split()]
        assert "".join(letters).replace("+", "").replace("_", "") == spelling


def test_unknown_phones_are_told(run: Path) -> None:
    completed = run_g2p("infer", "--model", run / "model.onnx", "K XX T")
    assert completed.returncode == 4
    assert "'K XX T': the model does not know 'X'" in completed.stderr.decode()


def test_wrong_spellings_are_counted(run: Path) -> None:
    folder = run.parent.parent
    metrics = yaml.safe_load((run / "metrics.yaml").read_text())
    arguments = ("data=lexicon", "data.train_path=train.tsv", "data.dev_path=dev.tsv")
    completed = run_g2p("evaluate", "--model", "runs/reverse/model.onnx", *arguments, cwd=folder)
    assert completed.returncode == 0, completed.stderr.decode()
    score = yaml.safe_load((run / "evaluation-dev.yaml").read_text())
    for name in ("words", "wrong_words", "phone_errors"):
        assert score[name] == metrics[name]


def test_homophones_are_right_answers(run: Path) -> None:
    (answer,) = Pronouncer(run / "model.onnx").pronounce(["K AE T"])
    folder = run.parent.parent
    spelling = "".join(answer.phones)
    (folder / "one.tsv").write_text(f"kkatt\tK AE T\n{spelling}\tK AE T\n")
    completed = run_g2p(
        "evaluate", "--model", "runs/reverse/model.onnx", "--lexicon", "one.tsv", cwd=folder
    )
    assert completed.returncode == 0, completed.stderr.decode()
    score = yaml.safe_load((run / "evaluation-lexicon-one.yaml").read_text())
    assert (score["words"], score["wrong_words"]) == (1, 0)


def test_export_writes_the_model_anew(run: Path) -> None:
    before = Pronouncer(run / "model.onnx").metadata
    completed = run_g2p("export", "--run", "runs/reverse", cwd=run.parent.parent)
    assert completed.returncode == 0, completed.stderr.decode()
    assert Pronouncer(run / "model.onnx").metadata == before


def test_interrupted_spelling_is_gone_on_with(
    run: Path, tiny_lexicon: TinyLexicon, tmp_path: Path
) -> None:
    source, target = tmp_path / "said.txt", tmp_path / "out.tsv"
    source.write_text(
        "".join(f"{' '.join(entry.phones)}\n" for entry in tiny_lexicon.train[:2000])
    )
    arguments = ["infer", "--model", run / "model.onnx", "--input", source, "--n-best", "2"]
    whole = run_g2p(*arguments)
    assert whole.returncode == 0, whole.stderr.decode()
    arguments += ["--output", target, "--resume", "--overrides", " ".join(SMALL_BLOCKS)]
    partial = tmp_path / "out.tsv.partial"
    with subprocess.Popen(
        [G2P, *arguments], env=g2p_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            wait_for(
                lambda: process.poll() is not None or size_of(partial) > len(whole.stdout) // 3
            )
            assert process.poll() is None
        finally:
            process.kill()
    completed = run_g2p(*arguments, "--workers", "2")
    assert completed.returncode == 0, completed.stderr.decode()
    assert completed.stderr.decode().startswith("going on after ")
    assert target.read_bytes() == whole.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("infer", "--model", "runs/reverse/model.onnx", "--notation", "ipa", "K"),
        ("infer", "--model", "runs/reverse/model.onnx", "--dictionary", "train.tsv", "K"),
        ("package", "--run", "runs/reverse"),
        ("demo", "--model", "runs/reverse/model.onnx"),
        ("export-triton", "--model", "runs/reverse/model.onnx"),
    ],
    ids=["notation", "dictionary", "package", "demo", "triton"],
)
def test_what_needs_pronunciations_is_refused(run: Path, arguments: tuple[str, ...]) -> None:
    completed = run_g2p(*arguments, cwd=run.parent.parent)
    check_refused(completed, "needs a model that pronounces", "phoneme-to-grapheme")


def test_it_is_not_served_by_mlflow(run: Path) -> None:
    arguments = ("serve", "mlflow", "--model", run / "model.onnx", f"serve.port={unused_port()}")
    check_refused(run_g2p(*arguments), "needs a model that pronounces", "phoneme-to-grapheme")


def test_review_is_of_pronunciations(run: Path) -> None:
    arguments = ("review-lexicon", "train.tsv", "direction=phoneme-to-grapheme")
    check_refused(run_g2p(*arguments, cwd=run.parent.parent), "judges pronunciations")


def test_dictionary_of_the_library_is_refused(run: Path) -> None:
    with pytest.raises(UserError, match="a dictionary needs a model that pronounces"):
        Pronouncer(run / "model.onnx", dictionary={"K": [("c",)]})
