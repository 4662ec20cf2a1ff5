"""Scores what a model answered, as a table and as a file."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean

from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelLanguage, ModelMetadata, is_tag
from grapheme_to_phoneme.inference.pronouncer import Pronunciation
from grapheme_to_phoneme.training.metrics import Score, measure_reliability

#: Standard deviations that 95 % of a normal distribution lie within.
NORMAL_QUANTILE = 1.959964

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
        # The tag of a language is no letter.
        spelling = answer.word[1:] if is_tag(answer.word[:1]) else answer.word
        score.add(spelling, answer.phones, references[answer.word], answer.probability)
    return score


def by_language(
    answers: Iterable[Pronunciation], metadata: ModelMetadata
) -> list[tuple[ModelLanguage, list[Pronunciation]]]:
    """Return each language of a model of several with its answers, to words that have tags."""
    groups: dict[str, list[Pronunciation]] = {tag: [] for tag in metadata.languages_by_tag}
    for answer in answers:
        if answer.word[:1] in groups:
            groups[answer.word[0]].append(answer)
    return [(metadata.languages_by_tag[tag], group) for tag, group in groups.items()]


def score_languages(
    answers: Iterable[Pronunciation],
    references: dict[str, list[tuple[str, ...]]],
    metadata: ModelMetadata,
) -> dict[str, Score]:
    """Count the errors of each language of a model of several that has answers, by its code."""
    return {
        language.code: score_answers(own, references)
        for language, own in by_language(answers, metadata)
        if own
    }


def mean_rates(scores: Iterable[Score]) -> tuple[float, float]:
    """Return the means of word and phoneme error rates, in percent, all scores alike."""
    pairs = [(score.wer, score.per) for score in scores]
    wers, pers = zip(*pairs, strict=True)
    return fmean(wers), fmean(pers)


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


def read_groups(path: Path, normalize: Callable[[str], str]) -> dict[str, list[str]]:
    """Read which words belong to which groups: lines of a word, a tab and a group's name.

    Args:
        path: the file; a word may have several lines.
        normalize: brings a word to the form that it is scored in.

    Returns:
        The words of every group, in the order of the file.

    Raises:
        UserError: if the file cannot be read, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    groups: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        word, tab, group = line.partition("\t")
        if not (word.strip() and tab and group.strip()):
            raise UserError(f"{path}, line {number}: give a word, a tab and a group's name")
        groups.setdefault(group.strip(), []).append(normalize(word.strip()))
    return groups


def score_groups(
    answers: Sequence[Pronunciation],
    references: dict[str, list[tuple[str, ...]]],
    groups: dict[str, list[str]],
) -> dict[str, Score]:
    """Count the errors of every group of words that has answers.

    Args:
        answers: what the model said of each word.
        references: the accepted pronunciations of every normalised spelling.
        groups: words by the name of their group; those without an answer are passed over.
    """
    said = {answer.word: answer for answer in answers}
    scores = {
        name: score_answers(
            [said[word] for word in dict.fromkeys(words) if word in said], references
        )
        for name, words in groups.items()
    }
    return {name: score for name, score in scores.items() if score.words}


def confidence_interval(wrong: int, words: int) -> tuple[float, float]:
    """Return the bounds, in percent, that an error rate lies between, 19 times of 20.

    Wilson's interval (1927, "Probable Inference, the Law of Succession, and Statistical
    Inference"), which holds for few words and rates near 0 and 100, too.

    Args:
        wrong: number of wrong words.
        words: number of words, at least 1.
    """
    rate, spread = wrong / words, NORMAL_QUANTILE**2 / words
    centre = rate + spread / 2
    reach = (spread * (rate * (1 - rate) + spread / 4)) ** 0.5
    return tuple(100 * (centre + sign * reach) / (1 + spread) for sign in (-1, 1))


def format_table(score: Score, groups: dict[str, Score] | None = None) -> str:
    """Return a table with a row for all words, one per group of lengths and one per group.

    Args:
        score: of all words.
        groups: the scores of further groups, by name.
    """
    rows = [("all words", score.words, score.wrong_words, f"{score.per:.2f}")]
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
            rows.append((label, words, wrong, ""))
    for name, part in (groups or {}).items():
        rows.append((name, part.words, part.wrong_words, f"{part.per:.2f}"))
    width = max(len(label) for label, *_ in rows) + 1
    lines = [f"{'':<{width}}{'words':>8}{'wrong':>8}{'WER %':>9}{'95 % interval':>17}{'PER %':>9}"]
    for label, words, wrong, per in rows:
        low, high = confidence_interval(wrong, words)
        line = f"{label:<{width}}{words:8,}{wrong:8,}{100 * wrong / words:9.2f}"
        lines.append(f"{line}{f'{low:.2f} to {high:.2f}':>17}{per:>9}".rstrip())
    return "\n".join(lines)


def write_score(
    score: Score, facts: dict[str, object], path: Path, groups: dict[str, Score] | None = None
) -> None:
    """Write a score, and those of groups, as YAML, with what it was measured on."""
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
    if groups:
        values["groups"] = {
            name: {
                "words": part.words,
                "wrong_words": part.wrong_words,
                "wer": round(part.wer, 4),
                "per": round(part.per, 4),
            }
            for name, part in groups.items()
        }
    config: DictConfig = OmegaConf.create(values)
    OmegaConf.save(config, path)
