"""The evidence says of every known context what was laid down, and seldom knows a new one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from grapheme_to_phoneme.training.evidence import (
    HASH_MODULUS,
    NESTED_LEVELS,
    READ_CHUNKS,
    SHARE_STEPS,
    Evidence,
)

#: The second lies around the first, the third around both.
WINDOWS = [(0, 0), (-1, 0), (-1, 1)]


def lay_out(contexts: int, letters: int = 1, seed: int = 1) -> tuple[Evidence, Tensor, Tensor]:
    """Lay out letters with a context in each window, the larger ones repeating the smallest.

    Returns:
        The evidence, the codes (letters, windows), and the chunks (letters,).
    """
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randperm(1_000_000, generator=generator)[: contexts * len(WINDOWS)] * 2003
    codes = codes.view(contexts, len(WINDOWS)) % HASH_MODULUS
    chunks = torch.randint(1, 300, (contexts,), generator=generator)
    levels = torch.tensor([9, NESTED_LEVELS, 1]).repeat(contexts, 1)
    said = torch.zeros(contexts, len(WINDOWS), READ_CHUNKS, dtype=torch.int64)
    said[..., 0] = chunks.unsqueeze(-1)
    shares = (said > 0) * SHARE_STEPS
    repeats = torch.tensor([False, True, True]).repeat(contexts, 1)
    evidence = Evidence.build(
        WINDOWS,
        codes.flatten(),
        said.flatten(end_dim=1),
        shares.flatten(end_dim=1),
        levels.flatten(),
        repeats.flatten(),
    )
    return evidence, codes, chunks


def by_chunk(said: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Give chunks and shares an axis for the read chunks, before that of the windows."""
    chunks, shares, levels = said
    return *(part.unflatten(-1, (READ_CHUNKS, -1)) for part in (chunks, shares)), levels


@pytest.mark.parametrize("contexts", [1, 2, 3, 7, 40, 5000])
def test_known_contexts_are_told_exactly(contexts: int) -> None:
    evidence, codes, expected = lay_out(contexts)
    chunks, shares, levels = by_chunk(evidence.look_up(codes[None]))
    assert torch.equal(chunks[0, :, 0], expected.unsqueeze(-1).expand(-1, 3))
    assert (shares[..., 0, :] == 1).all() and not shares[..., 1, :].any()
    assert torch.equal(levels[0], torch.tensor([9, NESTED_LEVELS, 1]).repeat(contexts, 1))


def test_new_contexts_are_seldom_taken_for_known_ones() -> None:
    evidence, codes, _ = lay_out(5000)
    generator = torch.Generator().manual_seed(2)
    new = torch.randint(HASH_MODULUS, codes.shape, generator=generator)
    # All is new: a context that was found would need found ones inside it.
    assert not evidence.look_up(new[None])[2].any()
    # The smallest is known, as for most new words: the next one is found at random.
    new[:, 0] = codes[:, 0]
    levels = evidence.look_up(new[None])[2][0]
    assert (levels[:, 0] == 9).all()
    assert 0 < (levels[:, 1] > 0).float().mean() < 2 * NESTED_LEVELS / 256
    assert (levels[:, 2] > 0).float().mean() < 0.002


def test_a_context_needs_all_that_lie_inside_it() -> None:
    evidence, codes, _ = lay_out(100)
    codes = codes.clone()
    codes[:, 0] = torch.arange(100) + 7
    assert not evidence.look_up(codes[None])[2].any()


def test_repetitions_take_little_more_than_a_byte() -> None:
    evidence, codes, _ = lay_out(5000)
    assert evidence.repetitions.element_size() == 1
    assert len(evidence.repetitions) < 1.26 * 2 * len(codes)
    assert len(evidence.statements) < 1.26 * len(codes)


@given(
    st.lists(
        st.tuples(
            st.integers(0, HASH_MODULUS - 1),
            st.integers(1, 70_000),
            st.integers(0, 70_000),
            st.integers(0, SHARE_STEPS),
            st.integers(1, 10),
        ),
        max_size=30,
        unique_by=lambda context: context[0],
    )
)
def test_statements_of_all_kinds(contexts: list[tuple[int, int, int, int, int]]) -> None:
    """Two chunks, any shares, any levels, and more chunks than a byte or two can number."""
    codes, first, second, share, levels = torch.tensor(contexts).view(-1, 5).T.long()
    said = torch.stack((first, second), dim=-1)
    shares = torch.stack((SHARE_STEPS - share, share), dim=-1)
    none_repeats = torch.zeros(len(codes), dtype=torch.bool)
    evidence = Evidence.build([(0, 0)], codes, said, shares, levels, none_repeats)
    chunks, found_shares, found_levels = by_chunk(evidence.look_up(codes.view(1, -1, 1)))
    assert torch.equal(found_levels.flatten(), levels)
    torch.testing.assert_close(found_shares[0, ..., 0], shares / SHARE_STEPS)
    assert torch.equal(chunks[0, ..., 0], said * (shares > 0))
