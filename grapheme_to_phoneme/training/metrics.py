"""Word and phoneme error rate with several accepted pronunciations, and trust in probabilities."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Phones = Sequence[str]

#: Words with their accepted pronunciations.
References = dict[str, list[tuple[str, ...]]]

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
        confidences: the probability of every answer that had one, and whether it was right.
    """

    words: int = 0
    wrong_words: int = 0
    phone_errors: int = 0
    reference_phones: int = 0
    words_by_length: Counter[int] = field(default_factory=Counter)
    wrong_by_length: Counter[int] = field(default_factory=Counter)
    confusions: Counter[tuple[str, str]] = field(default_factory=Counter)
    confidences: list[tuple[float, bool]] = field(default_factory=list)

    @property
    def wer(self) -> float:
        """Word error rate in percent; 0 for no words."""
        return 100.0 * self.wrong_words / self.words if self.words else 0.0

    @property
    def per(self) -> float:
        """Phoneme error rate in percent; 0 for no phones."""
        return 100.0 * self.phone_errors / self.reference_phones if self.reference_phones else 0.0

    def loses_at_most(self, points: float, other: "Score") -> bool:
        """Say whether the WER is at most so many points of percent above another's.

        Both are of the same words, and these are compared: in binary floating point 8.4 - 8.2
        is more than 0.2.
        """
        return 100.0 * (self.wrong_words - other.wrong_words) <= points * self.words

    def add(
        self,
        spelling: str,
        prediction: Phones,
        references: Sequence[tuple[str, ...]],
        probability: float | None = None,
    ) -> None:
        """Count one word. An empty prediction is an error like any other."""
        self.words += 1
        self.words_by_length[len(spelling)] += 1
        is_right = tuple(prediction) in references
        if probability is not None:
            self.confidences.append((probability, is_right))
        if is_right:
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


@dataclass(frozen=True)
class Reliability:
    """Answers grouped by their probability, in equal steps; steps without answers are left out.

    Attributes:
        probabilities: the mean probability of each group, 0 to 1.
        accuracies: the share of right answers in each group, 0 to 1.
        counts: the number of answers in each group.
    """

    probabilities: tuple[float, ...]
    accuracies: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def ece(self) -> float:
        """Expected calibration error in percent; 0 for no answers.

        The mean distance of a group's probability from its accuracy, weighted by its answers
        (Guo et al., 2017, "On Calibration of Modern Neural Networks").
        """
        if not self.counts:
            return 0.0
        distances = np.abs(np.subtract(self.probabilities, self.accuracies))
        return 100.0 * float(np.average(distances, weights=self.counts))


def measure_reliability(confidences: Sequence[tuple[float, bool]], steps: int = 15) -> Reliability:
    """Group answers by their probability.

    Args:
        confidences: the probability of every answer, 0 to 1, and whether it is right.
        steps: how many groups there are between 0 and 1.
    """
    probabilities = np.array([probability for probability, _ in confidences], dtype=np.float64)
    rights = np.array([is_right for _, is_right in confidences], dtype=np.float64)
    groups = np.minimum((probabilities * steps).astype(np.int64), steps - 1)
    counts = np.bincount(groups, minlength=steps)
    filled = counts > 0
    return Reliability(
        *(
            tuple((np.bincount(groups, values, minlength=steps)[filled] / counts[filled]).tolist())
            for values in (probabilities, rights)
        ),
        tuple(counts[filled].tolist()),
    )


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
