"""Teachers speak with one voice, and what they say reaches the network that learns from them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.training.alphabets import PADDING_ID
from grapheme_to_phoneme.training.data_module import TaughtDataset
from grapheme_to_phoneme.training.distillation import opinion, pronounce_together, teach
from grapheme_to_phoneme.training.lessons import SHARE_PARTS, Lessons
from grapheme_to_phoneme.training.memory import UNSEEN_ID
from grapheme_to_phoneme.training.network import Network
from tests.training.conftest import Train
from tests.training.test_lightning_module import JOINT, make_module
from tests.training.test_network import (
    ALPHABETS,
    CHUNKS,
    make_lexicon,
    make_network,
    make_words,
    pad,
)

NO_MEMORY = {"memory_windows": [], "encoder_size": 8, "decoder_size": 12}
WORDS = ["abc", "kabcdef", "jj", "gacki"]


def make_teachers() -> list[Network]:
    """Return networks of different sizes, one with a memory, one joint."""
    return [make_network(), make_network(**NO_MEMORY), make_network(**JOINT)]


def test_one_teacher_says_what_it_says_alone() -> None:
    network, letters = make_network(), pad(make_words([3, 7, 1, 5]))
    path, said = pronounce_together([network], letters)
    expected, _ = network.search(letters)
    assert torch.equal(path, torch.where(letters != PADDING_ID, expected[:, 0], 0))
    thought = opinion([network], letters, path, None)
    logits = network(letters, path)[..., 1:]
    torch.testing.assert_close(thought, logits.log_softmax(-1))
    inside = letters != PADDING_ID
    torch.testing.assert_close(said[inside], thought[inside])


def test_members_of_a_joint_teacher_agree_as_in_its_search() -> None:
    network, letters = make_network(**JOINT), pad(make_words([3, 7, 1, 5]))
    paths, scores = network.search(letters)
    thought = opinion([network], letters, paths[:, 0], None)
    said = thought.gather(-1, (paths[:, 0] - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
    inside = letters != PADDING_ID
    torch.testing.assert_close((said * inside).sum(-1), scores[:, 0], atol=1e-4, rtol=1e-4)


def test_teachers_together_choose_what_they_think_together() -> None:
    teachers, letters = make_teachers(), pad(make_words([4, 8, 6]))
    path, said = pronounce_together(teachers, letters)
    thought = opinion(teachers, letters, path, None)
    inside = letters != PADDING_ID
    torch.testing.assert_close(said[inside], thought[inside])
    assert torch.equal(thought.argmax(-1)[inside] + 1, path[inside])
    torch.testing.assert_close(thought.exp().sum(-1), torch.ones(letters.shape))
    geometric = torch.stack([opinion([one], letters, path, None) for one in teachers]).mean(0)
    torch.testing.assert_close(thought, geometric.log_softmax(-1))


def test_lessons_stand_in_the_order_of_the_words() -> None:
    teachers, entries = make_teachers(), make_lexicon()
    lessons = teach(teachers, ALPHABETS, entries, WORDS, kept_chunks=3, letters_per_batch=16)
    assert [entry.spelling for entry in lessons.imagined] == WORDS
    letters = sum(len(entry.spelling) for entry in (*entries, *lessons.imagined))
    assert lessons.chunks.shape == lessons.shares.shape == (letters, 3)
    assert (np.diff(lessons.shares.astype(int), axis=1) <= 0).all()
    place = sum(len(entry.spelling) for entry in entries)
    for entry in lessons.imagined:
        ids = torch.tensor([ALPHABETS.encode(entry.spelling)])
        path, _ = pronounce_together(teachers, ids)
        assert [ALPHABETS.chunk_ids[chunk] for chunk in entry.chunks] == path[0].tolist()
        rows = slice(place, place + len(entry.spelling))
        assert lessons.chunks[rows, 0].tolist() == path[0].tolist()
        shares = opinion(teachers, ids, path, None).exp().max(-1).values[0]
        assert lessons.shares[rows, 0] / SHARE_PARTS == pytest.approx(shares.tolist(), abs=0.003)
        place += len(entry.spelling)


def test_lessons_come_back_from_their_file(tmp_path: Path) -> None:
    entries, path = make_lexicon(), tmp_path / "lessons.npz"
    lessons = teach(
        [make_network()], ALPHABETS, entries, WORDS, kept_chunks=2, letters_per_batch=4096
    )
    lessons.save(path, ALPHABETS)
    read = Lessons.load(path, entries, ALPHABETS)
    assert read.imagined == lessons.imagined
    assert np.array_equal(read.chunks, lessons.chunks)
    assert np.array_equal(read.shares, lessons.shares)
    assert [file.name for file in tmp_path.iterdir()] == ["lessons.npz"]
    with pytest.raises(UserError, match="belongs to another lexicon: begin a new run"):
        Lessons.load(path, entries[1:], ALPHABETS)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read: remove it"):
        Lessons.load(path, entries, ALPHABETS)


def test_batches_say_whom_to_trust() -> None:
    entries = make_lexicon()
    lessons = teach(
        [make_network()], ALPHABETS, entries, WORDS, kept_chunks=2, letters_per_batch=4096
    )
    dataset = TaughtDataset(entries, ALPHABETS, lessons, share=0.25, is_remembered=True)
    assert len(dataset) == len(entries) + len(WORDS)
    batch = dataset.__getitems__([0, len(entries) + 1])
    assert batch["trust"].tolist() == [0.75, 0.0]
    assert (batch["own"][0] != UNSEEN_ID).all() and (batch["own"][1] == UNSEEN_ID).all()
    start = sum(len(entry.spelling) for entry in entries) + len(WORDS[0])
    length = len(WORDS[1])
    expected = lessons.chunks[start : start + length]
    assert batch["opinion_chunks"][1].tolist() == expected.tolist()
    assert batch["opinion_shares"][1].numpy() * SHARE_PARTS == pytest.approx(
        lessons.shares[start : start + length]
    )


def test_words_that_the_memory_has_not_seen_lose_nothing() -> None:
    (memory,) = make_network().memories
    letters = pad(make_words([4, 6]))
    _, _, seen = memory.look_up(letters, torch.zeros_like(letters).unsqueeze(-1))
    _, shares, unseen = memory.look_up(letters, torch.full_like(letters, UNSEEN_ID).unsqueeze(-1))
    _, expected, levels = memory.look_up(letters, None)
    inside = letters != PADDING_ID
    assert torch.equal(unseen[inside], levels[inside]) and (seen <= unseen).all()
    torch.testing.assert_close(shares[inside], expected[inside].to(shares.dtype))


@pytest.mark.parametrize("changes", [{}, JOINT], ids=["one network", "members"])
def test_loss_weighs_teachers_against_the_lexicon(changes: dict) -> None:
    module = make_module(0.0, **changes).eval()
    letters = pad(make_words([3, 6, 5]))
    truth = torch.arange(letters.numel()).view_as(letters) % (CHUNKS - 1) + 1
    taught = (truth + 2) % (CHUNKS - 1) + 1

    def loss(trust: float) -> torch.Tensor:
        batch = {
            "letters": letters,
            "chunks": truth,
            "opinion_chunks": torch.stack((taught, truth), dim=-1),
            "opinion_shares": torch.tensor([0.75, 0.25]).expand(*letters.shape, 2),
            "trust": torch.full((len(letters),), trust),
        }
        return module.training_step(batch, 0)

    inside = letters != PADDING_ID
    logits = module.network(letters, truth)
    inside = inside.expand(logits.shape[:-1])
    logits, chunks = logits[inside], truth.expand(inside.shape)[inside]
    told = functional.cross_entropy(logits, chunks, label_smoothing=0.05)
    torch.testing.assert_close(loss(1.0), told)
    others = taught[letters != PADDING_ID].repeat(len(logits) // len(taught[letters != 0]))
    believed = 0.75 * functional.cross_entropy(logits, others)
    believed = believed + 0.25 * functional.cross_entropy(logits, chunks)
    torch.testing.assert_close(loss(0.0), believed)
    torch.testing.assert_close(loss(0.5), 0.5 * (told + believed))


def test_training_with_teachers(train: Train, tmp_path: Path, caplog) -> None:
    """Two teachers of different kinds, words without pronunciations, and words made up."""
    words = tmp_path / "words.txt"
    # One of them is in the lexicon, one has a letter that it does not have.
    known = (tmp_path / "train.tsv").read_text().split("\t")[0]
    words.write_text(f"Blickering\nstonish\n{known}\nпривет\n\nstonish\n", encoding="utf-8")
    caplog.set_level("INFO")
    arguments = (
        "+distillation.teachers.plain.model.memory_windows=[]",
        "+distillation.teachers.wide.model.encoder_size=64",
        f"distillation.spellings_path={words}",
        "distillation.imagined_words=30",
        "trainer.lightning.max_epochs=1",
        "logger=none",
    )
    run = train("taught", *arguments)
    assert "teacher 1 of 2: plain" in caplog.text and "teacher 2 of 2: wide" in caplog.text
    assert f"{words}: 2 words without pronunciation" in caplog.text
    assert "30 words made up of letter n-grams" in caplog.text
    assert sorted(path.name for path in (run / "teachers").iterdir()) == [
        "lessons.npz",
        "plain",
        "wide",
    ]
    with np.load(run / "teachers" / "lessons.npz") as lessons:
        spellings = lessons["spellings"].tolist()
    assert spellings[:2] == ["blickering", "stonish"]
    assert len(set(spellings)) == len(spellings) == 32
    assert (run / "model.onnx").is_file()
    # What has learnt may teach, and a teacher that is null does not.
    teachers = (f"+distillation.teachers.earlier={run}", "+distillation.teachers.nobody=null")
    train("pupil", *teachers, *arguments[-2:])
    assert "teacher 1 of 1: earlier" in caplog.text
    assert not (tmp_path / "pupil" / "teachers" / "earlier").exists()
    assert (tmp_path / "pupil" / "model.onnx").is_file()
    # A run that goes on reads what is there, and asks no teacher a second time.
    again = tmp_path / "again" / "teachers"
    again.mkdir(parents=True)
    (again / "lessons.npz").write_bytes(b"broken")
    with pytest.raises(UserError, match="lessons.npz cannot be read: remove it"):
        train("again", *arguments)


def test_missing_teacher_is_named(train: Train) -> None:
    with pytest.raises(UserError, match=r"nowhere/checkpoints/best\.ckpt is missing: name a"):
        train("run", "+distillation.teachers.earlier=nowhere", "logger=none")


@pytest.mark.parametrize("words", ["spellings_path=words.txt", "imagined_words=30"])
def test_words_without_teachers_are_refused(train: Train, words: str) -> None:
    with pytest.raises(UserError, match="distillation has words to pronounce and nobody to do it"):
        train("run", f"distillation.{words}", "logger=none")


def test_missing_word_list_is_named(train: Train) -> None:
    with pytest.raises(UserError, match=r"distillation\.spellings_path: nowhere\.txt cannot be"):
        train(
            "run",
            "+distillation.teachers.plain={}",
            "distillation.spellings_path=nowhere.txt",
            "logger=none",
        )
