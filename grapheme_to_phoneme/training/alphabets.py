"""The alphabets of a model: what its integers mean."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from grapheme_to_phoneme.training.alignment import AlignedEntry, Chunk

#: Letter id of the padding after a word's last letter.
PADDING_ID = 0

#: Chunk id of the history before a word's first letter; no letter ever gives it.
START_ID = 0


@dataclass(frozen=True)
class Alphabets:
    """Letters and chunks with their ids.

    Attributes:
        letters: the letters; ``letters[i]`` has id ``i + 1``, since 0 is padding.
        chunks: the chunks; ``chunks[i]`` has id ``i + 1``, since 0 is the start symbol.
            The empty chunk, of silent letters, is one of them.
    """

    letters: tuple[str, ...]
    chunks: tuple[Chunk, ...]

    @classmethod
    def of_entries(cls, entries: Sequence[AlignedEntry]) -> "Alphabets":
        """Collect the alphabets of ``entries``: letters sorted, frequent chunks first."""
        letters = {letter for entry in entries for letter in entry.spelling}
        counts = Counter(chunk for entry in entries for chunk in entry.chunks)
        # Ties are ordered by content, so that the ids do not depend on the order of entries.
        chunks = sorted(counts, key=lambda chunk: (-counts[chunk], chunk))
        return cls(tuple(sorted(letters)), tuple(chunks))

    @cached_property
    def letter_ids(self) -> dict[str, int]:
        """Ids by letter."""
        return {letter: index + 1 for index, letter in enumerate(self.letters)}

    @cached_property
    def chunk_ids(self) -> dict[Chunk, int]:
        """Ids by chunk."""
        return {chunk: index + 1 for index, chunk in enumerate(self.chunks)}

    @property
    def phones(self) -> list[str]:
        """The phones that occur in the chunks, sorted."""
        return sorted({phone for chunk in self.chunks for phone in chunk})

    def encode(self, spelling: str) -> list[int]:
        """Return the ids of the letters; those that are not in the alphabet are left out."""
        return [self.letter_ids[letter] for letter in spelling if letter in self.letter_ids]

    def phones_of(self, chunk_ids: Sequence[int]) -> tuple[str, ...]:
        """Return the phones that a sequence of chunk ids spells."""
        return tuple(
            phone for index in chunk_ids if index != START_ID for phone in self.chunks[index - 1]
        )

    def to_dict(self) -> dict[str, list]:
        """Return plain lists, fit for a checkpoint that loads without arbitrary code."""
        return {"letters": list(self.letters), "chunks": [list(chunk) for chunk in self.chunks]}

    @classmethod
    def from_dict(cls, values: dict[str, list]) -> "Alphabets":
        """Rebuild the alphabets from :meth:`to_dict`'s values."""
        return cls(tuple(values["letters"]), tuple(tuple(chunk) for chunk in values["chunks"]))
