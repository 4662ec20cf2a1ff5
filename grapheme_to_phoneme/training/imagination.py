"""Words that a language could have: spellings drawn from a lexicon's letter n-grams.

What teachers say of them tells a smaller network more about the teachers than the lexicon's few
words do, and needs no word list of the language.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import accumulate

#: Draws for each word that is asked for, after which a lexicon is taken to have no more.
MOST_ATTEMPTS = 20

_START, _END = "\N{START OF TEXT}", "\N{END OF TEXT}"


@dataclass(frozen=True)
class _Followers:
    """What follows a context.

    Attributes:
        letters: the letters.
        counts: how often each of them or one before it follows.
    """

    letters: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def trust(self) -> float:
        """How far the context decides: the rest is left to a shorter one."""
        return self.counts[-1] / max(1, self.counts[-1] + len(self.letters))


#: What follows an unknown context.
_NOTHING = _Followers((), (0,))


class LetterModel:
    """Letter n-grams of all orders, smoothed by Witten and Bell's method (1991).

    Args:
        spellings: the words to learn from.
        order: letters that a letter depends on, with itself.
    """

    def __init__(self, spellings: Iterable[str], order: int) -> None:
        self._order = order
        followers: dict[str, Counter[str]] = defaultdict(Counter)
        self._longest = 0
        for spelling in spellings:
            self._longest = max(self._longest, len(spelling))
            text = f"{_START}{spelling}{_END}"
            for end in range(1, len(text)):
                for start in range(max(0, end - order + 1), end + 1):
                    followers[text[start:end]][text[end]] += 1
        self._followers = {
            context: _Followers(tuple(counts), tuple(accumulate(counts.values())))
            for context, counts in followers.items()
        }

    def draw(self, generator: random.Random) -> str:
        """Return a spelling, no longer than the longest known one."""
        text = _START
        while len(text) <= self._longest:
            letter = self._draw_letter(text[max(0, len(text) - self._order + 1) :], generator)
            if letter == _END:
                break
            text += letter
        return text.removeprefix(_START)

    def _draw_letter(self, context: str, generator: random.Random) -> str:
        """Return what follows: in this context, or in a shorter one where it is little known."""
        followers = self._followers.get(context, _NOTHING)
        if context and generator.random() >= followers.trust:
            return self._draw_letter(context[1:], generator)
        return generator.choices(followers.letters, cum_weights=followers.counts)[0]


def imagine(
    spellings: Collection[str], count: int, known: Collection[str], seed: int, order: int
) -> list[str]:
    """Make words up.

    Args:
        spellings: the words to learn from.
        count: how many to make up; there may be fewer, of letters that allow no more.
        known: words not to return.
        seed: the words follow from it.
        order: letters that a letter of them depends on, with itself.

    Returns:
        Different words, none of them known, in alphabetical order.
    """
    model, generator = LetterModel(spellings, order), random.Random(seed)
    imagined: set[str] = set()
    for _ in range(MOST_ATTEMPTS * count):
        if len(imagined) == count:
            break
        word = model.draw(generator)
        if word and word not in known:
            imagined.add(word)
    return sorted(imagined)
