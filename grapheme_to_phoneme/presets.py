"""Chooses settings by the lexicon, where the command line does not choose."""

import logging
from collections.abc import Iterable, Sequence

from omegaconf import DictConfig

from grapheme_to_phoneme.configuration import named_keys
from grapheme_to_phoneme.lexicon.data import training_spellings
from grapheme_to_phoneme.lexicon.multilingual import (
    SEVERAL_LANGUAGES,
    language_configs,
    tags_of,
)

LOGGER = logging.getLogger(__name__)

PRESET = "experiment"

#: The preset of trainings that go on from a finished run.
ADAPTED = "adapted"
UNICODE_FORM = "preprocessing.normalization.unicode_form"
UNICODE_FORMS = "data.unicode_forms"

#: The block Hangul Syllables: each of its characters stands for two or three letters.
FIRST_SYLLABLE, LAST_SYLLABLE = "\uac00", "\ud7a3"


def automatic_overrides(
    config: DictConfig, overrides: Sequence[str], large: str = "default"
) -> list[str]:
    """Return overrides for what the lexicon decides better than a default, and nobody has named.

    - The preset, by the number of words: ``preset_below_words`` has the bounds. Or the one for
      a training that goes on from a finished run.
    - NFD for Korean: a syllable of Hangul is one character in NFC, most of them too rare to be
      learnt; NFD writes its letters one by one.

    Args:
        config: the configuration that ``overrides`` give.
        overrides: the command line's.
        large: the preset of lexicons that none of the bounds holds for.

    Raises:
        UserError: if the lexicon cannot be read.
    """
    named = named_keys(overrides)
    spellings = training_spellings(config)
    chosen = []
    if PRESET not in named:
        bounds = config.preset_below_words.items()
        fitting = [name for name, limit in bounds if len(spellings) < limit]
        preset = fitting[0] if fitting else large
        if config.start_run is not None:
            preset = ADAPTED
        LOGGER.info(
            "%s words to learn from: the preset %s (%s=NAME chooses another)",
            f"{len(spellings):,}",
            preset,
            PRESET,
        )
        chosen.append(f"{PRESET}={preset}")
    if UNICODE_FORM in named or not _has_hangul(spellings):
        return chosen
    if config.data.source != SEVERAL_LANGUAGES:
        chosen.append(f"{UNICODE_FORM}=NFD")
    elif not any(name.startswith(UNICODE_FORMS) for name in named):
        tags = tags_of(language_configs(config))
        forms = ",".join(
            f"{code}:NFD"
            for code, tag in tags.items()
            if _has_hangul(spelling for spelling in spellings if spelling[0] == tag)
        )
        chosen.append(f"{UNICODE_FORMS}={{{forms}}}")
    else:
        return chosen
    LOGGER.info("syllables of Hangul are taken apart: %s", chosen[-1])
    return chosen


def _has_hangul(spellings: Iterable[str]) -> bool:
    return any(
        FIRST_SYLLABLE <= character <= LAST_SYLLABLE
        for spelling in spellings
        for character in spelling
    )
