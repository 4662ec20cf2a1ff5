"""The benchmark of training compares settings that learn the same."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import training
from grapheme_to_phoneme.lexicon.writing import write_tsv
from grapheme_to_phoneme.training.data_module import LengthBatchSampler, ShuffledOrder
from grapheme_to_phoneme.training.operators import Dropout, ShiftedProducts
from tests.conftest import TINY_MODEL_OVERRIDES, TinyLexicon


def test_plain_operators_do_the_same_and_go_again() -> None:
    states, taps, bias = torch.randn(3, 7, 4), torch.randn(5, 4), torch.randn(4)
    expected = ShiftedProducts.apply(states, taps, bias)
    with training.plain_operators():
        torch.testing.assert_close(ShiftedProducts.apply(states, taps, bias), expected)
        assert Dropout.forward is torch.nn.Dropout.forward
        assert Dropout(0.5)(torch.ones(1000)).count_nonzero() < 700
    assert Dropout.forward is not torch.nn.Dropout.forward
    assert torch.equal(ShiftedProducts.apply(states, taps, bias), expected)


def test_mixed_batches_hold_the_same_words_of_other_lengths() -> None:
    lengths = np.repeat(np.arange(2, 12), 30)
    ours, mixed = (
        list(kind(lengths, 100, order=ShuffledOrder(len(lengths), seed=1)))
        for kind in (LengthBatchSampler, training.MixedBatchSampler)
    )
    assert len(mixed) == len(ours)
    assert sorted(sum(mixed, [])) == sorted(sum(ours, [])) == list(range(len(lengths)))
    spread = [np.mean([np.ptp(lengths[batch]) for batch in kind]) for kind in (ours, mixed)]
    assert spread[0] <= 1 and spread[1] > 4


def test_every_setting_is_timed(
    tiny_lexicon: TinyLexicon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(training, "STEPS", 2)
    monkeypatch.setattr(training, "STEPS_BEFORE", 1)
    path = tmp_path / "train.tsv"
    write_tsv(path, tiny_lexicon.train[:300])
    training.measure(
        "data=lexicon", f"data.train_path={path}", *TINY_MODEL_OVERRIDES, threads=threads, rounds=1
    )
    torch.set_flush_denormal(False)
    lines = capsys.readouterr().out.splitlines()
    found = [re.fullmatch(r" *([\d,]+) words/s +([\d.]+)  \w.*", line) for line in lines[2:]]
    assert len(found) == 4 and all(found)
    assert found[0] and found[0][2] == "1.00"
