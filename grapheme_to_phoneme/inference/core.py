"""Strings for the core network, which takes and gives ids: NumPy and nothing else.

Whatever runs it, ONNX Runtime, a TensorRT engine or another compiler's program, does so between
:meth:`CoreAlphabets.encode` and :meth:`CoreAlphabets.decode`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelMetadata

#: The property of a core network that holds its chunks, as JSON.
CHUNKS_PROPERTY = "grapheme_to_phoneme.chunks"

#: The names of its input and of its outputs.
LETTERS = "letters"
CHUNK_IDS = "chunk_ids"
LOG_PROBABILITIES = "log_probabilities"

#: What is no letter and gives no phone.
PADDING = 0


@dataclass(frozen=True)
class Profile:
    """The shapes of ``letters``, (batch, length), that an engine is made for.

    Attributes:
        smallest: fewest of each.
        typical: what it is tuned for.
        largest: most of each.
    """

    smallest: tuple[int, int]
    typical: tuple[int, int]
    largest: tuple[int, int]

    def pad(self, letters: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return letter ids with as many words and letters of padding as the smallest has."""
        missing = np.maximum(0, np.array(self.smallest) - letters.shape)
        return np.pad(letters, [(0, number) for number in missing], constant_values=PADDING)


def chunks_to_properties(chunks: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the metadata property of a core network for its chunks, in the order of their ids."""
    return {CHUNKS_PROPERTY: json.dumps(list(map(list, chunks)), ensure_ascii=False)}


@dataclass(frozen=True)
class CoreAlphabets:
    """What the ids of a core network mean.

    Attributes:
        metadata: what the file says of the model.
        chunks: the phones that a letter may give; ``chunks[i]`` has id ``i + 1``.
    """

    metadata: ModelMetadata
    chunks: tuple[tuple[str, ...], ...]

    @classmethod
    def from_properties(cls, properties: dict[str, str], source: str) -> "CoreAlphabets":
        """Read the metadata properties of a core network's file.

        Args:
            properties: they, as ONNX Runtime's ``custom_metadata_map`` has them.
            source: the file's name, for the messages.

        Raises:
            UserError: if the file is no core network that this version reads.
        """
        metadata = ModelMetadata.from_properties(properties, source)
        if CHUNKS_PROPERTY not in properties:
            raise UserError(
                f"{source} takes strings: the core network, which takes ids, is another file "
                "that `g2p export` wrote, in core/"
            )
        try:
            chunks = tuple(tuple(chunk) for chunk in json.loads(properties[CHUNKS_PROPERTY]))
        except (TypeError, ValueError) as error:
            raise UserError(f"{source} is damaged: its chunks cannot be read") from error
        return cls(metadata, chunks)

    @cached_property
    def _letter_ids(self) -> dict[str, int]:
        return {letter: index + 1 for index, letter in enumerate(self.metadata.letters)}

    def encode(self, words: Sequence[str], length: int = 0) -> NDArray[np.int64]:
        """Return the letter ids of words, normalised before: (words, letters), 0 at padding.

        Characters that the model does not know are left out.

        Args:
            words: spellings, as :meth:`ModelMetadata.normalize` takes them.
            length: letters at least, 1 in any case: an engine may ask for a fixed number.
        """
        return self.encode_spellings(map(self.metadata.normalize, words), length)

    def encode_spellings(self, spellings: Iterable[str], length: int = 0) -> NDArray[np.int64]:
        """Return what :meth:`encode` does, for spellings in the model's normal form."""
        rows = [
            [self._letter_ids[letter] for letter in spelling if letter in self._letter_ids]
            for spelling in spellings
        ]
        letters = np.full((len(rows), max(1, length, *map(len, rows))), PADDING, dtype=np.int64)
        for row, ids in zip(letters, rows, strict=True):
            row[: len(ids)] = ids
        return letters

    @cached_property
    def chunk_texts(self) -> tuple[str, ...]:
        """What every chunk id says: phones separated by spaces; padding says nothing."""
        return ("", *map(" ".join, self.chunks))

    def decode(self, chunk_ids: NDArray[np.integer]) -> list[tuple[str, ...]]:
        """Return the phones of sequences of chunk ids: (words, letters)."""
        return [
            tuple(phone for index in row if index != PADDING for phone in self.chunks[index - 1])
            for row in chunk_ids.tolist()
        ]
