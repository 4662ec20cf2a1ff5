"""Remembered answers."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from grapheme_to_phoneme.serving.answer_cache import AnswerCache


def test_remembered_answers_are_not_asked_for() -> None:
    asked: list[str] = []

    def ask(questions: Sequence[str]) -> list[str]:
        asked.extend(questions)
        return [question.upper() for question in questions]

    cache = AnswerCache(2, ask)
    assert cache.answer(["one", "two", "one"]) == {"one": "ONE", "two": "TWO"}
    assert cache.answer(["one"]) == {"one": "ONE"}
    assert asked == ["one", "two"]
    # The least recently used one makes room.
    cache.answer(["three"])
    cache.answer(["one", "two"])
    assert asked == ["one", "two", "three", "two"]


def test_failure_is_not_remembered() -> None:
    fails = [True]

    def ask(questions: Sequence[str]) -> list[str]:
        if fails.pop():
            raise ValueError
        return list(questions)

    cache = AnswerCache(9, ask)
    try:
        cache.answer(["one"])
    except ValueError:
        fails.append(False)
    assert cache.answer(["one"]) == {"one": "one"}


@given(st.integers(0, 4), st.lists(st.lists(st.integers(0, 9))))
def test_answers_are_right_whatever_is_remembered(size: int, batches: list[list[int]]) -> None:
    cache = AnswerCache(size, lambda questions: [question**2 for question in questions])
    for batch in batches:
        assert cache.answer(batch) == {question: question**2 for question in batch}
        assert len(cache) <= size
