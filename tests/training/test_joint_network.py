"""Recurrent blocks, and several networks that answer as one."""

import pytest
import torch
from torch.nn import functional

from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.normalization import Normalization
from grapheme_to_phoneme.packaging.export import check_parity
from grapheme_to_phoneme.packaging.onnx_export import assemble, export_parts, write_model
from grapheme_to_phoneme.training.alphabets import START_ID
from grapheme_to_phoneme.training.network import Network, NetworkDimensions
from tests.packaging.test_export import export_settings
from tests.training.test_network import (
    ALPHABETS,
    CHUNKS,
    DIMENSIONS,
    make_network,
    make_words,
    pad,
    walk,
)

MEMBERS = 3
JOINT = {"memory_windows": [], "encoder_layers": 0, "recurrent_layers": 2, "members": MEMBERS}
#: Two with a memory and attention, and another of other sizes with averages instead.
MIXED = {
    "members": 2,
    "companion": {
        **DIMENSIONS,
        "memory_windows": [],
        "attention_heads": 0,
        "averages": True,
        "encoder_size": 24,
        "decoder_size": 20,
        "output_size": 28,
        "history_size": 4,
    },
}


@pytest.fixture(scope="module", params=[JOINT, MIXED], ids=["recurrent", "mixed"])
def network(request: pytest.FixtureRequest) -> Network:
    return make_network(**request.param)


def member_of(network: Network, number: int) -> Network:
    """Return one member as a network of its own."""
    member = Network(network.dimensions.of_members()[number]).eval()
    member.encoder.load_state_dict(network.encoder.members[number].state_dict())
    member.decoder.load_state_dict(network.decoder.members[number].state_dict())
    return member


@torch.no_grad()
@pytest.mark.parametrize("beam_size", [1, 4])
def test_padding_never_changes_an_answer(network: Network, beam_size: int) -> None:
    words = make_words([1, 7, 3, 5, 2])
    paths, scores = network.search(pad(words, extra=4), beam_size)
    for row, word in enumerate(words):
        alone_paths, alone_scores = network.search(word[None], beam_size)
        assert torch.equal(paths[row, :, : len(word)], alone_paths[0])
        torch.testing.assert_close(scores[row], alone_scores[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("changed", [0, 8])
def test_recurrent_blocks_see_both_ends(changed: int) -> None:
    network = make_network(**{**JOINT, "recurrent_layers": 1, "members": 1})
    (word,) = make_words([9])
    other = word.clone()
    other[changed] = word[changed] % 11 + 1
    difference = (
        (network.encoder(word[None]) - network.encoder(other[None]))[:, 0].abs().sum(dim=-1)
    )
    assert (difference > 0).all()


@torch.no_grad()
def test_answer_is_the_normalised_geometric_mean_of_the_members(network: Network) -> None:
    (word,) = make_words([6])
    truth = torch.randint(1, CHUNKS, word.shape)
    opinions = torch.stack(
        [
            member_of(network, number)(word[None], truth[None])[0, :, START_ID + 1 :].log_softmax(
                -1
            )
            for number in range(MEMBERS)
        ]
    )
    expected = opinions.mean(dim=0).log_softmax(dim=-1)
    total = float(expected[torch.arange(len(word)), truth - 1].sum())
    _, walked = walk(network, word, lambda i, _: int(truth[i]))
    assert walked == pytest.approx(total, abs=1e-4)


@torch.no_grad()
def test_weights_tell_how_much_a_member_counts() -> None:
    network = make_network(**MIXED)
    words = pad(make_words([5, 6, 7] * 8))
    network.decoder.member_weights = [0.0, 1.0, 0.0]
    weighted, scores = network.search(words)
    alone, own_scores = member_of(network, 1).search(words)
    assert torch.equal(weighted, alone)
    torch.testing.assert_close(scores, own_scores)


@torch.no_grad()
def test_members_are_trained_on_their_own_logits(network: Network) -> None:
    letters, chunks = pad(make_words([5, 3])), torch.randint(1, CHUNKS, (2, 5))
    logits = network(letters, chunks)
    assert logits.shape == (MEMBERS, 2, 5, CHUNKS)
    for number in range(MEMBERS):
        torch.testing.assert_close(logits[number], member_of(network, number)(letters, chunks))
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("changes", [JOINT, MIXED], ids=["recurrent", "mixed"])
def test_every_weight_learns(changes: dict) -> None:
    network = make_network(**changes).train()
    letters, chunks = pad(make_words([6] * 64)), torch.randint(1, CHUNKS, (64, 6))
    logits = network(letters, chunks)
    targets = chunks.expand(logits.shape[:-1])
    functional.cross_entropy(logits.flatten(0, 2), targets.flatten()).backward()
    idle = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert idle == []


def test_members_share_one_memory() -> None:
    network = make_network(members=2)
    assert len(network.memories) == 2
    assert len({id(memory.table) for memory in network.memories}) == 1
    (word,) = make_words([5])
    assert network.search(word[None])[0].shape == (1, 1, 5)


def test_checkpoints_from_before_members_can_be_read() -> None:
    values = NetworkDimensions.from_dict(DIMENSIONS).to_dict()
    added = ("averages", "members", "recurrent_layers", "companion")
    older = {name: values[name] for name in values if name not in added}
    assert NetworkDimensions.from_dict(older) == NetworkDimensions.from_dict(values)


def test_companions_have_companions_and_the_same_alphabets() -> None:
    further = {**MIXED["companion"], "letters": 0, "chunks": 0}
    values = {**DIMENSIONS, "companion": {**further, "companion": further}}
    dimensions = NetworkDimensions.from_dict(values)
    assert NetworkDimensions.from_dict(dimensions.to_dict()) == dimensions
    members = dimensions.of_members()
    assert [member.encoder_size for member in members] == [16, 24, 24]
    assert {(member.letters, member.chunks) for member in members} == {(12, CHUNKS)}


@pytest.mark.parametrize(
    "changes", [JOINT, {"members": 2}, MIXED], ids=["recurrent", "memory", "mixed"]
)
def test_model_file_says_what_the_members_say_together(tmp_path, changes: dict) -> None:
    network = make_network(**changes)
    members = len(network.decoder.member_weights)
    network.decoder.member_weights = [0.9] + [0.1 / (members - 1)] * (members - 1)
    metadata = ModelMetadata(
        ALPHABETS.letters, tuple(ALPHABETS.phones), Normalization(), "und", "ipa"
    )
    path = tmp_path / "model.onnx"
    write_model(assemble(export_parts(network), ALPHABETS, metadata), path)
    words = ["a", "bc", "cab", "jade", "kahdgfibcej", "fade", "k" * 30]
    check_parity(network, ALPHABETS, path, words, export_settings(parity_batch_sizes=[1, 4]))
