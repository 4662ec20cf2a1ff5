"""Remembers answers: those that were asked for last, up to a number of them.

Triton's own response cache is not used. It tells requests apart by their tensors alone, not by
their parameters nor by the outputs they ask for, and keeps refusals too, which it then gives as
answers without outputs (seen in Triton 2.51).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any


class AnswerCache:
    """Asks only what it does not remember; the least recently used answers are forgotten.

    Args:
        size: most answers to remember; 0 remembers none.
        ask: answers several questions, in their order.
    """

    def __init__(self, size: int, ask: Callable[[Sequence[Any]], Iterable[Any]]) -> None:
        self._size = size
        self._ask = ask
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def answer(self, questions: Iterable[Hashable]) -> dict[Hashable, Any]:
        """Return the answer to each distinct question."""
        found = {}
        missing = []
        for question in dict.fromkeys(questions):
            if question in self._answers:
                self._answers.move_to_end(question)
                found[question] = self._answers[question]
            else:
                missing.append(question)
        if missing:
            new = dict(zip(missing, self._ask(missing), strict=True))
            found.update(new)
            self._answers.update(new)
            for _ in range(len(self._answers) - self._size):
                self._answers.popitem(last=False)
        return found
