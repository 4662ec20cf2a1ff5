"""What a line of a lexicon can say, in any format, and how faulty ones are told."""

from collections import Counter
from dataclasses import dataclass, field

from grapheme_to_phoneme.errors import UserError

#: How many faults or words a message names before it only counts the rest.
NAMED_IN_MESSAGES = 5

#: How much of a word a message shows, in characters.
SHOWN_OF_A_WORD = 40


class LineFault(Exception):
    """Why a line of a lexicon is not an entry."""


@dataclass(frozen=True, slots=True)
class Record:
    """One pronunciation of one word with all that its file says of it.

    Attributes:
        spelling: the word as it is written, without white space at its ends.
        phones: its phones in order; none has white space in it. A file may give none.
        probability: of this pronunciation, above 0; Kaldi and MFA divide by the largest of a
            word, so that it is not always a share.
        silences: MFA's and Kaldi's three numbers of a pronunciation: the probability of a silence
            after it, and the corrections for a silence and for none before it.
        score: Phonetisaurus' cost, the negative natural logarithm of the joint probability of
            spelling and phones. It is no probability of the pronunciation.
        comment: what the file remarks, in CMUdict after ``#``.
        preferred: whether PLS marks it as the preferred pronunciation of its word.
        role: PLS' role, such as a part of speech.
        variant: its number among the pronunciations of its word, which CMUdict writes.
    """

    spelling: str
    phones: tuple[str, ...]
    probability: float | None = None
    silences: tuple[float, float, float] | None = None
    score: float | None = None
    comment: str = ""
    preferred: bool = False
    role: str = ""
    variant: int = 1


@dataclass
class Header:
    """What a file says of all its entries, and what it says that no record holds.

    Attributes:
        language: a BCP 47 tag, or empty where the file has none.
        alphabet: what the phones are written in, such as ``ipa``, or empty.
        left_out: how often the file has what no record holds, by its name.
    """

    language: str = ""
    alphabet: str = ""
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass
class Faults:
    """The faults of a file: the first few in words, all of them counted.

    Attributes:
        total: how many there are.
        named: the first of them.
    """

    total: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, place: str, fault: object) -> None:
        """Note a fault and where it is, such as ``line 3``."""
        self.total += 1
        if len(self.named) < NAMED_IN_MESSAGES:
            self.named.append(f"{place}: {fault}")

    def __str__(self) -> str:
        return first_few(self.named, "; ", self.total)

    def raise_if_any(self, path: object) -> None:
        """Refuse the file if it has faults.

        Raises:
            UserError: with the first of them.
        """
        if self.total:
            raise UserError(
                f"{path} has {count(self.total, 'malformed line')}: {self}. Mend or remove them"
            )


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def first_few(texts: list[str], separator: str, total: int | None = None) -> str:
    """Join the first texts and say how many more there are.

    Args:
        texts: all of them, or at least the first few.
        separator: what to put between them.
        total: how many there are; ``len(texts)`` if None.
    """
    named = texts[:NAMED_IN_MESSAGES]
    rest = (len(texts) if total is None else total) - len(named)
    return separator.join([*named, f"and {rest:,} more"] if rest > 0 else named)


def quote(text: str) -> str:
    """Return a text for a message: shortened, and with escapes for what a terminal obeys."""
    return repr(text if len(text) <= SHOWN_OF_A_WORD else f"{text[:SHOWN_OF_A_WORD]}…")
