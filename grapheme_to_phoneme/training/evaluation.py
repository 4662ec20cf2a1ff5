"""Scores a model file on a lexicon."""

from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.inference.pronouncer import Pronunciation
from grapheme_to_phoneme.training.metrics import Score, measure_reliability

#: Lengths that share a row of the table, in letters.
LENGTH_GROUPS = ((1, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, None))


def score_answers(
    answers: Iterable[Pronunciation], references: dict[str, list[tuple[str, ...]]]
) -> Score:
    """Count the errors of a model's answers.

    Args:
        answers: what the model said of each word.
        references: the accepted pronunciations of every normalised spelling.
    """
    score = Score()
    for answer in answers:
        score.add(answer.word, answer.phones, references[answer.word], answer.probability)
    return score


def oracle_wer(
    answers: Iterable[Pronunciation], references: dict[str, list[tuple[str, ...]]]
) -> float:
    """Return the share of words, in percent, of which no pronunciation given is an accepted one.

    Args:
        answers: what the model said of each word, with alternatives.
        references: the accepted pronunciations of every normalised spelling.
    """
    missed = [
        not any(said.phones in references[answer.word] for said in (answer, *answer.alternatives))
        for answer in answers
    ]
    return 100.0 * sum(missed) / len(missed) if missed else 0.0


def format_table(score: Score) -> str:
    """Return the score as a table with a row for all words and one per group of lengths."""
    rows = [("all words", score.words, score.wrong_words)]
    for shortest, longest in LENGTH_GROUPS:
        inside = [
            length
            for length in score.words_by_length
            if length >= shortest and (longest is None or length <= longest)
        ]
        words = sum(score.words_by_length[length] for length in inside)
        wrong = sum(score.wrong_by_length[length] for length in inside)
        label = f"{shortest}-{longest} letters" if longest else f"{shortest}+ letters"
        if words:
            rows.append((label, words, wrong))
    lines = [f"{'':<14}{'words':>8}{'wrong':>8}{'WER %':>9}{'PER %':>9}"]
    for number, (label, words, wrong) in enumerate(rows):
        per = f"{score.per:9.2f}" if number == 0 else ""
        lines.append(f"{label:<14}{words:8,}{wrong:8,}{100 * wrong / words:9.2f}{per}")
    return "\n".join(lines)


def write_score(score: Score, facts: dict[str, object], path: Path) -> None:
    """Write a score as YAML, with what it was measured on."""
    values = {
        **facts,
        "words": score.words,
        "wrong_words": score.wrong_words,
        "wer": round(score.wer, 4),
        "phone_errors": score.phone_errors,
        "reference_phones": score.reference_phones,
        "per": round(score.per, 4),
    }
    if score.confidences:
        values["ece"] = round(measure_reliability(score.confidences).ece, 4)
    config: DictConfig = OmegaConf.create(values)
    OmegaConf.save(config, path)
