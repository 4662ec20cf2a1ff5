"""What a client and a model in Triton say to each other: tensors, parameters and limits.

The names are those of KServe's inference protocol, version 2, in which Triton speaks.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.base import (
    SOURCE_LEXICON,
    SOURCE_MODEL,
    Alignment,
    Alternative,
    Pronunciation,
)

#: The words, bytes in UTF-8: (words, 1).
WORD = "WORD"

#: The answers: (words, pronunciations), the best one first.
PHONES = "PHONES"
PROBABILITY = "PROBABILITY"
ALIGNMENT = "ALIGNMENT"

#: Where they come from, and the characters that the model does not know: (words, 1).
SOURCE = "SOURCE"
UNKNOWN = "UNKNOWN"

#: The probability where a word has no further pronunciation: those that exist have 0 to 1.
NO_PRONUNCIATION = -1.0

#: Parameters that a request may have; see :class:`Options`.
N_BEST = "n_best"
BEAM_SIZE = "beam_size"
ALIGN = "align"
NORMALIZED = "normalized"
ONE_SOURCE = "source"

#: Their kinds, and how those are called.
PARAMETERS = {
    N_BEST: (int, "a whole number"),
    BEAM_SIZE: (int, "a whole number"),
    ALIGN: (bool, "a bool"),
    NORMALIZED: (bool, "a bool"),
    ONE_SOURCE: (str, "a text"),
}

#: The folder of a version with the model, as far as it is there, its lexicon and its licences.
PACKAGE_FOLDER = "package"

#: Parameters of the model in Triton, beside the metadata properties of the model file.
LIMITS_PARAMETER = "grapheme_to_phoneme.limits"
SEARCH_PARAMETER = "grapheme_to_phoneme.search"


@dataclass(frozen=True)
class _Parameter:
    """A parameter of a model, which Triton keeps as a text."""

    def to_text(self) -> str:
        """Return what :meth:`from_text` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what :meth:`to_text` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Limits(_Parameter):
    """What a request may ask for.

    Attributes:
        longest_word: characters of a word.
        most_words: words of a request.
        most_n_best: pronunciations of a word.
        most_beam_size: hypotheses kept while searching.
    """

    longest_word: int
    most_words: int
    most_n_best: int
    most_beam_size: int


@dataclass(frozen=True)
class Search(_Parameter):
    """How the model runs inside of Triton.

    Attributes:
        threads: batches that an instance works on at once.
        letters_per_batch: most letters in a batch; 0 for as many as suit the network.
        cached_words: answers that an instance remembers.
        graph: the model in Triton that runs the ONNX file, or the engine; empty where the Python
            model does.
        has_lexicon: whether a packed lexicon is beside the model.
        profile: the shapes that the engine takes, as :class:`Profile` has them; None where there
            is none.
    """

    threads: int
    letters_per_batch: int
    cached_words: int
    graph: str = ""
    has_lexicon: bool = False
    profile: dict[str, tuple[int, int]] | None = None


class Options(NamedTuple):
    """How the words of a request are to be pronounced; see :meth:`BasePronouncer.pronounce`."""

    n_best: int = 1
    beam_size: int | None = None
    with_alignment: bool = False
    are_normalized: bool = False
    source: str | None = None

    def to_parameters(self) -> dict[str, int | bool | str]:
        """Return the parameters of a request; :func:`read_options` reads them."""
        given = {
            N_BEST: self.n_best,
            BEAM_SIZE: self.beam_size,
            ALIGN: self.with_alignment,
            NORMALIZED: self.are_normalized,
            ONE_SOURCE: self.source,
        }
        return {name: value for name, value in given.items() if value is not None}


#: What a request without parameters means.
DEFAULT_OPTIONS = Options()


def read_options(parameters: Mapping[str, object], limits: Limits) -> Options:
    """Return the options of a request.

    Args:
        parameters: its parameters.
        limits: what it may ask for.

    Raises:
        UserError: if there is an unknown parameter, or a value of another kind or out of range.
    """
    for name, value in parameters.items():
        if name not in PARAMETERS:
            known = ", ".join(PARAMETERS)
            raise UserError(f"unknown parameter {name}: a request may have {known}")
        kind, wanted = PARAMETERS[name]
        if type(value) is not kind:
            raise UserError(f"{name} must be {wanted}")
    n_best = parameters.get(N_BEST, 1)
    beam_size = parameters.get(BEAM_SIZE)
    if not 1 <= n_best <= limits.most_n_best:
        raise UserError(f"{N_BEST} must be 1 to {limits.most_n_best}, not {n_best}")
    if beam_size is not None and not n_best <= beam_size <= limits.most_beam_size:
        raise UserError(
            f"{BEAM_SIZE} must be {N_BEST} to {limits.most_beam_size}, not {beam_size}"
        )
    source = parameters.get(ONE_SOURCE)
    if source not in (None, SOURCE_LEXICON, SOURCE_MODEL):
        raise UserError(f"{ONE_SOURCE} must be {SOURCE_LEXICON} or {SOURCE_MODEL}")
    return Options(
        n_best, beam_size, parameters.get(ALIGN, False), parameters.get(NORMALIZED, False), source
    )


def read_words(
    tensor: NDArray, limits: Limits, normalize: Callable[[str], str], are_normalized: bool
) -> list[str]:
    """Return the words of a request.

    Args:
        tensor: ``WORD``, bytes: (words, 1).
        limits: what a request may ask for.
        normalize: the model's :meth:`ModelMetadata.normalize`.
        are_normalized: whether the words are in normal form already.

    Raises:
        UserError: if one is empty, too long or not UTF-8; the message says which. Or if a
            word has no tag of a language and the model knows several.
    """
    words = []
    for index, content in enumerate(tensor.ravel().tolist()):
        try:
            word = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"word {index} is not UTF-8: {error.reason}") from error
        if len(word) > limits.longest_word:
            raise UserError(
                f"word {index} has {len(word)} characters, a word may have {limits.longest_word}"
            )
        if not (word if are_normalized else normalize(word)):
            raise UserError(f"word {index} is empty")
        words.append(word)
    return words


class EncodedAnswer(NamedTuple):
    """The values of the output tensors for a word, in the order of :data:`OUTPUTS`.

    The first three have one for each pronunciation that is wanted.
    """

    phones: list[bytes]
    probabilities: list[float]
    alignments: list[bytes]
    source: list[bytes]
    unknown: list[bytes]


#: The output tensors and what NumPy calls their kinds.
OUTPUTS = {
    PHONES: np.object_,
    PROBABILITY: np.float32,
    ALIGNMENT: np.object_,
    SOURCE: np.object_,
    UNKNOWN: np.object_,
}


def encode_answer(answer: Pronunciation, options: Options) -> EncodedAnswer:
    """Return what the output tensors say of a word."""
    choices = (answer, *answer.alternatives)
    source = answer.source
    if source == SOURCE_LEXICON and not answer.phones:
        # It was asked alone, and has not this word.
        choices, source = (), ""
    missing = options.n_best - len(choices)
    alignments = [
        json.dumps(choice.alignment, ensure_ascii=False).encode() if choice.alignment else b""
        for choice in choices
    ]
    return EncodedAnswer(
        [" ".join(choice.phones).encode() for choice in choices] + [b""] * missing,
        [choice.probability for choice in choices] + [NO_PRONUNCIATION] * missing,
        alignments + [b""] * missing,
        [source.encode()],
        ["".join(answer.unknown_characters).encode()],
    )


def to_tensors(answers: Sequence[EncodedAnswer], wanted: Collection[str]) -> dict[str, NDArray]:
    """Return the output tensors of a request, each of two dimensions, the first of which is words.

    Args:
        answers: one for each word.
        wanted: the names of the tensors that were asked for.
    """
    columns = zip(OUTPUTS.items(), zip(*answers), strict=True)
    return {
        name: np.array(column, dtype=kind) for (name, kind), column in columns if name in wanted
    }


def decode_answers(
    phones: Iterable[Sequence[str]],
    probabilities: Iterable[Sequence[float]],
    alignments: Iterable[Sequence[str]] | None,
) -> list[list[Alternative]]:
    """Return the pronunciations of every word, best first; undoes :func:`encode_answer`.

    Args:
        phones: the values of ``PHONES``, those of a word together.
        probabilities: likewise.
        alignments: likewise; None where they were not asked for.
    """
    phones = list(phones)
    if alignments is None:
        alignments = [[""] * len(row) for row in phones]
    return [
        [
            Alternative(tuple(text.split()), float(np.float32(probability)), _alignment(pairs))
            for text, probability, pairs in zip(*choices, strict=True)
            if probability != NO_PRONUNCIATION
        ]
        for choices in zip(phones, probabilities, alignments, strict=True)
    ]


def _alignment(text: str) -> Alignment:
    pairs = json.loads(text) if text else []
    return tuple((letter, tuple(phones)) for letter, phones in pairs)
