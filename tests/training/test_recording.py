"""Batches of one shape, and steps that a GPU records."""

from types import SimpleNamespace

import pytest
import torch

from grapheme_to_phoneme.training.callbacks import ExponentialAverage
from grapheme_to_phoneme.training.data_module import Batch, filled
from grapheme_to_phoneme.training.objective import Objective
from grapheme_to_phoneme.training.recording import RECORDED_AFTER, Recorder, can_replay
from tests.training.test_network import CHUNKS, make_network, make_words, pad

WITHOUT_MEMORY = {"memory_windows": [], "dropout": 0.3}
RECURRENT = {**WITHOUT_MEMORY, "encoder_layers": 0, "recurrent_layers": 2}

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def make_batch(lengths: list[int], kept: int = 0) -> Batch:
    """Return a batch of words, with what a teacher thinks of them if ``kept`` chunks say it."""
    letters = pad(make_words(lengths))
    batch = {
        "letters": letters,
        "chunks": torch.arange(letters.numel()).view_as(letters) % (CHUNKS - 1) + 1,
    }
    if kept:
        shape = (*letters.shape, kept)
        batch["opinion_chunks"] = torch.ones(shape, dtype=torch.int64)
        batch["opinion_shares"] = torch.full(shape, 1.0 / kept)
        batch["trust"] = torch.full((len(letters),), 0.25)
    return batch


@pytest.mark.parametrize("kept", [0, 2], ids=["alone", "taught"])
@pytest.mark.parametrize("consistency", [0.0, 1.0])
def test_empty_words_change_no_loss(kept: int, consistency: float) -> None:
    batch = make_batch([3, 6, 5], kept)
    full = filled(batch, letters_per_batch=50)
    # Eight words of six letters have room in it.
    assert {name: len(part) for name, part in full.items()} == dict.fromkeys(batch, 8)
    assert all(torch.equal(full[name][:3], part) for name, part in batch.items())
    objective = Objective(make_network(**WITHOUT_MEMORY).eval(), 0.05, consistency)
    torch.testing.assert_close(objective(full), objective(batch))
    # What is above the budget already stays as it is.
    assert len(filled(batch, letters_per_batch=5)["letters"]) == 3


@pytest.mark.parametrize(
    ("device", "processes", "has_memory", "expected"),
    [
        ("cuda", 1, False, True),
        ("cuda", 1, True, False),
        ("cuda", 2, False, False),
        ("cpu", 1, False, False),
    ],
)
def test_where_steps_can_be_recorded(
    device: str, processes: int, has_memory: bool, expected: bool
) -> None:
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer = SimpleNamespace(strategy=strategy, world_size=processes)
    assert can_replay(trainer, has_memory) is expected


def test_average_goes_on_where_a_resumed_run_was() -> None:
    average = ExponentialAverage(0.5, warmup=10)
    weights, averaged = torch.tensor([1.0, 8.0]), torch.zeros(2)
    expected = averaged
    # (1 + n) / (10 + n) is the smaller one at first, the decay in the end.
    for done, decay in ((3, 4 / 13), (4, 5 / 14)):
        expected = decay * expected + (1 - decay) * weights
        average([averaged], [weights], torch.tensor(done))
        torch.testing.assert_close(averaged, expected)
    ExponentialAverage(0.5, warmup=10)([averaged], [weights], torch.tensor(1000))
    torch.testing.assert_close(averaged, 0.5 * (expected + weights))


def test_training_goes_on_where_nothing_can_be_recorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("operation not permitted\nmore about it")

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    objective = Objective(make_network(**WITHOUT_MEMORY).eval(), 0.05, 0.0)
    recorder = Recorder(objective, mixes_bfloat16=False)
    batch = make_batch([3, 6, 5])
    for _ in range(RECORDED_AFTER + 2):
        recorder.prepare(batch)
    torch.testing.assert_close(recorder.replay(batch), objective(batch))
    assert caplog.messages == ["steps are not recorded: operation not permitted"]


@NEEDS_GPU
@pytest.mark.parametrize("changes", [WITHOUT_MEMORY, RECURRENT], ids=["attention", "recurrent"])
def test_replay_says_what_the_steps_say(changes: dict) -> None:
    batches = [
        {name: part.cuda() for name, part in make_batch(lengths, kept=2).items()}
        for lengths in ([3, 6, 5], [6, 6, 2], [4, 1, 4])
    ]
    silent = make_network(**{**changes, "dropout": 0.0, "history_dropout": 0.0}).cuda().train()
    objective = Objective(silent, label_smoothing=0.05, consistency=1.0)
    recorder = Recorder(objective, mixes_bfloat16=False)
    # The first two share a graph; the third has another shape, and none.
    for batch in batches[:RECORDED_AFTER]:
        recorder.prepare(batch)
    for batch in batches:
        gradients = []
        for step in (recorder.replay, objective):
            silent.zero_grad()
            loss = step(batch)
            loss.backward()
            gradients.append([loss.detach().clone()] + [each.grad for each in silent.parameters()])
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@NEEDS_GPU
def test_replay_drops_by_the_seed() -> None:
    network = make_network(**WITHOUT_MEMORY).cuda().train()
    recorder = Recorder(Objective(network, 0.05, 0.0), mixes_bfloat16=True)
    batch = {name: part.cuda() for name, part in make_batch([3, 6, 5]).items()}
    for _ in range(RECORDED_AFTER):
        recorder.prepare(batch)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(recorder.replay(batch).item())
    assert losses[0] == losses[1] != losses[2]
