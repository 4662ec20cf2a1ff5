"""Every example comes once an epoch, under the budget, in an order that can be repeated."""

from collections import Counter

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.training.alignment import AlignedEntry
from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets
from grapheme_to_phoneme.training.data_module import (
    AlignedDataset,
    LengthBatchSampler,
    LexiconDataModule,
    RaggedRows,
    ShuffledOrder,
    SpellingDataset,
    choose_repetitions,
)
from grapheme_to_phoneme.training.lessons import Lessons

LENGTHS = st.lists(st.integers(0, 20), min_size=1, max_size=60).map(
    lambda lengths: np.array(lengths, dtype=np.int64)
)
PUBLISHED_BATCHES = [[4, 1, 9], [0, 3], [6, 5, 2], [7, 8]]
ENTRIES = tuple(
    AlignedEntry(spelling, tuple((letter.upper(),) for letter in spelling))
    for spelling in ("a", "ab", "abc", "cab", "abcabc", "bcabcabca")
)


def make_sampler(
    lengths: np.ndarray, budget: int, seed: int = 1, epoch: int = 0, **share
) -> LengthBatchSampler:
    order = ShuffledOrder(len(lengths), seed)
    order.set_epoch(epoch)
    return LengthBatchSampler(lengths, budget, order, **share)


def make_data_module(**options) -> LexiconDataModule:
    settings = {
        "aligned": ENTRIES,
        "dev_spellings": ["cab", "a", "zz"],
        "dev_aligned": ENTRIES[:2],
        "alphabets": Alphabets.of_entries(ENTRIES),
        "letters_per_batch": 8,
        "dev_letters_per_batch": 4,
        "seed": 1,
        "workers": 0,
    }
    return LexiconDataModule(**{**settings, **options})


def all_batches(sampler: LengthBatchSampler) -> list[list[int]]:
    batches = list(sampler)
    assert len(sampler) == len(batches)
    return batches


@given(LENGTHS, st.integers(1, 50), st.integers(0, 5), st.booleans())
def test_every_example_once_and_under_the_budget(
    lengths: np.ndarray, budget: int, epoch: int, shuffled: bool
) -> None:
    sampler = (
        make_sampler(lengths, budget, epoch=epoch)
        if shuffled
        else LengthBatchSampler(lengths, budget)
    )
    batches = all_batches(sampler)
    assert sorted(sum(batches, [])) == list(range(len(lengths)))
    for batch in batches:
        # A word that is longer than the budget has a batch to itself.
        assert len(batch) == 1 or len(batch) * max(lengths[batch]) <= budget


def test_batches_hold_similar_lengths() -> None:
    lengths = np.random.default_rng(1).integers(1, 21, 2000)
    for batch in all_batches(make_sampler(lengths, 200)):
        assert np.ptp(lengths[batch]) <= 2
    # Nearly all of a batch is letters, little is padding.
    batches = all_batches(make_sampler(lengths, 200))
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert lengths.sum() > 0.9 * padded


def test_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(1).integers(1, 12, 300)
    first = all_batches(make_sampler(lengths, 60))
    sampler = make_sampler(lengths, 60, epoch=7)
    sampler.sampler.set_epoch(0)
    assert all_batches(sampler) == all_batches(sampler) == first
    assert all_batches(make_sampler(lengths, 60, epoch=1)) != first
    assert all_batches(make_sampler(lengths, 60, seed=2)) != first


def test_order_is_that_of_published_trainings() -> None:
    lengths = np.array([3, 1, 2, 3, 1, 2, 2, 3, 3, 1])
    assert all_batches(make_sampler(lengths, 6)) == PUBLISHED_BATCHES


@given(LENGTHS, st.integers(1, 50))
def test_every_epoch_has_as_many_batches(lengths: np.ndarray, budget: int) -> None:
    """Lightning counts those of the first, and would not validate after a shorter one."""
    assert len({len(make_sampler(lengths, budget, epoch=epoch)) for epoch in range(5)}) == 1


def test_an_epoch_is_no_sorted_list() -> None:
    lengths = np.random.default_rng(1).integers(1, 12, 300)
    longest = [lengths[batch].max() for batch in all_batches(make_sampler(lengths, 60))]
    assert longest != sorted(longest)


def test_validation_goes_from_short_to_long() -> None:
    batches = all_batches(LengthBatchSampler(np.array([3, 1, 2, 3, 1]), 6))
    assert batches == [[1, 4, 2], [0, 3]]


@given(LENGTHS, st.integers(1, 50), st.integers(2, 4))
def test_shares_of_the_processes_are_disjoint(
    lengths: np.ndarray, budget: int, processes: int
) -> None:
    whole = all_batches(make_sampler(lengths, budget))
    shares = [
        all_batches(make_sampler(lengths, budget, rank=rank, world_size=processes))
        for rank in range(processes)
    ]
    examples = sorted(sum(sum(shares, []), []))
    assert len(set(examples)) == len(examples)
    if len(whole) >= processes:
        # Every process takes the same number of steps; less than a round of batches is left.
        assert len({len(share) for share in shares}) == 1
        assert len(whole) - sum(map(len, shares)) < processes
    fixed = [
        all_batches(LengthBatchSampler(lengths, budget, rank=rank, world_size=processes))
        for rank in range(processes)
    ]
    assert sorted(sum(sum(fixed, []), [])) == list(range(len(lengths)))


@given(st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=8), st.data())
def test_padding(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=10))
    longest = max(len(rows[index]) for index in chosen)
    padded = RaggedRows(rows).padded(chosen, 0)
    assert padded.dtype == torch.int64
    assert padded.tolist() == [
        rows[index] + [0] * (longest - len(rows[index])) for index in chosen
    ]


def test_batches_of_aligned_words() -> None:
    alphabets = Alphabets.of_entries(ENTRIES)
    batch = AlignedDataset(ENTRIES, alphabets, is_remembered=False).__getitems__([3, 0])
    assert batch["letters"].tolist() == [[3, 1, 2], [1, PADDING_ID, PADDING_ID]]
    chunks = [alphabets.chunk_ids[(phone,)] for phone in "CAB"]
    assert batch["chunks"].tolist() == [chunks, [chunks[1], START_ID, START_ID]]


def test_remembered_words_come_with_all_their_pronunciations() -> None:
    entries = [
        AlignedEntry(spelling, tuple((phone,) for phone in phones))
        for spelling, phones in (("ab", "XY"), ("cd", "ZZ"), ("ab", "XZ"), ("ab", "YY"))
    ]
    alphabets = Alphabets.of_entries(entries)
    dataset = AlignedDataset(entries, alphabets, is_remembered=True)
    ids = {phone: alphabets.chunk_ids[(phone,)] for phone in "XYZ"}

    def own(indices: list[int]) -> list[list[set[int]]]:
        words = dataset.__getitems__(indices)["own"].tolist()
        return [[set(letter) for letter in word] for word in words]

    first, second = {ids["X"], ids["Y"]}, {ids["Y"], ids["Z"]}
    assert own([0, 2]) == [[first, second]] * 2
    assert own([1, 3]) == [[{ids["Z"]}] * 2, [first, second]]
    assert dataset.__getitems__([1])["own"].shape == (1, 2, 1)
    dev = AlignedDataset(entries, alphabets, is_remembered=False)
    assert "own" not in dev.__getitems__([0])


def test_batches_of_spellings_know_their_words() -> None:
    dataset = SpellingDataset(["ab", "zz", "c"], Alphabets.of_entries(ENTRIES))
    batch = dataset.__getitems__([2, 1, 0])
    assert batch["index"].tolist() == [2, 1, 0]
    # Letters that the model does not know are left out, as in prediction.
    assert batch["letters"].tolist() == [[3, 0], [0, 0], [1, 2]]


def test_loaders_give_what_training_and_validation_need() -> None:
    module = make_data_module()
    train = list(module.train_dataloader())
    assert sum(len(batch["letters"]) for batch in train) == len(ENTRIES)
    spellings, aligned = module.val_dataloader()
    assert sorted(sum((batch["index"].tolist() for batch in spellings), [])) == [0, 1, 2]
    assert all("chunks" not in batch for batch in spellings)
    assert sum(len(batch["chunks"]) for batch in aligned) == 2


def test_no_loss_is_measured_where_no_dev_word_can_be_aligned() -> None:
    assert len(make_data_module(dev_aligned=[]).val_dataloader()) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_lightning_draws_a_new_order_in_every_epoch(workers: int, tmp_path) -> None:
    class Recorder(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.epochs: list[list[list[int]]] = []

        def on_train_epoch_start(self) -> None:
            self.epochs.append([])

        def training_step(self, batch: dict, batch_index: int) -> torch.Tensor:
            self.epochs[-1].append(batch["letters"].tolist())
            return self.weight.sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    recorder = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    module = make_data_module(letters_per_batch=6, workers=workers)
    trainer.fit(recorder, train_dataloaders=None, datamodule=module)
    expected = []
    for epoch in range(3):
        loader = make_data_module(letters_per_batch=6).train_dataloader()
        loader.batch_sampler.sampler.set_epoch(epoch)
        expected.append([batch["letters"].tolist() for batch in loader])
    assert recorder.epochs == expected
    assert expected[0] != expected[1]


def test_small_languages_come_more_often() -> None:
    entries = [
        AlignedEntry(f"{tag}{letter}", ((), ("a",)))
        for tag, letters in (("\ue000", "abcdefghijklmnopqrstuvwx"), ("\ue001", "abcdef"))
        for letter in letters
    ]
    assert choose_repetitions(entries, 0, 0.0).tolist() == [1] * 30
    assert choose_repetitions(entries, 0, 0.5).tolist() == [1] * 24 + [2] * 6
    assert choose_repetitions(entries, 0, 1.0).tolist() == [1] * 24 + [4] * 6
    repetitions = choose_repetitions(entries, 0, 0.5)
    batches = LengthBatchSampler(
        np.full(30, 2), 8, order=ShuffledOrder(30, seed=1), repetitions=repetitions
    )
    drawn = Counter(index for batch in batches for index in batch)
    assert [drawn[index] for index in range(30)] == repetitions.tolist()


@pytest.mark.parametrize(("least", "times"), [(0, 1), (6, 1), (8, 1), (10, 2), (600, 100)])
def test_words_of_a_small_lexicon_come_several_times(least: int, times: int) -> None:
    assert choose_repetitions(ENTRIES, least).tolist() == [times] * len(ENTRIES)


def test_words_made_up_come_once() -> None:
    imagined = AlignedEntry("cc", (("C",), ("C",)))
    letters = sum(len(entry.spelling) for entry in (*ENTRIES, imagined))
    lessons = Lessons(
        [imagined], np.ones((letters, 1), np.uint16), np.ones((letters, 1), np.uint8)
    )
    module = make_data_module(lessons=lessons, repetitions=choose_repetitions(ENTRIES, 12))
    counts = Counter(index for batch in module.train_dataloader().batch_sampler for index in batch)
    assert counts == {**dict.fromkeys(range(len(ENTRIES)), 2), len(ENTRIES): 1}


def test_batches_of_an_epoch_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning asks for their number time and again, which takes a GPU's epoch longer."""
    drawn = []
    draw = LengthBatchSampler._draw
    monkeypatch.setattr(
        LengthBatchSampler, "_draw", lambda self: drawn.append(self.sampler.epoch) or draw(self)
    )
    sampler = make_sampler(np.array([3, 1, 2, 3, 1]), budget=6)
    for epoch in (0, 0, 1):
        sampler.sampler.set_epoch(epoch)
        all_batches(sampler)
    assert drawn == [0, 1]
