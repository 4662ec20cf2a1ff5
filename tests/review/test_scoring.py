"""What a network thinks of a given pronunciation, against exhaustion."""

from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.review.scoring import UNKNOWN_CHUNK, force, judge
from grapheme_to_phoneme.training.alphabets import START_ID, Alphabets
from grapheme_to_phoneme.training.network import Network
from tests.training.test_network import make_network, pad

ALPHABETS = Alphabets(
    tuple("abcdefghijk"),
    (("A",), (), ("B",), ("A", "B"), ("C",), ("B", "C"), ("D",), ("A", "A")),
)
WIDE = 64


@pytest.fixture(
    scope="module",
    params=[{}, {"memory_windows": [], "members": 2}],
    ids=["one network", "two members"],
)
def network(request) -> Network:
    return make_network(**request.param)


def alignments(phones: tuple[str, ...], letters: int) -> Iterator[tuple[int, ...]]:
    """Yield every sequence of known chunks, one for each letter, that spells the phones."""
    for ids in product(ALPHABETS.chunk_ids.values(), repeat=letters):
        if ALPHABETS.phones_of(ids) == phones:
            yield ids


@torch.no_grad()
def score_of(network: Network, word: Tensor, path: tuple[int, ...]) -> float:
    logits = network(word[None], torch.tensor([path]))
    if network.dimensions.members > 1:
        logits = logits.log_softmax(dim=-1).mean(dim=0)
    answers = logits[0, :, START_ID + 1 :].log_softmax(dim=-1)
    return sum(float(answers[i, chunk - 1]) for i, chunk in enumerate(path))


@pytest.mark.parametrize(
    ("spelling", "phones"), [("abc", "A B C"), ("ka", "A B C"), ("acef", "A A B"), ("b", "D")]
)
def test_best_alignment_of_all(network: Network, spelling: str, phones: str) -> None:
    said = tuple(phones.split())
    word = torch.tensor(ALPHABETS.encode(spelling))
    best = max(alignments(said, len(word)), key=lambda path: score_of(network, word, path))
    sizes, scores = force(network, ALPHABETS, word[None], [said], WIDE)
    assert sizes[0].tolist() == [len(ALPHABETS.chunks[chunk - 1]) for chunk in best]
    assert float(scores[0]) == pytest.approx(score_of(network, word, best), abs=1e-4)


def test_batch_changes_nothing(network: Network) -> None:
    spellings = ["abc", "k", "acefgd", "ba"]
    said = [("A", "B", "C"), ("D",), ("B", "C", "A", "A"), ("X", "A", "B", "C", "D")]
    words = [torch.tensor(ALPHABETS.encode(spelling)) for spelling in spellings]
    sizes, scores = force(network, ALPHABETS, pad(words), said, WIDE)
    for row, word in enumerate(words):
        alone_sizes, alone_scores = force(network, ALPHABETS, word[None], [said[row]], WIDE)
        assert sizes[row, : len(word)].tolist() == alone_sizes[0].tolist()
        assert sizes[row].sum() == len(said[row])
        assert float(scores[row]) == pytest.approx(float(alone_scores[0]), abs=1e-4)


def test_unknown_chunks_are_bounded(network: Network) -> None:
    said = tuple("XYXYXYX")
    sizes, scores = force(network, ALPHABETS, torch.tensor([[1, 2]]), [said], 4)
    assert sizes.sum() == len(said)
    assert float(scores[0]) >= 2 * UNKNOWN_CHUNK


def test_own_answer_is_not_improbable(network: Network) -> None:
    words = ["abc", "keg", "jab"]
    paths, _ = network.search(pad([torch.tensor(ALPHABETS.encode(word)) for word in words]), WIDE)
    entries = [
        Entry(word, ALPHABETS.phones_of(path.tolist()))
        for word, path in zip(words, paths[:, 0], strict=True)
    ]
    for judgement in judge(network, ALPHABETS, entries, WIDE, 1000):
        assert judgement.log_ratio == 0
        assert judgement.proposed == judgement.given


def test_order_and_contents(network: Network) -> None:
    entries = [
        Entry("abcdef", ("D", "A", "B", "C")),
        Entry("ab", ("X",)),
        Entry("éab", ("A", "B", "C")),
        Entry("éé", ("A", "B")),
        Entry("k", ("A",) * 9),
    ]
    judgements = judge(network, ALPHABETS, entries, 8, 6)
    for entry, judgement in zip(entries, judgements, strict=True):
        assert judgement.spelling == entry.spelling
        assert judgement.given_phones == entry.phones
        assert len(judgement.given) == len(judgement.proposed) == len(entry.spelling)
        assert judgement.log_ratio >= 0
    assert judgements[2].given[0] == () == judgements[2].proposed[0]
    assert judgements[1].log_ratio > 0 and judgements[3].log_ratio > 0
