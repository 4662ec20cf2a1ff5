"""What a lexicon is made of."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One pronunciation of one word.

    Attributes:
        spelling: the word, normalised.
        phones: its phones in order, never empty.
    """

    spelling: str
    phones: tuple[str, ...]


def group_by_spelling(entries: Iterable[Entry]) -> dict[str, list[tuple[str, ...]]]:
    """Return every spelling's pronunciations, in the order in which they come.

    A pronunciation that a spelling already has is dropped.
    """
    groups: dict[str, dict[tuple[str, ...], None]] = {}
    for entry in entries:
        groups.setdefault(entry.spelling, {})[entry.phones] = None
    return {spelling: list(pronunciations) for spelling, pronunciations in groups.items()}


def ungroup(groups: dict[str, list[tuple[str, ...]]]) -> list[Entry]:
    """Return the entries of ``groups`` in their order: undoes :func:`group_by_spelling`."""
    return [
        Entry(spelling, phones)
        for spelling, pronunciations in groups.items()
        for phones in pronunciations
    ]
