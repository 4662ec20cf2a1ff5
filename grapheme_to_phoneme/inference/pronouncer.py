"""Pronounces words with a model file."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import exp
from pathlib import Path

import numpy as np
import onnxruntime

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.package import lexicon_file, model_file
from grapheme_to_phoneme.inference.packed_lexicon import PackedLexicon
from grapheme_to_phoneme.notation import converter, notation_of

#: Hypotheses per wanted pronunciation: several may differ in their alignment alone.
HYPOTHESES_PER_ANSWER = 2

#: Where a pronunciation comes from.
SOURCE_DICTIONARY = "dictionary"
SOURCE_LEXICON = "lexicon"
SOURCE_MODEL = "model"

#: What a model file takes, besides the size of the beam.
WORDS_INPUT = "words"

#: What a model file gives, and what it gives besides where alignments are asked for.
OUTPUTS = ("pronunciations", "log_probabilities")
ALIGNMENT_OUTPUT = "chunks"

#: The letters of a word in order, each with the phones that it gave.
Alignment = tuple[tuple[str, tuple[str, ...]], ...]

#: Gives the phones of a pronunciation in another notation.
Rewriting = Callable[[Iterable[str]], tuple[str, ...]]

#: The user's own pronunciations of a word, by its spelling.
Dictionary = Mapping[str, Sequence[tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Alternative:
    """A further pronunciation of a word.

    Attributes:
        phones: its phones in order.
        probability: the model's probability, 0 to 1.
        alignment: see :class:`Pronunciation`.
    """

    phones: tuple[str, ...]
    probability: float
    alignment: Alignment = ()


@dataclass(frozen=True, slots=True)
class Pronunciation:
    """What the model, the user's dictionary or the packed lexicon says of a word.

    Attributes:
        word: the word as it was given.
        phones: the phones of the best pronunciation, in order; empty where the model knows
            no character of the word.
        probability: the model's probability of it, 0 to 1; of a word in the dictionary or
            the lexicon, 1 divided by the number of its pronunciations there.
        alternatives: further pronunciations, best first.
        unknown_characters: characters that the model does not know and that were replaced
            by their base letter or left out, in order of appearance; none where the model
            was not asked.
        source: ``SOURCE_DICTIONARY``, ``SOURCE_LEXICON`` or ``SOURCE_MODEL``.
        alignment: where it was asked for, a pair for each letter of the normalised spelling
            that the model knows, in order: the letter and the phones that it gave, none for a
            silent one. All those phones in order are ``phones``. Otherwise, and where the
            model was not asked, empty.
    """

    word: str
    phones: tuple[str, ...]
    probability: float
    alternatives: tuple[Alternative, ...] = ()
    unknown_characters: tuple[str, ...] = ()
    source: str = SOURCE_MODEL
    alignment: Alignment = ()


class Pronouncer:
    """A loaded model. It may be used from several threads at once.

    Args:
        model: the model file, as ``g2p train`` or ``g2p export`` wrote it, or the folder that
            ``g2p package`` wrote.
        threads: batches that are worked on at once; 0 takes one per core.
        letters_per_batch: most letters in a batch; bounds the memory.
        longest_word: longer words are pronounced piece by piece, in letters.
        dictionary: see :meth:`use_dictionary`.
        use_lexicon: whether a package's lexicon, where it has one, answers for the words that
            it holds and the dictionary does not.
        notation: what the phones of answers are written in, one of
            ``grapheme_to_phoneme.notation.NOTATIONS``; the model's own if None.

    Raises:
        UserError: if the file is missing, damaged, or no model of this package's format, as
            :func:`model_file` says of a folder, if a word of the dictionary has no spelling
            or no phones, or if a phone of the model has no exact counterpart in ``notation``.
    """

    def __init__(
        self,
        model: str | Path,
        threads: int = 0,
        letters_per_batch: int = 1024,
        longest_word: int = 256,
        dictionary: Dictionary | None = None,
        use_lexicon: bool = True,
        notation: str | None = None,
    ) -> None:
        path = model_file(Path(model))
        lexicon = lexicon_file(Path(model)) if use_lexicon else None
        self._lexicon = None if lexicon is None else PackedLexicon(lexicon)
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
        if self._session.get_inputs()[0].name != WORDS_INPUT:
            raise UserError(
                f"{path} is a core network, which takes ids: the model that takes words is "
                "model.onnx, beside its folder"
            )
        self._letters = frozenset(self.metadata.letters)
        self._letters_per_batch = letters_per_batch
        self._longest_word = longest_word
        self._workers = ThreadPoolExecutor(threads or available_cores())
        self._rewrite: Rewriting | None = None
        if notation is not None:
            own = notation_of(self.metadata.notation, self.metadata.phones)
            self._rewrite = converter(own, notation)
            # What cannot be said shows now, not in the middle of a list of words.
            self._rewrite(self.metadata.phones)
        self.use_dictionary({} if dictionary is None else dictionary)

    def use_dictionary(self, dictionary: Dictionary) -> None:
        """Let the user's own pronunciations override the model, word by word.

        They replace those of an earlier call. Their phones need not be the model's.

        Args:
            dictionary: pronunciations by spelling, the preferred one first. Spellings are
                normalised as the model's are, and what several then have in common counts
                once.

        Raises:
            UserError: if ``dictionary`` is no mapping, if a word has no spelling or no phones,
                if one of its pronunciations is a string instead of several, or if a phone has
                no exact counterpart in the notation that was asked for.
        """
        if not isinstance(dictionary, Mapping):
            raise UserError(
                "the dictionary must map spellings to pronunciations, not name a file: "
                "read_lexicon and group_by_spelling make a mapping of one"
            )
        normalized: dict[str, dict[tuple[str, ...], None]] = {}
        for word, pronunciations in dictionary.items():
            spelling = self.metadata.normalization.apply(word)
            if not spelling:
                raise UserError(
                    f"nothing is left of the dictionary's spelling {word!r} when normalised"
                )
            if not pronunciations or not all(pronunciations):
                raise UserError(f"the dictionary has no phones for {word!r}")
            if any(isinstance(phones, str) for phones in (pronunciations, *pronunciations)):
                raise UserError(
                    f"the dictionary's pronunciations of {word!r} must be several strings each: "
                    "write [(phone, phone)]"
                )
            known = normalized.setdefault(spelling, {})
            known.update(dict.fromkeys(map(tuple, pronunciations)))
        rewrite = self._rewrite or tuple
        self._dictionary = {
            spelling: tuple(map(rewrite, known)) for spelling, known in normalized.items()
        }

    def pronounce(
        self,
        words: Iterable[str],
        n_best: int = 1,
        beam_size: int | None = None,
        with_alignment: bool = False,
    ) -> list[Pronunciation]:
        """Pronounce words; the answers come in their order, one for each.

        An answer depends on its word alone, never on the others. A word of the dictionary or
        of the packed lexicon is looked up there, in its normal form, and the model is not
        asked.

        Args:
            words: spellings, as people write them.
            n_best: how many pronunciations to give at most.
            beam_size: hypotheses kept while searching. By default greedy search for one
                pronunciation, and twice ``n_best`` for several.
            with_alignment: whether to tell which letter gave which phones; of several
                alignments of a pronunciation, the most probable one.

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
        # Another thread may put another dictionary into place on the way.
        dictionary = self._dictionary
        spellings = [self.metadata.normalization.apply(word) for word in words]
        distinct = dict.fromkeys(spellings)
        known = {
            spelling: (dictionary[spelling], SOURCE_DICTIONARY)
            for spelling in distinct
            if spelling in dictionary
        }
        if self._lexicon is not None:
            rewrite = self._rewrite or tuple
            found = self._lexicon.find(spelling for spelling in distinct if spelling not in known)
            known.update(
                (spelling, (tuple(map(rewrite, pronunciations)), SOURCE_LEXICON))
                for spelling, pronunciations in found.items()
            )
        asked = [spelling for spelling in distinct if spelling not in known]
        spelled = {spelling: self._spell(spelling) for spelling in asked}
        letters_of_all = dict.fromkeys(letters for letters, _ in spelled.values() if letters)
        hypotheses = self._search(letters_of_all, beam_size, with_alignment)
        answers = []
        for word, spelling in zip(words, spellings, strict=True):
            if spelling in known:
                answers.append(_look_up(word, *known[spelling], n_best))
            else:
                letters, unknown = spelled[spelling]
                answer = _answer(word, hypotheses.get(letters, ()), unknown, n_best)
                answers.append(
                    answer if self._rewrite is None else _rewritten(answer, self._rewrite)
                )
        return answers

    def _spell(self, normalized: str) -> tuple[str, tuple[str, ...]]:
        """Return the letters of a spelling that the model knows, and what it does not know."""
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
        self, spellings: Iterable[str], beam_size: int, with_alignment: bool
    ) -> dict[str, Sequence[Alternative]]:
        """Return the distinct hypotheses of every spelling, best first."""
        found: dict[str, Sequence[Alternative]] = {}
        by_length: dict[int, list[str]] = defaultdict(list)
        for spelling in spellings:
            if len(spelling) > self._longest_word:
                found[spelling] = self._search_pieces(spelling, beam_size, with_alignment)
            else:
                by_length[len(spelling)].append(spelling)
        # Words of one length need no padding, which is both faster and beyond suspicion.
        batches = []
        for length, group in by_length.items():
            rows = max(1, self._letters_per_batch // (length * beam_size))
            batches += [group[start : start + rows] for start in range(0, len(group), rows)]
        outputs = (*OUTPUTS, ALIGNMENT_OUTPUT) if with_alignment else OUTPUTS
        run = partial(self._run, beam_size=beam_size, outputs=outputs)
        # A single batch is not worth the way to another thread.
        answers = map(run, batches) if len(batches) == 1 else self._workers.map(run, batches)
        for batch, values in zip(batches, answers, strict=True):
            for spelling, texts, scores, *chunks in zip(batch, *values, strict=True):
                choices = _merge(texts, scores)
                found[spelling] = _align(spelling, choices, texts, *chunks) if chunks else choices
        return found

    def _run(self, batch: Sequence[str], beam_size: int, outputs: Sequence[str]) -> list[list]:
        """Return every output of a batch as a list; its items are lists, one per word."""
        values = self._session.run(
            outputs,
            {
                WORDS_INPUT: np.array(batch, dtype=object),
                "beam_size": np.array([beam_size], dtype=np.int64),
            },
        )
        return [value.tolist() for value in values]

    def _search_pieces(
        self, spelling: str, beam_size: int, with_alignment: bool
    ) -> Sequence[Alternative]:
        """Pronounce a spelling that is no word of any language, in bounded memory."""
        size = self._longest_word
        pieces = [spelling[start : start + size] for start in range(0, len(spelling), size)]
        found = self._search(dict.fromkeys(pieces), beam_size, with_alignment)
        phones: list[str] = []
        alignment: list[tuple[str, tuple[str, ...]]] = []
        probability = 1.0
        for piece in pieces:
            best = found[piece][0]
            phones.extend(best.phones)
            alignment.extend(best.alignment)
            probability *= best.probability
        return (Alternative(tuple(phones), probability, tuple(alignment)),)


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
        pairs = zip(spelling, (tuple(chunk.split()) for chunk in spoken), strict=True)
        aligned.append(replace(choice, alignment=tuple(pairs)))
    return aligned


def _look_up(
    word: str, pronunciations: Sequence[tuple[str, ...]], source: str, n_best: int
) -> Pronunciation:
    """Answer with a lexicon's pronunciations; nothing tells which of them is likelier."""
    probability = 1.0 / len(pronunciations)
    best, *others = pronunciations[:n_best]
    alternatives = tuple(Alternative(phones, probability) for phones in others)
    return Pronunciation(word, best, probability, alternatives, source=source)


def _answer(
    word: str, found: Sequence[Alternative], unknown: tuple[str, ...], n_best: int
) -> Pronunciation:
    if not found:
        return Pronunciation(word, (), 0.0, (), unknown)
    best = found[0]
    return Pronunciation(
        word,
        best.phones,
        best.probability,
        tuple(found[1:n_best]),
        unknown,
        alignment=best.alignment,
    )


def _rewritten(answer: Pronunciation, rewrite: Rewriting) -> Pronunciation:
    """Return an answer in another notation."""

    def realign(alignment: Alignment) -> Alignment:
        return tuple((letter, rewrite(phones)) for letter, phones in alignment)

    alternatives = tuple(
        replace(choice, phones=rewrite(choice.phones), alignment=realign(choice.alignment))
        for choice in answer.alternatives
    )
    return replace(
        answer,
        phones=rewrite(answer.phones),
        alignment=realign(answer.alignment),
        alternatives=alternatives,
    )
