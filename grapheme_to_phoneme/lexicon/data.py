"""The lexicons that a configuration names, read and checked."""

import logging
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.constants import GRAPHEME_TO_PHONEME
from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.inference.metadata import ModelLanguage
from grapheme_to_phoneme.lexicon.catalogues import locate
from grapheme_to_phoneme.lexicon.direction import is_reverse, refuse_reverse, reverse_parts
from grapheme_to_phoneme.lexicon.downloading import obtain_parts
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling, ungroup
from grapheme_to_phoneme.lexicon.multilingual import (
    SEVERAL_LANGUAGES,
    language_configs,
    tag_entries,
    tags_of,
)
from grapheme_to_phoneme.lexicon.preprocessing import (
    PARTS,
    build_normalization,
    check_split_hashes,
    ensure_prepared,
    strips_stress,
)
from grapheme_to_phoneme.lexicon.reading import check_disjoint, read_lexicon
from grapheme_to_phoneme.lexicon.splitting import hold_out, split_sha256
from grapheme_to_phoneme.normalization import Normalization

LOGGER = logging.getLogger(__name__)

#: Prepared files hold spellings that were normalised when they were made.
AS_WRITTEN = Normalization(
    case="keep", unicode_form="keep", unify_apostrophes=False, drop_invisible=False
)


@dataclass(frozen=True)
class LexiconData:
    """What a model learns from and is scored on.

    Attributes:
        train: entries to learn from.
        dev: entries to choose by; no spelling is in ``train`` too, unless that was allowed.
        test: entries to report on, or None.
        hashes: each part's SHA-256 as :func:`split_sha256` takes it.
        language: a BCP 47 tag.
        notation: what the phones are written in, such as ``arpabet`` or ``ipa``.
        normalization: what spellings went through, for prediction to do the same.
        languages: of a model of several, what its languages are; spellings begin with their
            tags.
        direction: what is learnt; in ``phoneme-to-grapheme`` the entries' spellings stand for
            phones, by ``normalization.symbols``, and their phones are letters.
    """

    train: list[Entry]
    dev: list[Entry]
    test: list[Entry] | None
    hashes: dict[str, str]
    language: str
    notation: str
    normalization: Normalization
    languages: tuple[ModelLanguage, ...] = ()
    direction: str = GRAPHEME_TO_PHONEME


def load_data(config: DictConfig) -> LexiconData:
    """Read the lexicons that the configuration names.

    With ``data=cmudict`` and ``data=wikipron`` they are the parts of a lexicon that is divided by
    spelling, fetched or made where they are missing; with ``data=sigmorphon2021`` they are the
    task's own parts; with ``data=lexicon`` they are the files ``data.train_path``,
    ``data.dev_path`` and ``data.test_path``; with ``data=multilingual`` they are those of several
    languages, whose spellings have the tags of their languages in front.

    Args:
        config: the whole configuration; ``data``, ``preprocessing``, ``direction`` and ``storage``
            are used.

    Raises:
        UserError: if a file is missing or malformed, or a word is in two parts, or if
            ``data.language`` names no single lexicon.
    """
    if config.data.source == SEVERAL_LANGUAGES:
        refuse_reverse(config.direction, "a model of several languages pronounces")
        return _load_languages(config)
    locate(config)
    parts = _load_prepared(config) if config.data.source == "download" else _load_files(config)
    hashes = {name: split_sha256(part) for name, part in parts.items()}
    normalization = build_normalization(config)
    if config.data.source == "download":
        check_split_hashes(config, hashes)
    if is_reverse(config.direction):
        parts, normalization = reverse_parts(parts)
    return LexiconData(
        train=parts["train"],
        dev=parts["dev"],
        test=parts.get("test"),
        hashes=hashes,
        language=config.data.language,
        notation=config.data.notation,
        normalization=normalization,
        direction=config.direction,
    )


def _load_languages(config: DictConfig) -> LexiconData:
    configs = language_configs(config)
    tags = tags_of(configs)
    parts: dict[str, list[Entry]] = {}
    languages = []
    for code, own_config in configs.items():
        data = load_data(own_config)
        for name in PARTS:
            entries = getattr(data, name) or []
            parts.setdefault(name, []).extend(tag_entries(entries, tags[code]))
        languages.append(ModelLanguage(code, tags[code], data.language, data.normalization))
    return LexiconData(
        train=parts["train"],
        dev=parts["dev"],
        test=parts["test"] or None,
        hashes={name: split_sha256(part) for name, part in parts.items() if part},
        language=config.data.language,
        notation=config.data.notation,
        normalization=build_normalization(config),
        languages=tuple(languages),
    )


def training_spellings(config: DictConfig) -> set[str]:
    """Return the words that the configuration gives to learn from, without a line in the log.

    Those that will be held out of a lexicon of one file are among them. With several languages
    they have tags.

    Raises:
        UserError: if the lexicon is missing or malformed.
    """
    if config.data.source == SEVERAL_LANGUAGES:
        configs = language_configs(config)
        tags = tags_of(configs)
        return {
            tags[code] + spelling
            for code, own_config in configs.items()
            for spelling in training_spellings(own_config)
        }
    locate(config)
    if config.data.source == "download":
        entries = read_lexicon(ensure_prepared(config).train, "tsv", AS_WRITTEN)
    else:
        path = _part_paths(config)["train"]
        entries = read_lexicon(path, config.data.format, build_normalization(config))
    return {entry.spelling for entry in entries}


def load_part(config: DictConfig, path: Path) -> list[Entry]:
    """Read one lexicon file with the configuration's format, normalisation and stress.

    Repeated pronunciations of a word are dropped; a word's pronunciations come together.

    Raises:
        UserError: as :func:`read_lexicon` does.
    """
    entries = read_lexicon(
        path,
        config.data.format,
        build_normalization(config),
        strips_stress(config),
        config.data.get("segment", False),
    )
    unique = ungroup(group_by_spelling(entries))
    LOGGER.info(
        "%s: %s words, %s pronunciations, %s repeated lines",
        path,
        f"{len({entry.spelling for entry in unique}):,}",
        f"{len(unique):,}",
        f"{len(entries) - len(unique):,}",
    )
    return unique


def _load_prepared(config: DictConfig) -> dict[str, list[Entry]]:
    paths = ensure_prepared(config)
    return {name: read_lexicon(path, "tsv", AS_WRITTEN) for name, path in paths.parts.items()}


def _part_paths(config: DictConfig) -> dict[str, Path]:
    data = config.data
    paths = obtain_parts(config) if data.source == "parts" else _named_files(data)
    if "train" not in paths:
        raise UserError("data=lexicon needs a lexicon to learn from: say data.train_path=FILE")
    return paths


def _load_files(config: DictConfig) -> dict[str, list[Entry]]:
    data = config.data
    paths = _part_paths(config)
    parts = {"train": load_part(config, paths["train"])}
    if "dev" in paths:
        parts["dev"] = load_part(config, paths["dev"])
    else:
        split = config.preprocessing.split
        parts["train"], parts["dev"] = hold_out(parts["train"], split.dev_fraction, split.seed)
        LOGGER.info(
            "no data.dev_path: %s of the words are held out to choose by (seed %s), %s entries",
            f"{split.dev_fraction:.0%}",
            split.seed,
            f"{len(parts['dev']):,}",
        )
    if "test" in paths:
        parts["test"] = load_part(config, paths["test"])
    for name, entries in parts.items():
        if name != "train":
            shared = check_disjoint(parts["train"], entries, name, data.allow_overlap)
            if shared:
                LOGGER.warning("%d words are in both train and %s", len(shared), name)
    return parts


def _named_files(data: DictConfig) -> dict[str, Path]:
    named = {"train": data.train_path, "dev": data.dev_path, "test": data.test_path}
    return {part: Path(path) for part, path in named.items() if path is not None}
