"""How words are put together in batches."""

from collections.abc import Sequence

import pytest

from grapheme_to_phoneme.inference.graph import GraphPronouncer
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.normalization import Normalization

METADATA = ModelMetadata(
    ("a", "b"), ("AE", "B"), Normalization(), "en", "arpabet", letters_per_batch=40
)


class RecordingPronouncer(GraphPronouncer):
    """Says the same of every word, and remembers in which batches they came."""

    def __init__(self, letters_per_batch: int) -> None:
        super().__init__(METADATA, 1, letters_per_batch, longest_word=256)
        self.batches: list[Sequence[str]] = []

    def _run(self, batch: Sequence[str], beam_size: int, outputs: Sequence[str]) -> list[list]:
        self.batches.append(batch)
        return [[["AE B"]] * len(batch), [[-0.5]] * len(batch)]


@pytest.mark.parametrize(
    ("given", "words_in_each"), [(0, [8, 8, 8, 8]), (15, [3] * 10 + [2]), (1, [1] * 32)]
)
def test_batches_have_as_many_letters_as_the_file_or_the_user_says(
    given: int, words_in_each: list[int]
) -> None:
    words = ["".join("ab"[number >> bit & 1] for bit in range(5)) for number in range(32)]
    pronouncer = RecordingPronouncer(given)
    assert [answer.word for answer in pronouncer.pronounce(words)] == words
    assert [len(batch) for batch in pronouncer.batches] == words_in_each
