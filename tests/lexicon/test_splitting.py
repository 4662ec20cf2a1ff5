"""The open split is the one that others can make, to the bit."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling
from grapheme_to_phoneme.lexicon.reading import read_lexicon
from grapheme_to_phoneme.lexicon.splitting import hold_out, open_split, split_sha256

# Published with the protocol, and on purpose not read from configs/: words, pairs, SHA-256.
OPEN_SPLIT = {
    "keep": {
        "train": (
            104_447,
            112_074,
            "1e354b709ae151e8a2ad259e44e212c555531a443f6195a5304ba469c96d6a91",
        ),
        "dev": (
            11_605,
            12_426,
            "7e2b6b3e0efde4284806dc7876e3ec52d096ada3cfc5acba8e66ba3906897566",
        ),
        "test": (
            10_000,
            10_664,
            "356328cf3a8b87ce01cc087c0f129f6eff41b2ebddce6351a6fb64f862b86dfc",
        ),
    },
    "strip": {
        "train": (
            104_447,
            111_817,
            "46f838a971dc02f9218655f3a49c47157baf726f6104e59ebfcfcdef7d64b372",
        ),
        "dev": (
            11_605,
            12_399,
            "12832f603f88bd3a2e9f617d31903bba8c95823e4075f5973866d1ed4cce420f",
        ),
        "test": (
            10_000,
            10_644,
            "f51ca936430c9dd430fb7b62d73ee793a6b243b99e2b9f4b1ee6204cb5ed8636",
        ),
    },
}

SPELLINGS = st.lists(st.text(alphabet="abcde", min_size=1, max_size=4), min_size=2, max_size=60)


def make_entries(spellings: list[str]) -> list[Entry]:
    return [Entry(spelling, tuple(spelling)) for spelling in spellings]


@pytest.mark.parametrize("stress", ["keep", "strip"])
def test_open_split_is_the_published_one(cmudict_path: Path, stress: str) -> None:
    entries = read_lexicon(cmudict_path, "cmudict", strip_stress=stress == "strip")
    split = open_split(group_by_spelling(entries))
    assert {
        name: (len({entry.spelling for entry in part}), len(part), split_sha256(part))
        for name, part in split._asdict().items()
    } == OPEN_SPLIT[stress]


@pytest.mark.parametrize("stress", ["keep", "strip"])
def test_configuration_records_the_published_hashes(cmudict_config, stress: str) -> None:
    published = {name: sha256 for name, (_, _, sha256) in OPEN_SPLIT[stress].items()}
    assert cmudict_config.data.split_sha256[stress] == published


def test_hash_is_of_compact_utf8_json() -> None:
    # printf '[["é",["e","ː"]],["a",["ɑ"]]]' | sha256sum
    entries = [Entry("é", ("e", "ː")), Entry("a", ("ɑ",))]
    assert (
        split_sha256(entries) == "9a91f1903788965acb6f21332dec4152b216dd25687bc5e124638398b3c9be1b"
    )


@given(SPELLINGS, st.integers(0, 3), st.sampled_from([0.1, 0.3, 0.5, 0.9]))
def test_hold_out_divides_by_spelling(spellings: list[str], seed: int, fraction: float) -> None:
    entries = make_entries(spellings)
    words = set(spellings)
    if len(words) < 2:
        with pytest.raises(UserError, match="data.dev_path=FILE"):
            hold_out(entries, fraction, seed)
        return
    train, dev = hold_out(entries, fraction, seed)
    train_words = {entry.spelling for entry in train}
    dev_words = {entry.spelling for entry in dev}
    assert train_words | dev_words == words
    assert not train_words & dev_words
    assert train_words and len(dev_words) == max(1, int(fraction * len(words) + 1e-9))
    # The order of the file does not choose the words.
    shuffled = random.Random(seed).sample(entries, len(entries))
    assert {entry.spelling for entry in hold_out(shuffled, fraction, seed)[1]} == dev_words


def test_hold_out_is_the_open_split_without_test(cmudict_path: Path) -> None:
    entries = read_lexicon(cmudict_path, "cmudict")
    split = open_split(group_by_spelling(entries))
    rest = [*split.dev, *split.train]
    train, dev = hold_out(rest, 0.1, 1729)
    assert (train, dev) == (split.train, split.dev)


def test_fraction_is_the_written_decimal() -> None:
    # In binary, 0.29 * 100 is a little less than 29.
    entries = make_entries([f"w{number:03}" for number in range(100)])
    assert len(hold_out(entries, 0.29, 1)[1]) == 29


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_impossible_fractions(fraction: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        hold_out(make_entries(["a", "b"]), fraction, 1)


def test_too_few_words_for_three_parts() -> None:
    with pytest.raises(UserError, match="the dev part of a lexicon of 2 words would be empty"):
        open_split(group_by_spelling(make_entries(["a", "b"])))
