"""Evaluation from end to end: joins prediction, lexicons and scores, and needs no PyTorch."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.configuration import named_keys
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelMetadata
from grapheme_to_phoneme.inference.pronouncer import Pronouncer
from grapheme_to_phoneme.lexicon.data import load_data, load_part
from grapheme_to_phoneme.lexicon.direction import recode, reverse
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling
from grapheme_to_phoneme.lexicon.multilingual import retag_entries
from grapheme_to_phoneme.lexicon.splitting import split_sha256
from grapheme_to_phoneme.training.metrics import measure_reliability
from grapheme_to_phoneme.training.scoring import (
    format_table,
    mean_rates,
    oracle_wer,
    read_groups,
    score_answers,
    score_groups,
    score_languages,
    write_score,
)

#: What a lexicon file is read as: the configuration's default is about the files of its data.
FORMAT = "data.format"
FORMAT_BY_CONTENT = "auto"


def evaluate(
    config: DictConfig,
    overrides: Iterable[str],
    model: Path,
    tell: Callable[[str], object],
) -> Path:
    """Score a model on the words that the configuration names, and write the scores beside it.

    Args:
        config: the whole configuration; what is scored on is in ``evaluate`` and ``data``.
        overrides: the command line's: a lexicon file has the format that they name, if any.
        model: the model file, or the folder of a package.
        tell: is given the report piece by piece, lines with their ends, as soon as each is known.

    Returns:
        The file of the scores.

    Raises:
        UserError: if the model or the words cannot be read, if there is no such part, or if the
            model does not know the language.
    """
    settings = config.evaluate
    pronouncer = Pronouncer(
        model,
        threads=config.infer.threads,
        # A word that is looked up tells nothing of the model.
        use_lexicon=False,
        language=settings.language,
    )
    if settings.lexicon is not None and FORMAT not in named_keys(overrides):
        config.data.format = FORMAT_BY_CONTENT
    entries = _entries(config, pronouncer.metadata)
    references = group_by_spelling(entries)
    started = time.perf_counter()
    answers = pronouncer.pronounce(references, beam_size=settings.beam_size)
    seconds = time.perf_counter() - started
    score = score_answers(answers, references)
    groups = languages = score_languages(answers, references, pronouncer.metadata)
    if settings.groups:
        named = read_groups(Path(settings.groups), pronouncer.normalization.apply)
        groups = {**languages, **score_groups(answers, references, named)}
    name = f"lexicon-{Path(settings.lexicon).stem}" if settings.lexicon else settings.part
    speed = f"{len(answers):,} words in {seconds:.2f} s, {len(answers) / seconds:,.0f} words/s"
    tell(f"{name}, {model}\n{format_table(score, groups)}\n{speed}\n")
    if languages:
        wer, per = mean_rates(languages.values())
        tell(f"mean of the languages: WER {wer:.2f} %, PER {per:.2f} %\n")
    ece = measure_reliability(score.confidences).ece
    tell(f"the probabilities are off by {ece:.2f} points on average (ECE)\n")
    facts = {
        "part": name,
        "sha256": split_sha256(entries),
        "git_commit": pronouncer.metadata.git_commit,
    }
    if settings.n_best > 1:
        several = pronouncer.pronounce(references, n_best=settings.n_best)
        oracle = oracle_wer(several, references)
        facts[f"oracle_wer_{settings.n_best}"] = round(oracle, 4)
        tell(f"no right one among the {settings.n_best} best: {oracle:.2f} % of the words\n")
    target = model.parent / f"evaluation-{name}.yaml"
    write_score(score, facts, target, groups)
    return target


def _entries(config: DictConfig, metadata: ModelMetadata) -> list[Entry]:
    """Return the accepted pronunciations to score a model on.

    Words of several languages have the tags of ``metadata`` in front. Of a model that spells
    they are the accepted spellings, of what it reads.
    """
    settings = config.evaluate
    config.direction = metadata.direction
    has_tags = False
    if settings.lexicon is not None:
        entries = load_part(config, Path(settings.lexicon))
        if metadata.spells:
            entries = reverse(entries, metadata.normalization)
    else:
        data = load_data(config)
        parts = {"train": data.train, "dev": data.dev, "test": data.test}
        if parts.get(settings.part) is None:
            raise UserError(f"there is no part '{settings.part}': choose train, dev or test")
        entries = parts[settings.part]
        has_tags = bool(data.languages)
        if has_tags:
            if settings.language is not None:
                raise UserError(
                    "--language is for data of one language: data.languages=[CODE] and "
                    "data.lexicons choose among several"
                )
            entries = retag_entries(entries, data.languages, metadata)
        elif metadata.spells:
            entries = recode(entries, data.normalization, metadata.normalization)
    if settings.language is None and not has_tags:
        metadata.require_one_language("--language")
    return entries
