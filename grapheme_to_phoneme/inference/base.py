"""What every pronouncer does with words before and after a model is asked, whatever runs it."""

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.packed_lexicon import PackedLexicon
from grapheme_to_phoneme.normalization import Normalization
from grapheme_to_phoneme.notation import converter, notation_of

#: Hypotheses per wanted pronunciation: several may differ in their alignment alone.
HYPOTHESES_PER_ANSWER = 2

#: Hypotheses that memory is enough for, whatever the word.
MOST_HYPOTHESES = 10_000

#: The precision of probabilities.
FLOAT32 = Struct("f")

#: Where a pronunciation comes from.
SOURCE_DICTIONARY = "dictionary"
SOURCE_LEXICON = "lexicon"
SOURCE_MODEL = "model"

#: The letters of a word in order, each with the phones that it gave.
Alignment = tuple[tuple[str, tuple[str, ...]], ...]

#: Gives the phones of a pronunciation in another notation.
Rewriting = Callable[[Iterable[str]], tuple[str, ...]]

#: The user's own pronunciations of a word, by its spelling.
Dictionary = Mapping[str, Sequence[tuple[str, ...]]]


class Alternative(NamedTuple):
    """A further pronunciation of a word.

    Attributes:
        phones: its phones in order.
        probability: the model's probability, 0 to 1.
        alignment: see :class:`Pronunciation`.
    """

    phones: tuple[str, ...]
    probability: float
    alignment: Alignment = ()


class Pronunciation(NamedTuple):
    """What the model, the user's dictionary or the packed lexicon says of a word.

    A named tuple, which is made in a third of the time that a frozen dataclass takes: there is
    one for every word.

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


class BasePronouncer(ABC):
    """Normalises words, looks them up, asks a model for the others, and puts answers together.

    Args:
        metadata: what is known of the model.
        longest_word: longer words are pronounced piece by piece, in letters.
        dictionary: see :meth:`use_dictionary`.
        lexicon: a packed lexicon, which answers for the words that it holds and the dictionary
            does not.
        notation: what the phones of answers are written in, one of
            ``grapheme_to_phoneme.notation.NOTATIONS``; the model's own if None.
        language: which of its languages words are in, for a model of several: a code or a
            BCP 47 tag. If None, every word has the tag of its language in front.

    Raises:
        UserError: if the lexicon cannot be read, if a word of the dictionary has no spelling or
            no phones, if a phone of the model has no exact counterpart in ``notation``, or if
            the model does not know the language.
    """

    def __init__(
        self,
        metadata: ModelMetadata,
        longest_word: int,
        dictionary: Dictionary | None = None,
        lexicon: Path | None = None,
        notation: str | None = None,
        language: str | None = None,
    ) -> None:
        self.metadata = metadata
        self._tags = metadata.languages_by_tag
        chosen = None if language is None else metadata.find_language(language)
        self._tag = "" if chosen is None else chosen.tag
        self._letters = frozenset(metadata.letters)
        self._longest_word = longest_word
        self._lexicon = None if lexicon is None else PackedLexicon(lexicon)
        self._rewrite: Rewriting | None = None
        if notation is not None:
            metadata.require_pronunciations("another notation")
            own = notation_of(metadata.notation, metadata.phones)
            self._rewrite = converter(own, notation)
            # What cannot be said shows now, not in the middle of a list of words.
            self._rewrite(metadata.phones)
        self.use_dictionary({} if dictionary is None else dictionary)

    @property
    def normalization(self) -> Normalization:
        """What spellings go through, in the language that was asked for."""
        language = self._tags.get(self._tag)
        return self.metadata.normalization if language is None else language.normalization

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
        if dictionary:
            self.metadata.require_pronunciations("a dictionary")
        normalized: dict[str, dict[tuple[str, ...], None]] = {}
        for word, pronunciations in dictionary.items():
            spelling = self.metadata.normalize(self._tag + word)
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
            spelling: equally_likely(list(map(rewrite, known)))
            for spelling, known in normalized.items()
        }

    def pronounce(
        self,
        words: Iterable[str],
        n_best: int = 1,
        beam_size: int | None = None,
        with_alignment: bool = False,
        are_normalized: bool = False,
        source: str | None = None,
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
            are_normalized: whether the words are in the model's normal form already, so that
                they are taken as they are.
            source: ``SOURCE_LEXICON`` or ``SOURCE_MODEL`` asks nothing else; a word that the
                lexicon does not have gets no phones then.

        Raises:
            UserError: if ``n_best`` or ``beam_size`` is not positive or more than any machine
                has room for, if there is no such source, or if ``words`` is one string instead
                of several.
        """
        if isinstance(words, str):
            raise UserError("pronounce takes a list of words, not one string: write [word]")
        beam_size = _choose_beam_size(n_best, beam_size)
        if source not in (None, SOURCE_LEXICON, SOURCE_MODEL):
            raise UserError(f"the source must be {SOURCE_LEXICON} or {SOURCE_MODEL}")
        words = list(words)
        # Another thread may put another dictionary into place on the way.
        dictionary = self._dictionary if source is None else {}
        normalize = str if are_normalized else self.metadata.normalize
        spellings = [normalize(self._tag + word) for word in words]
        missing = [spelling for spelling in dict.fromkeys(spellings) if spelling not in dictionary]
        looked_up: Mapping[str, Sequence[Alternative]] = {}
        if source != SOURCE_MODEL:
            looked_up = self._look_up(missing, n_best)
        asked = (
            []
            if source == SOURCE_LEXICON
            else [spelling for spelling in missing if spelling not in looked_up]
        )
        spelled = {spelling: self._spell(spelling) for spelling in asked}
        distinct = dict.fromkeys(letters for letters, _ in spelled.values() if letters)
        found = self._search(distinct, n_best, beam_size, with_alignment)
        # Asked once, and not for every word.
        says_otherwise = self._rewrite is not None or self.metadata.spells
        rewritten = self._rewritten if says_otherwise else tuple
        answers = []
        for word, spelling in zip(words, spellings, strict=True):
            if spelling in dictionary:
                choices = dictionary[spelling][:n_best]
                answers.append(_answer(word, choices, SOURCE_DICTIONARY))
            elif spelling in spelled:
                letters, unknown = spelled[spelling]
                choices = rewritten(found.get(letters, ())[:n_best])
                answers.append(_answer(word, choices, SOURCE_MODEL, unknown))
            else:
                choices = rewritten(looked_up.get(spelling, ())[:n_best])
                answers.append(_answer(word, choices, SOURCE_LEXICON))
        return answers

    def _look_up(
        self, spellings: Sequence[str], n_best: int
    ) -> Mapping[str, Sequence[Alternative]]:
        """Return at least the ``n_best`` first pronunciations of what the lexicon holds."""
        if self._lexicon is None:
            return {}
        found = self._lexicon.find(spellings)
        return {spelling: equally_likely(known) for spelling, known in found.items()}

    def _rewritten(self, choices: Sequence[Alternative]) -> Sequence[Alternative]:
        """Return choices in the notation that was asked for, with what letters stand for."""
        rewrite = self._rewrite or tuple
        show = self.metadata.normalization.symbol_of
        return [
            choice._replace(
                phones=rewrite(choice.phones),
                alignment=tuple(
                    (show(letter), rewrite(phones)) for letter, phones in choice.alignment
                ),
            )
            for choice in choices
        ]

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
        known = "".join(letters)
        return "" if known in self._tags else known, tuple(unknown)

    def _search(
        self, spellings: Iterable[str], n_best: int, beam_size: int, with_alignment: bool
    ) -> dict[str, Sequence[Alternative]]:
        """Return the distinct hypotheses of every spelling, best first."""
        found: dict[str, Sequence[Alternative]] = {}
        short: list[str] = []
        for spelling in spellings:
            if len(spelling) > self._longest_word:
                found[spelling] = self._search_pieces(spelling, beam_size, with_alignment)
            else:
                short.append(spelling)
        found.update(self._search_words(short, n_best, beam_size, with_alignment))
        if with_alignment and self._tags:
            found = {
                spelling: [
                    choice._replace(alignment=self._untagged(choice.alignment))
                    for choice in choices
                ]
                for spelling, choices in found.items()
            }
        return found

    def _untagged(self, alignment: Alignment) -> Alignment:
        """Leave out what the tag of a language gave, which is nothing."""
        return alignment[1:] if alignment and alignment[0][0] in self._tags else alignment

    @abstractmethod
    def _search_words(
        self, spellings: Sequence[str], n_best: int, beam_size: int, with_alignment: bool
    ) -> Mapping[str, Sequence[Alternative]]:
        """Return at least the ``n_best`` best hypotheses of every spelling, best first.

        Args:
            spellings: distinct letters that the model knows, none longer than the longest word.
            n_best: how many are wanted.
            beam_size: hypotheses to keep while searching.
            with_alignment: whether the hypotheses have alignments.
        """

    def _search_pieces(
        self, spelling: str, beam_size: int, with_alignment: bool
    ) -> Sequence[Alternative]:
        """Pronounce a spelling that is no word of any language, in bounded memory."""
        tag = spelling[:1] if spelling[:1] in self._tags else ""
        size = self._longest_word - len(tag)
        pieces = [
            tag + spelling[start : start + size] for start in range(len(tag), len(spelling), size)
        ]
        found = self._search_words(list(dict.fromkeys(pieces)), 1, beam_size, with_alignment)
        phones: list[str] = []
        alignment: list[tuple[str, tuple[str, ...]]] = []
        probability = 1.0
        for piece in pieces:
            # A server may know nothing to say.
            best = next(iter(found[piece]), Alternative((), 0.0))
            phones.extend(best.phones)
            alignment.extend(self._untagged(best.alignment))
            probability *= best.probability
        return (Alternative(tuple(phones), round_probability(probability), tuple(alignment)),)


def round_probability(probability: float) -> float:
    """Return a probability, 0 to 1, as precise as the model's numbers are: float32.

    Servers send it in that precision, so that an answer is the same wherever it comes from.
    """
    (rounded,) = FLOAT32.unpack(FLOAT32.pack(min(1.0, probability)))
    return rounded


def equally_likely(pronunciations: Sequence[tuple[str, ...]]) -> tuple[Alternative, ...]:
    """Return a lexicon's pronunciations of a word: nothing tells which of them is likelier."""
    probability = round_probability(1.0 / len(pronunciations))
    return tuple(Alternative(phones, probability) for phones in pronunciations)


def _choose_beam_size(n_best: int, beam_size: int | None) -> int:
    """Return how many hypotheses to keep for so many answers, if there is room for them."""
    if beam_size is None:
        beam_size = 1 if n_best == 1 else HYPOTHESES_PER_ANSWER * n_best
    if n_best < 1 or beam_size < n_best:
        raise UserError("n_best must be at least 1, and beam_size at least n_best")
    if beam_size > MOST_HYPOTHESES:
        raise UserError(
            f"beam_size, which is {HYPOTHESES_PER_ANSWER} times n_best where it is not given, "
            f"must be at most {MOST_HYPOTHESES}, not {beam_size}"
        )
    return beam_size


def _answer(
    word: str, choices: Sequence[Alternative], source: str, unknown: tuple[str, ...] = ()
) -> Pronunciation:
    if not choices:
        return Pronunciation(word, (), 0.0, (), unknown, source)
    best, *others = choices
    return Pronunciation(
        word, best.phones, best.probability, tuple(others), unknown, source, best.alignment
    )
