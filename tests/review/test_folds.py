"""Dividing a lexicon, and a whole review by the command."""

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.lexicon.writing import write_tsv
from grapheme_to_phoneme.review.folds import divide, review
from grapheme_to_phoneme.review.report import COLUMNS
from tests.conftest import (
    G2P,
    TINY_MODEL_OVERRIDES,
    TINY_RUN_LIMIT_S,
    TinyLexicon,
    g2p_environment,
    run_g2p,
)
from tests.test_commands import check_refused

WORDS, FEW_WORDS = 1500, 500
SWAPPED_PAIRS = 8

#: The reviews take seconds, but on a busy machine as long as a training does.
pytestmark = pytest.mark.timeout(TINY_RUN_LIMIT_S + 300)

OVERRIDES = (
    *TINY_MODEL_OVERRIDES,
    "review.folds=2",
    "review.listed=50",
    "trainer.lightning.max_epochs=4",
    "trainer.batches.letters_per_batch=512",
)


def make_entries(words: int) -> list[Entry]:
    entries = [Entry(f"word{number:04}", ("W",)) for number in range(words)]
    return [entry for word in entries for entry in (word, Entry(word.spelling, ("V",)))]


def test_every_entry_is_in_one_fold() -> None:
    entries = make_entries(100)
    folds = divide(entries, 3, 50, seed=1)
    assert sorted(map(len, folds)) == [66, 66, 68]
    together = [entry for fold in folds for entry in fold]
    assert sorted(together, key=str) == sorted(entries, key=str)
    spellings = [{entry.spelling for entry in fold} for fold in folds]
    assert not spellings[0] & spellings[1] and not spellings[1] & spellings[2]
    assert divide(entries[::-1], 3, 50, seed=1)[0][0].spelling == folds[0][0].spelling
    assert divide(entries, 3, 50, seed=2) != folds


@pytest.mark.parametrize(
    ("words", "folds", "named"),
    [
        (10, 3, "10 words is too small for 3 folds: each model would learn from 6, and needs 50"),
        (100, 2, None),
        (99, 2, "too small for 2 folds: each model would learn from 49"),
        (100, 1, "review.folds must be at least 2, not 1"),
    ],
)
def test_too_small(words: int, folds: int, named: str | None) -> None:
    entries = make_entries(words)
    if named is None:
        assert len(divide(entries, folds, 50, seed=1)) == folds
    else:
        with pytest.raises(UserError, match=named):
            divide(entries, folds, 50, seed=1)


@dataclass(frozen=True)
class Reviewed:
    """A finished ``g2p review-lexicon``.

    Attributes:
        folder: the folder that the command ran in.
        entries: what was reviewed.
        swapped: the spellings with another word's pronunciation.
        completed: the finished process.
    """

    folder: Path
    entries: list[Entry]
    swapped: set[str]
    completed: subprocess.CompletedProcess[bytes]

    def rows(self) -> list[list[str]]:
        """The lines of the table below its head."""
        text = (self.folder / "reviews" / "mine" / "review.tsv").read_text("utf-8")
        head, *rows = [line.split("\t") for line in text.splitlines()]
        assert tuple(head) == COLUMNS
        return rows


@pytest.fixture(scope="module")
def reviewed(tiny_lexicon: TinyLexicon, tmp_path_factory: pytest.TempPathFactory) -> Reviewed:
    """A review of few words by a tiny network, in which some pronunciations are swapped."""
    folder = tmp_path_factory.mktemp("review")
    entries = list(tiny_lexicon.train[:WORDS])
    chosen = random.Random(1).sample(range(len(entries)), 2 * SWAPPED_PAIRS)
    swapped = set()
    for one, other in zip(chosen[::2], chosen[1::2], strict=True):
        first, second = entries[one], entries[other]
        entries[one] = Entry(first.spelling, second.phones)
        entries[other] = Entry(second.spelling, first.phones)
        swapped |= {first.spelling, second.spelling}
    write_tsv(folder / "mine.tsv", entries)
    completed = run_g2p("review-lexicon", "mine.tsv", *OVERRIDES, cwd=folder, timeout=900)
    assert completed.returncode == 0, completed.stderr.decode()
    return Reviewed(folder, entries, swapped, completed)


def test_every_entry_is_listed_once(reviewed: Reviewed) -> None:
    rows = reviewed.rows()
    listed = [Entry(row[2], tuple(row[3].split())) for row in rows]
    assert sorted(listed, key=str) == sorted(reviewed.entries, key=str)
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))
    improbabilities = [float(row[1]) for row in rows]
    assert improbabilities == sorted(improbabilities, reverse=True)
    for row in rows:
        assert (row[3] == row[4]) == (float(row[1]) == 0.0) or float(row[1]) < 0.01
        assert bool(row[5]) == (row[3] != row[4])


def test_swapped_entries_come_first(reviewed: Reviewed) -> None:
    rows = reviewed.rows()
    first = {row[2] for row in rows[: len(rows) // 10]}
    assert len(reviewed.swapped & first) >= SWAPPED_PAIRS


def test_progress_and_what_is_left(reviewed: Reviewed) -> None:
    said = reviewed.completed.stderr.decode()
    assert reviewed.completed.stdout == b""
    for text in (
        "fold 1 of 2: epoch 1 of 4: training loss",
        "fold 2 of 2: epoch 4 of 4",
        " left",
        "2 of 2 done",
        "wrote reviews/mine/review.tsv",
    ):
        assert text in said
    for noise in ("Warning", "GPU available", "litlogger", "Traceback"):
        assert noise not in said
    target = reviewed.folder / "reviews" / "mine"
    assert {path.name for path in reviewed.folder.iterdir()} == {"mine.tsv", "reviews"}
    assert not list(target.rglob("*.ckpt"))
    page = (target / "review.html").read_text("utf-8")
    assert "Review of mine.tsv" in page and f"50 of {len(reviewed.entries):,} entries" in page


def test_finished_folds_are_kept(reviewed: Reviewed) -> None:
    target = reviewed.folder / "reviews" / "mine"
    before = reviewed.rows()
    kept = (target / "fold-1.jsonl").stat().st_mtime_ns
    (target / "fold-2.jsonl").unlink()
    (target / "review.tsv").unlink()
    completed = run_g2p("review-lexicon", "mine.tsv", *OVERRIDES, cwd=reviewed.folder, timeout=900)
    assert completed.returncode == 0, completed.stderr.decode()
    assert "1 of 2 folds are finished already" in completed.stderr.decode()
    assert "fold 1 of 2: " not in completed.stderr.decode()
    assert (target / "fold-1.jsonl").stat().st_mtime_ns == kept
    assert {row[2] for row in reviewed.rows()} == {row[2] for row in before}


def test_killed_review_goes_on(tiny_lexicon: TinyLexicon, tmp_path: Path) -> None:
    write_tsv(tmp_path / "mine.tsv", tiny_lexicon.train[:FEW_WORDS])
    command = ("review-lexicon", "mine.tsv", *OVERRIDES)
    process = subprocess.Popen(
        [G2P, *command], cwd=tmp_path, env=g2p_environment(), stderr=subprocess.PIPE, text=True
    )
    with process:
        for line in process.stderr:
            if "epoch 2 of 4" in line:
                break
        process.kill()
        # The folds' processes write there, too: it ends when they do.
        process.stderr.read()
    assert not (tmp_path / "reviews" / "mine" / "review.tsv").exists()
    completed = run_g2p(*command, cwd=tmp_path, timeout=900)
    assert completed.returncode == 0, completed.stderr.decode()
    assert "going on from" in completed.stderr.decode()
    assert (tmp_path / "reviews" / "mine" / "review.tsv").is_file()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("seed=2",), "reviews/mine holds the review of another lexicon, or with other settings"),
        (("review.folds=3",), "reviews/mine holds the review of another lexicon"),
        (("review.folds=1500",), "too small for 1500 folds"),
        (("review.least_words=5000",), "is too small for 2 folds"),
    ],
)
def test_other_settings_are_refused(
    reviewed: Reviewed, overrides: tuple[str, ...], named: str
) -> None:
    completed = run_g2p(
        "review-lexicon", "mine.tsv", *OVERRIDES, *overrides, cwd=reviewed.folder, timeout=300
    )
    said = completed.stderr.decode()
    assert completed.returncode == 2
    assert said.splitlines()[-1].startswith("g2p: error: ") and named in said
    assert "Traceback" not in said
    assert (reviewed.folder / "reviews" / "mine" / "review.tsv").is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "say which lexicon to review: g2p review-lexicon FILE"),
        (("review.folds=2",), "say which lexicon"),
        (("missing.tsv",), "missing.tsv"),
        (("empty.tsv",), "empty.tsv"),
        (("empty.tsv", "review.no_such=1"), "review.no_such"),
    ],
)
def test_bad_input(tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    (tmp_path / "empty.tsv").write_text("")
    check_refused(run_g2p("review-lexicon", *arguments, cwd=tmp_path), named)
    assert {path.name for path in tmp_path.iterdir()} == {"empty.tsv"}


def test_judges_that_know_the_words_are_refused(tmp_path: Path) -> None:
    config = compose_config(["data=lexicon", "start_run=runs/several"])
    with pytest.raises(UserError, match="start_run: what a finished run has learnt from may"):
        review(tmp_path / "mine.tsv", config, tmp_path / "reviews")
