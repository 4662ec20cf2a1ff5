"""What the network says of a word depends on the word alone, and its ways of saying it agree."""

import random

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from grapheme_to_phoneme.training.alignment import AlignedEntry
from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets
from grapheme_to_phoneme.training.evidence import LEVELS
from grapheme_to_phoneme.training.memory import remember
from grapheme_to_phoneme.training.network import Network, NetworkDimensions

LETTERS, CHUNKS = 12, 9
ALPHABETS = Alphabets(
    tuple("abcdefghijk"), tuple((f"phone{number}",) for number in range(CHUNKS - 1))
)
DIMENSIONS = {
    "letters": LETTERS,
    "chunks": CHUNKS,
    "encoder_size": 16,
    "encoder_layers": 2,
    "kernel_size": 5,
    "expansion": 2,
    "attention_heads": 2,
    "attention_reach": 4,
    "memory_windows": [[0, 0], [-1, 1], [-3, 0]],
    "memory_slots": 64,
    "memory_size": 8,
    "history_size": 8,
    "decoder_size": 16,
    "output_size": 16,
    "dropout": 0.3,
    "memory_dropout": 0.3,
    "history_dropout": 0.3,
}
TOLERANCE = 1e-5


def make_network(**changes) -> Network:
    torch.manual_seed(1)
    network = Network(NetworkDimensions.from_dict({**DIMENSIONS, **changes})).eval()
    # Larger weights than at the start of a training: the answers of a fresh network are all alike.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3.0)
    if network.memories:
        table = remember(make_lexicon(), ALPHABETS, network.memories[0].windows, 4096)
        for memory in network.memories:
            memory.table = table
    return network


def make_lexicon() -> list[AlignedEntry]:
    """Return random words; some letters in some surroundings are known, others are not."""
    chooser = random.Random(1)
    spellings = ["".join(chooser.choices(ALPHABETS.letters, k=4)) for _ in range(60)]
    return [
        AlignedEntry(spelling, tuple(chooser.choices(ALPHABETS.chunks, k=len(spelling))))
        for spelling in spellings
    ]


@pytest.fixture(scope="module", params=[[[0, 0], [-1, 1], [-3, 0]], []], ids=["memory", "plain"])
def network(request) -> Network:
    return make_network(memory_windows=request.param)


def make_words(lengths: list[int], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, LETTERS, (length,), generator=generator) for length in lengths]


def pad(words: list[Tensor], extra: int = 0) -> Tensor:
    padded = torch.nn.utils.rnn.pad_sequence(words, batch_first=True, padding_value=PADDING_ID)
    return functional.pad(padded, (0, extra), value=PADDING_ID)


def walk(network: Network, word: Tensor, choose) -> tuple[list[int], float]:
    """Go through a word letter by letter with ``step``; ``choose`` picks the chunk of each."""
    gates, hidden = network.decoder.prepare(network.encoder(word[None]))
    table = network.decoder.history_table()
    state = torch.zeros(1, 1, network.decoder.state_size)
    previous = torch.full((1, 1), START_ID)
    path, total = [], 0.0
    for i in range(len(word)):
        scores, state = network.decoder.step(table, gates[i], hidden[i], previous, state)
        chunk = choose(i, scores[0, 0])
        total += float(scores[0, 0, chunk - 1])
        path.append(chunk)
        previous = torch.tensor([[chunk]])
    return path, total


def every_path_score(network: Network, word: Tensor) -> Tensor:
    """Return the log-probability of every possible path, by exhaustion."""
    choices = [torch.arange(1, CHUNKS)] * len(word)
    paths = torch.cartesian_prod(*choices).reshape(-1, len(word))
    logits = network(word.expand(len(paths), -1), paths)[..., START_ID + 1 :]
    log_probabilities = logits.log_softmax(dim=-1)
    return log_probabilities.gather(2, (paths - 1)[..., None]).squeeze(-1).sum(dim=1)


@torch.no_grad()
@pytest.mark.parametrize("beam_size", [1, 4])
def test_padding_never_changes_an_answer(network: Network, beam_size: int) -> None:
    words = make_words([1, 7, 3, 5, 2])
    paths, scores = network.search(pad(words, extra=4), beam_size)
    for row, word in enumerate(words):
        alone_paths, alone_scores = network.search(word[None], beam_size)
        assert torch.equal(paths[row, :, : len(word)], alone_paths[0])
        assert not paths[row, :, len(word) :].any()
        torch.testing.assert_close(scores[row], alone_scores[0], atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_padding_never_changes_the_training_logits(network: Network) -> None:
    words, chunks = make_words([4, 6]), [torch.randint(1, CHUNKS, (size,)) for size in (4, 6)]
    together = network(pad(words, extra=3), pad(chunks, extra=3))
    for row, (word, path) in enumerate(zip(words, chunks, strict=True)):
        alone = network(word[None], path[None])[0]
        torch.testing.assert_close(together[row, : len(word)], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_one_hypothesis_is_greedy_search(network: Network) -> None:
    for word in make_words([1, 4, 9]):
        path, total = walk(network, word, lambda _, scores: int(scores.argmax()) + 1)
        found, score = network.search(word[None])
        assert found[0, 0].tolist() == path
        assert float(score[0, 0]) == pytest.approx(total, abs=TOLERANCE)


@torch.no_grad()
def test_teacher_forcing_says_what_the_steps_say(network: Network) -> None:
    """``forward`` is given all true chunks at once, ``step`` one: they must be one function."""
    for word in make_words([1, 5, 8], seed=2):
        truth = torch.randint(1, CHUNKS, word.shape)
        logits = network(word[None], truth[None])[0]
        # Training spreads probability over the start symbol too, which is no answer.
        expected = logits[:, START_ID + 1 :].log_softmax(dim=-1)
        total = float(expected[torch.arange(len(word)), truth - 1].sum())
        _, walked = walk(network, word, lambda i, _, truth=truth: int(truth[i]))
        assert walked == pytest.approx(total, abs=1e-4)


@torch.no_grad()
def test_search_scores_are_the_probabilities_of_its_paths(network: Network) -> None:
    (word,) = make_words([6])
    paths, scores = network.search(word[None], 5)
    for path, score in zip(paths[0], scores[0], strict=True):
        _, total = walk(network, word, lambda i, _, path=path: int(path[i]))
        assert float(score) == pytest.approx(total, abs=1e-4)


@torch.no_grad()
def test_beam_is_sorted_distinct_and_no_more_than_certain(network: Network) -> None:
    paths, scores = network.search(pad(make_words([2, 3, 6, 8])), 6)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    assert (scores.exp().sum(dim=1) <= 1 + TOLERANCE).all()
    for row in paths.tolist():
        assert len(set(map(tuple, row))) == len(row)


@torch.no_grad()
def test_wide_beam_finds_the_best_of_all_paths(network: Network) -> None:
    (word,) = make_words([3], seed=3)
    everything = every_path_score(network, word)
    assert float(everything.exp().sum()) == pytest.approx(1.0, abs=1e-4)
    _, scores = network.search(word[None], (CHUNKS - 1) ** 2)
    best = everything.topk(5).values
    torch.testing.assert_close(scores[0, :5], best, atol=1e-4, rtol=0)


@torch.no_grad()
def test_beam_wider_than_there_are_answers(network: Network) -> None:
    """A word of one letter has one answer per chunk; the other places stay impossible."""
    (word,) = make_words([1])
    _, scores = network.search(word[None], CHUNKS + 3)
    assert scores[0, : CHUNKS - 1].isfinite().all()
    assert (scores[0, CHUNKS - 1 :] == float("-inf")).all()


@torch.no_grad()
def test_word_of_no_known_letter(network: Network) -> None:
    paths, scores = network.search(torch.zeros(2, 0, dtype=torch.int64), 2)
    assert paths.shape == (2, 2, 0)
    assert scores.tolist() == [[0.0, float("-inf")]] * 2
    paths, scores = network.search(torch.tensor([[0, 0], [3, 4]]), 1)
    assert paths[0].tolist() == [[0, 0]] and scores[0].tolist() == [0.0]


def test_dropout_is_for_training_alone() -> None:
    network = make_network()
    letters, chunks = pad(make_words([6])), torch.ones(1, 6, dtype=torch.int64)
    assert torch.equal(network(letters, chunks), network(letters, chunks))
    network.train()
    assert not torch.equal(network(letters, chunks), network(letters, chunks))


def test_every_weight_learns() -> None:
    network = make_network().train()
    letters, chunks = pad(make_words([6] * 64)), torch.randint(1, CHUNKS, (64, 6))
    logits = network(letters, chunks)
    functional.cross_entropy(logits.flatten(0, 1), chunks.flatten()).backward()
    idle = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert idle == []


def test_one_letter_is_seen_through_the_memory() -> None:
    """Contexts reach further than the convolutions of a single layer do."""
    near = make_network(encoder_layers=0, memory_windows=[[0, 0]])
    far = make_network(encoder_layers=0, memory_windows=[[0, 0], [0, 3]])
    known = ALPHABETS.encode(make_lexicon()[0].spelling)
    one, other = torch.tensor([known]), torch.tensor([[*known[:3], known[3] % 11 + 1]])
    assert torch.equal(near.encoder(one)[0, 0], near.encoder(other)[0, 0])
    assert not torch.equal(far.encoder(one)[0, 0], far.encoder(other)[0, 0])


def test_dimensions_rebuild_a_network() -> None:
    network = make_network()
    values = network.dimensions.to_dict()
    rebuilt = Network(NetworkDimensions.from_dict(values)).eval()
    rebuilt.load_state_dict(network.state_dict())
    letters = pad(make_words([5, 2]))
    assert torch.equal(rebuilt.search(letters)[0], network.search(letters)[0])


def test_averages_take_as_many_channels_in_either_direction() -> None:
    odd = {**DIMENSIONS, "attention_heads": 0, "encoder_size": 15, "expansion": 1}
    assert NetworkDimensions.from_dict(odd)
    with pytest.raises(ValueError, match="an even number with averages"):
        NetworkDimensions.from_dict({**odd, "averages": True})


def test_weights_in_the_arithmetic() -> None:
    network = make_network()
    total = sum(parameter.numel() for parameter in network.parameters())
    # Of letters, of chunks in the history, and of the memory: chunks, levels, their gains; and
    # of attention: its distances.
    windows = len(DIMENSIONS["memory_windows"])
    tables = LETTERS * 16 + CHUNKS * 8 + windows * (CHUNKS * 8 + LEVELS * 8 + LEVELS) + 2 * 9 * 2
    assert network.weights_per_letter() == total - tables
