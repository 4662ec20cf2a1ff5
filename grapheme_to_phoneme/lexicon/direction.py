"""Turns a lexicon round: what was said becomes what is read, and the spelling the answer."""

import logging
from collections.abc import Iterable

from grapheme_to_phoneme.constants import GRAPHEME_TO_PHONEME, PHONEME_TO_GRAPHEME
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.normalization import Normalization, symbols_of

LOGGER = logging.getLogger(__name__)

DIRECTIONS = (GRAPHEME_TO_PHONEME, PHONEME_TO_GRAPHEME)


def is_reverse(direction: str) -> bool:
    """Return whether phones are read and spellings given.

    Raises:
        UserError: if there is no such direction.
    """
    if direction not in DIRECTIONS:
        raise UserError(f"unknown direction '{direction}': choose one of {', '.join(DIRECTIONS)}")
    return direction == PHONEME_TO_GRAPHEME


def refuse_reverse(direction: str, reason: str) -> None:
    """Refuse to read phones and give spellings where only pronunciations make sense.

    Args:
        direction: the configuration's.
        reason: why, to begin the message with.

    Raises:
        UserError: if ``direction`` says so, or is none.
    """
    if is_reverse(direction):
        raise UserError(f"{reason}: leave direction= out")


def reverse(entries: Iterable[Entry], normalization: Normalization) -> list[Entry]:
    """Return entries whose spelling stands for the phones, and whose phones are the letters.

    Words that have white space in them are left out: answers are divided there.

    Args:
        entries: the lexicon.
        normalization: has the symbols.
    """
    return [
        Entry(normalization.apply(" ".join(entry.phones)), tuple(entry.spelling))
        for entry in entries
        if not any(letter.isspace() for letter in entry.spelling)
    ]


def reverse_parts(
    parts: dict[str, list[Entry]],
) -> tuple[dict[str, list[Entry]], Normalization]:
    """Turn the parts of a lexicon round, and give every phone a character to stand for it.

    What sounds like a word of the training part leaves the others: homophones would be learnt
    from and scored on.

    Args:
        parts: the parts by name, ``train`` among them.

    Returns:
        The parts, their spellings in normal form; and the normalisation, which has the phones.

    Raises:
        UserError: if there are too many phones.
    """
    normalization = Normalization(
        symbols=symbols_of(
            phone for part in parts.values() for entry in part for phone in entry.phones
        )
    )
    turned = {name: reverse(part, normalization) for name, part in parts.items()}
    learnt = {entry.spelling for entry in turned["train"]}
    for name, part in turned.items():
        if name != "train":
            turned[name] = [entry for entry in part if entry.spelling not in learnt]
            LOGGER.info(
                "%s: %s entries sound like words of the training part and are left out",
                name,
                f"{len(part) - len(turned[name]):,}",
            )
    return turned, normalization


def recode(entries: Iterable[Entry], source: Normalization, target: Normalization) -> list[Entry]:
    """Return turned entries with the characters that another model's symbols have."""
    return [
        Entry(target.apply(" ".join(map(source.symbol_of, entry.spelling))), entry.phones)
        for entry in entries
    ]
