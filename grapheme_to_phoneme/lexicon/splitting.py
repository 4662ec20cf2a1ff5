"""Dividing a lexicon into train, dev and test parts that anyone can make again.

The protocol is that of github.com/lenzo-ka/phonebox, ``docs/REPRODUCIBLE_BENCHMARKS.md``.
"""

import hashlib
import json
import random
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling, ungroup

Groups = dict[str, list[tuple[str, ...]]]


class Split(NamedTuple):
    """The three parts of a lexicon; no spelling is in two of them."""

    train: list[Entry]
    dev: list[Entry]
    test: list[Entry]


def open_split(
    groups: Groups,
    seed: int = 1729,
    test_fraction: float = 0.1,
    test_limit: int = 10_000,
    dev_fraction: float = 0.1,
) -> Split:
    """Divide a lexicon by spelling.

    The spellings are sorted and shuffled; the first ``test_fraction`` of them (rounded
    down, at most ``test_limit``) are the test part. The rest is sorted and shuffled again
    with a fresh generator; its first ``dev_fraction`` is the dev part, what remains the
    train part. Each part keeps its shuffled order.

    Args:
        groups: every spelling's pronunciations, as ``group_by_spelling`` returns them.
        seed: starts both shuffles.
        test_fraction: share of the spellings, between 0 and 1.
        test_limit: most spellings in the test part.
        dev_fraction: share of the spellings that the test part leaves.

    Raises:
        UserError: if a fraction is not between 0 and 1 or a part would be empty.
    """
    test, rest = _divide(groups, test_fraction, seed, test_limit)
    dev, train = _divide(rest, dev_fraction, seed)
    for name, part in (("train", train), ("dev", dev), ("test", test)):
        if not part:
            raise UserError(
                f"the {name} part of a lexicon of {len(groups):,} words would be empty: "
                "give more words or other fractions in preprocessing.split"
            )
    return Split(ungroup(train), ungroup(dev), ungroup(test))


def hold_out(
    entries: Iterable[Entry], fraction: float = 0.1, seed: int = 1729
) -> tuple[list[Entry], list[Entry]]:
    """Divide a lexicon that comes without a dev part into ``(train, dev)``.

    The words of the dev part are chosen as :func:`open_split` chooses them, at least one.

    Raises:
        UserError: if there are fewer than two words, or ``fraction`` is not between 0 and 1.
    """
    groups = group_by_spelling(entries)
    if len(groups) < 2:
        raise UserError(
            f"a lexicon of {len(groups)} word cannot be divided into train and dev: "
            "give more words, or a dev lexicon with data.dev_path=FILE"
        )
    dev, train = _divide(groups, fraction, seed, least=1)
    return ungroup(train), ungroup(dev)


def split_sha256(entries: Iterable[Entry]) -> str:
    """Return the SHA-256 by which a part of a split is known, in hexadecimal.

    It is taken over the compact JSON list of ``[spelling, [phones...]]`` pairs in UTF-8.
    """
    pairs = [[entry.spelling, entry.phones] for entry in entries]
    text = json.dumps(pairs, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _divide(
    groups: Groups, fraction: float, seed: int, limit: int | None = None, least: int = 0
) -> tuple[Groups, Groups]:
    """Return the chosen share of ``groups`` and the rest, both in shuffled order."""
    if not 0 < fraction < 1:
        raise UserError(f"a split's fraction must lie between 0 and 1, not be {fraction}")
    spellings = sorted(groups)
    # The same numbers on every platform are wanted here, not secrets.
    random.Random(seed).shuffle(spellings)
    # The decimal that was written, not the binary number nearest to it: 0.29 of 100 is 29.
    count = int(Fraction(str(fraction)) * len(spellings))
    count = max(count, least)
    if limit is not None:
        count = min(count, limit)
    return (
        {spelling: groups[spelling] for spelling in spellings[:count]},
        {spelling: groups[spelling] for spelling in spellings[count:]},
    )
