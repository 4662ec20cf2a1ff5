"""Lessons: what larger networks think of words, kept for a smaller one to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.training.alignment import AlignedEntry
from grapheme_to_phoneme.training.alphabets import Alphabets

#: Shares are kept in so many parts.
SHARE_PARTS = 255


@dataclass(frozen=True)
class Lessons:
    """What teachers think of the lexicon's words, and of words that they pronounced.

    Attributes:
        imagined: the further words, with the chunks that the teachers give their letters.
        chunks: the most probable chunks of every letter, of the lexicon's entries first, then
            of ``imagined``, best first, (letters in all, kept chunks).
        shares: their probabilities in :data:`SHARE_PARTS` parts, alike.
    """

    imagined: list[AlignedEntry]
    chunks: NDArray[np.uint16]
    shares: NDArray[np.uint8]

    def save(self, path: Path, alphabets: Alphabets) -> None:
        """Write the lessons to a file."""
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                spellings=np.array([entry.spelling for entry in self.imagined], dtype=str),
                imagined=np.array(
                    [
                        alphabets.chunk_ids[chunk]
                        for entry in self.imagined
                        for chunk in entry.chunks
                    ],
                    dtype=np.uint16,
                ),
                chunks=self.chunks,
                shares=self.shares,
            )
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, entries: Sequence[AlignedEntry], alphabets: Alphabets) -> "Lessons":
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            entries: the lexicon's aligned entries.
            alphabets: their alphabets.

        Raises:
            UserError: if it was written for another lexicon, or cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                spellings = arrays["spellings"].tolist()
                given = iter(arrays["imagined"].tolist())
                imagined = [
                    AlignedEntry(word, tuple(alphabets.chunks[next(given) - 1] for _ in word))
                    for word in spellings
                ]
                lessons = cls(imagined, arrays["chunks"], arrays["shares"])
        except (OSError, ValueError, KeyError, IndexError, StopIteration, BadZipFile) as error:
            raise UserError(f"{path} cannot be read: remove it, and it is made anew") from error
        letters = sum(len(entry.spelling) for entry in (*entries, *imagined))
        if len(lessons.chunks) != letters or len(lessons.shares) != letters:
            raise UserError(f"{path} belongs to another lexicon: begin a new run")
        return lessons
