"""Word error rate and phoneme error rate with several accepted pronunciations."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Phones = Sequence[str]

#: Stands for a missing phone in the confusion counts: an insertion or a deletion.
NO_PHONE = "∅"


@dataclass
class Score:
    """Errors counted over a list of words.

    Attributes:
        words: number of words.
        wrong_words: words whose prediction equals none of the references.
        phone_errors: edits to the nearest reference, summed.
        reference_phones: lengths of those references, summed.
        words_by_length: number of words per spelling length, in letters.
        wrong_by_length: wrong words per spelling length.
        confusions: how often a reference phone (first) was said as another (second),
            with :data:`NO_PHONE` for insertions and deletions.
    """

    words: int = 0
    wrong_words: int = 0
    phone_errors: int = 0
    reference_phones: int = 0
    words_by_length: Counter[int] = field(default_factory=Counter)
    wrong_by_length: Counter[int] = field(default_factory=Counter)
    confusions: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def wer(self) -> float:
        """Word error rate in percent; 0 for no words."""
        return 100.0 * self.wrong_words / self.words if self.words else 0.0

    @property
    def per(self) -> float:
        """Phoneme error rate in percent; 0 for no phones."""
        return 100.0 * self.phone_errors / self.reference_phones if self.reference_phones else 0.0

    def add(
        self, spelling: str, prediction: Phones, references: Sequence[tuple[str, ...]]
    ) -> None:
        """Count one word. An empty prediction is an error like any other."""
        self.words += 1
        self.words_by_length[len(spelling)] += 1
        if tuple(prediction) in references:
            self.reference_phones += len(prediction)
            return
        distances = [edit_distance(prediction, reference) for reference in references]
        nearest = references[distances.index(min(distances))]
        self.wrong_words += 1
        self.wrong_by_length[len(spelling)] += 1
        self.phone_errors += min(distances)
        self.reference_phones += len(nearest)
        self.confusions.update(
            pair for pair in align_phones(nearest, prediction) if pair[0] != pair[1]
        )


def score_words(
    predictions: Iterable[tuple[str, Phones]],
    references: dict[str, list[tuple[str, ...]]],
) -> Score:
    """Score the first prediction of every word.

    Args:
        predictions: pairs of a spelling and its predicted phones.
        references: the accepted pronunciations of every spelling.
    """
    score = Score()
    for spelling, phones in predictions:
        score.add(spelling, phones, references[spelling])
    return score


def edit_distance(left: Phones, right: Phones) -> int:
    """Return the Levenshtein distance: insertions, deletions and substitutions cost one."""
    previous = list(range(len(right) + 1))
    for i, left_phone in enumerate(left, start=1):
        current = [i]
        for j, right_phone in enumerate(right, start=1):
            substituted = previous[j - 1] + (left_phone != right_phone)
            current.append(min(previous[j] + 1, current[-1] + 1, substituted))
        previous = current
    return previous[-1]


def align_phones(left: Phones, right: Phones) -> list[tuple[str, str]]:
    """Return one least-cost alignment, with :data:`NO_PHONE` on the side that has a gap."""
    table = [list(range(len(right) + 1))]
    for i, left_phone in enumerate(left, start=1):
        row = [i]
        for j, right_phone in enumerate(right, start=1):
            substituted = table[-1][j - 1] + (left_phone != right_phone)
            row.append(min(table[-1][j] + 1, row[-1] + 1, substituted))
        table.append(row)
    pairs = []
    i, j = len(left), len(right)
    while i or j:
        if i and j and table[i][j] == table[i - 1][j - 1] + (left[i - 1] != right[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((left[i], right[j]))
        elif i and table[i][j] == table[i - 1][j] + 1:
            i -= 1
            pairs.append((left[i], NO_PHONE))
        else:
            j -= 1
            pairs.append((NO_PHONE, right[j]))
    return pairs[::-1]
