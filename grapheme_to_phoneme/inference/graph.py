"""Searches with the string graph of a model file, by whatever runs it."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import exp, inf
from pathlib import Path

from grapheme_to_phoneme.inference.base import (
    Alternative,
    BasePronouncer,
    Dictionary,
    round_probability,
)
from grapheme_to_phoneme.inference.metadata import ModelMetadata

#: What a model file takes, besides the size of the beam.
WORDS_INPUT = "words"

#: What a model file gives, and what it gives besides where alignments are asked for.
OUTPUTS = ("pronunciations", "log_probabilities")
ALIGNMENT_OUTPUT = "chunks"


#: Fewer words than these are not worth a batch of their own: words that are longer come along.
FEW_WORDS = 8


class GraphPronouncer(BasePronouncer):
    """Runs a model's graph on batches of words of similar length.

    Args:
        metadata: what the model file says about itself.
        threads: batches that are worked on at once.
        letters_per_batch: most letters in a batch, which bounds the memory; 0 for as many as
            suit the network.
        longest_word: see :class:`BasePronouncer`.
        dictionary: see :meth:`BasePronouncer.use_dictionary`.
        lexicon: see :class:`BasePronouncer`.
        notation: likewise.
        language: likewise.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        threads: int,
        letters_per_batch: int,
        longest_word: int,
        dictionary: Dictionary | None = None,
        lexicon: Path | None = None,
        notation: str | None = None,
        language: str | None = None,
    ) -> None:
        super().__init__(metadata, longest_word, dictionary, lexicon, notation, language)
        self._letters_per_batch = letters_per_batch or metadata.letters_per_batch
        # A single worker is not worth the way to another thread, nor is a single batch.
        self._map = map if threads == 1 else ThreadPoolExecutor(threads).map

    def _search_words(
        self, spellings: Sequence[str], n_best: int, beam_size: int, with_alignment: bool
    ) -> dict[str, Sequence[Alternative]]:
        found: dict[str, Sequence[Alternative]] = {}
        batches = list(_divide(spellings, self._letters_per_batch // beam_size))
        outputs = (*OUTPUTS, ALIGNMENT_OUTPUT) if with_alignment else OUTPUTS
        run = partial(self._run, beam_size=beam_size, outputs=outputs)
        answers = map(run, batches) if len(batches) == 1 else self._map(run, batches)
        for batch, values in zip(batches, answers, strict=True):
            for spelling, texts, scores, *chunks in zip(batch, *values, strict=True):
                choices = _merge(texts, scores)
                found[spelling] = _align(spelling, choices, texts, *chunks) if chunks else choices
        return found

    @abstractmethod
    def _run(self, batch: Sequence[str], beam_size: int, outputs: Sequence[str]) -> list[list]:
        """Return every output of a batch as a list; its items are lists, one per word."""


def _divide(spellings: Iterable[str], letters_per_batch: int) -> Iterator[list[str]]:
    """Divide words into batches of one length, or of several lengths where there are few."""
    batch: list[str] = []
    for spelling in sorted(spellings, key=len):
        is_full = (len(batch) + 1) * len(spelling) > letters_per_batch
        is_longer = len(batch) >= FEW_WORDS and len(spelling) > len(batch[-1])
        if batch and (is_full or is_longer):
            yield batch
            batch = []
        batch.append(spelling)
    if batch:
        yield batch


def _merge(texts: Sequence[str], scores: Sequence[float]) -> Sequence[Alternative]:
    """Join hypotheses that say the same with different alignments; drop impossible ones."""
    if len(texts) == 1:
        return (Alternative(tuple(texts[0].split()), round_probability(exp(scores[0]))),)
    probabilities: dict[str, float] = defaultdict(float)
    # They come best first, and stay so where float64 knows nothing but 0 of their probabilities,
    # as of long words. The best one stays even where it is impossible, as where it is alone.
    for text, score in zip(texts, scores, strict=True):
        if score > -inf or not probabilities:
            probabilities[text] += exp(score)
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    return [Alternative(tuple(text.split()), round_probability(value)) for text, value in ranked]


def _align(
    spelling: str,
    choices: Sequence[Alternative],
    texts: Sequence[str],
    chunks: Sequence[Sequence[str]],
) -> Sequence[Alternative]:
    """Give every pronunciation its most probable alignment.

    Args:
        spelling: the letters.
        choices: the distinct pronunciations.
        texts: what the hypotheses say, best first.
        chunks: what each hypothesis says for each letter.
    """
    aligned = []
    for choice in choices:
        # Hypotheses come best first, so the first that says it is the most probable one.
        spoken = chunks[texts.index(" ".join(choice.phones))]
        # Where the batch has longer words, padding follows.
        own = (tuple(chunk.split()) for chunk in spoken[: len(spelling)])
        pairs = zip(spelling, own, strict=True)
        aligned.append(choice._replace(alignment=tuple(pairs)))
    return aligned
