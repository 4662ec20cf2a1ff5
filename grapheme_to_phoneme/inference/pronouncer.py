"""Pronounces words with a model file."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import exp
from pathlib import Path

import numpy as np
import onnxruntime

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.package import model_file

#: Hypotheses per wanted pronunciation: several may differ in their alignment alone.
HYPOTHESES_PER_ANSWER = 2


@dataclass(frozen=True, slots=True)
class Alternative:
    """A further pronunciation of a word.

    Attributes:
        phones: its phones in order.
        probability: the model's probability, 0 to 1.
    """

    phones: tuple[str, ...]
    probability: float


@dataclass(frozen=True, slots=True)
class Pronunciation:
    """What the model says of a word.

    Attributes:
        word: the word as it was given.
        phones: the phones of the best pronunciation, in order; empty where the model knows
            no character of the word.
        probability: the model's probability of it, 0 to 1.
        alternatives: further pronunciations, best first.
        unknown_characters: characters that the model does not know and that were replaced
            by their base letter or left out, in order of appearance.
    """

    word: str
    phones: tuple[str, ...]
    probability: float
    alternatives: tuple[Alternative, ...] = ()
    unknown_characters: tuple[str, ...] = ()


class Pronouncer:
    """A loaded model. It may be used from several threads at once.

    Args:
        model: the model file, as ``g2p train`` or ``g2p export`` wrote it, or the folder that
            ``g2p package`` wrote.
        threads: batches that are worked on at once; 0 takes one per core.
        letters_per_batch: most letters in a batch; bounds the memory.
        longest_word: longer words are pronounced piece by piece, in letters.

    Raises:
        UserError: if the file is missing, damaged, or no model of this package's format; or
            as :func:`model_file` says of a folder.
    """

    def __init__(
        self,
        model: str | Path,
        threads: int = 0,
        letters_per_batch: int = 1024,
        longest_word: int = 256,
    ) -> None:
        path = model_file(Path(model))
        options = onnxruntime.SessionOptions()
        # One thread for a batch and batches side by side: threads that share the many small
        # operations of the search would spend half their time waiting for each other.
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's exceptions for an unreadable file share no base class but this.
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(f"{path} is no ONNX model that can be loaded: {reason}") from error
        self.metadata = ModelMetadata.from_properties(
            self._session.get_modelmeta().custom_metadata_map, str(path)
        )
        self._letters = frozenset(self.metadata.letters)
        self._letters_per_batch = letters_per_batch
        self._longest_word = longest_word
        self._workers = ThreadPoolExecutor(threads or available_cores())

    def pronounce(
        self, words: Iterable[str], n_best: int = 1, beam_size: int | None = None
    ) -> list[Pronunciation]:
        """Pronounce words; the answers come in their order, one for each.

        An answer depends on its word alone, never on the others.

        Args:
            words: spellings, as people write them.
            n_best: how many pronunciations to give at most.
            beam_size: hypotheses kept while searching. By default greedy search for one
                pronunciation, and twice ``n_best`` for several.

        Raises:
            UserError: if ``n_best`` or ``beam_size`` is not positive, or if ``words`` is one
                string instead of several.
        """
        if isinstance(words, str):
            raise UserError("pronounce takes a list of words, not one string: write [word]")
        if beam_size is None:
            beam_size = 1 if n_best == 1 else HYPOTHESES_PER_ANSWER * n_best
        if n_best < 1 or beam_size < n_best:
            raise UserError("n_best must be at least 1, and beam_size at least n_best")
        words = list(words)
        spelled = [self._spell(word) for word in words]
        distinct = dict.fromkeys(letters for letters, _ in spelled if letters)
        found = self._search(distinct, beam_size)
        return [
            _answer(word, found.get(letters, ()), unknown, n_best)
            for word, (letters, unknown) in zip(words, spelled, strict=True)
        ]

    def _spell(self, word: str) -> tuple[str, tuple[str, ...]]:
        """Return the letters of ``word`` that the model knows, and what it does not know."""
        normalized = self.metadata.normalization.apply(word)
        if self._letters.issuperset(normalized):
            return normalized, ()
        letters = []
        unknown = []
        for character in normalized:
            if character in self._letters:
                letters.append(character)
            else:
                unknown.append(character)
                # An unknown accented letter is still more like its base letter than nothing.
                letters.extend(
                    part
                    for part in unicodedata.normalize("NFD", character)
                    if part in self._letters
                )
        return "".join(letters), tuple(unknown)

    def _search(
        self, spellings: Iterable[str], beam_size: int
    ) -> dict[str, Sequence[Alternative]]:
        """Return the distinct hypotheses of every spelling, best first."""
        found: dict[str, Sequence[Alternative]] = {}
        by_length: dict[int, list[str]] = defaultdict(list)
        for spelling in spellings:
            if len(spelling) > self._longest_word:
                found[spelling] = self._search_pieces(spelling, beam_size)
            else:
                by_length[len(spelling)].append(spelling)
        # Words of one length need no padding, which is both faster and beyond suspicion.
        batches = []
        for length, group in by_length.items():
            rows = max(1, self._letters_per_batch // (length * beam_size))
            batches += [group[start : start + rows] for start in range(0, len(group), rows)]
        run = partial(self._run, beam_size=beam_size)
        # A single batch is not worth the way to another thread.
        answers = map(run, batches) if len(batches) == 1 else self._workers.map(run, batches)
        for batch, (texts, scores) in zip(batches, answers, strict=True):
            for spelling, row_texts, row_scores in zip(batch, texts, scores, strict=True):
                found[spelling] = _merge(row_texts, row_scores)
        return found

    def _run(self, batch: Sequence[str], beam_size: int) -> tuple[list, list]:
        """Return the texts and log probabilities of a batch's hypotheses, a list per word."""
        texts, scores = self._session.run(
            ["pronunciations", "log_probabilities"],
            {
                "words": np.array(batch, dtype=object),
                "beam_size": np.array([beam_size], dtype=np.int64),
            },
        )
        return texts.tolist(), scores.tolist()

    def _search_pieces(self, spelling: str, beam_size: int) -> Sequence[Alternative]:
        """Pronounce a spelling that is no word of any language, in bounded memory."""
        size = self._longest_word
        pieces = [spelling[start : start + size] for start in range(0, len(spelling), size)]
        found = self._search(dict.fromkeys(pieces), beam_size)
        phones: list[str] = []
        probability = 1.0
        for piece in pieces:
            best = found[piece][0]
            phones.extend(best.phones)
            probability *= best.probability
        return (Alternative(tuple(phones), probability),)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _merge(texts: Sequence[str], scores: Sequence[float]) -> Sequence[Alternative]:
    """Join hypotheses that say the same with different alignments; drop impossible ones."""
    if len(texts) == 1:
        return (Alternative(tuple(texts[0].split()), exp(scores[0])),)
    probabilities: dict[str, float] = defaultdict(float)
    for text, score in zip(texts, scores, strict=True):
        probability = exp(score)
        if probability > 0.0:
            probabilities[text] += probability
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    return [Alternative(tuple(text.split()), min(1.0, value)) for text, value in ranked]


def _answer(
    word: str, found: Sequence[Alternative], unknown: tuple[str, ...], n_best: int
) -> Pronunciation:
    if not found:
        return Pronunciation(word, (), 0.0, (), unknown)
    best = found[0]
    return Pronunciation(word, best.phones, best.probability, tuple(found[1:n_best]), unknown)
