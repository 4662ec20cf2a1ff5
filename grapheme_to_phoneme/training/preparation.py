"""What the training part of a lexicon becomes before the network sees it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.data import LexiconData
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling
from grapheme_to_phoneme.training.alignment import (
    AlignedEntry,
    Aligner,
    choose_max_phones_per_letter,
    tagged,
    without_rare_chunks,
)
from grapheme_to_phoneme.training.alphabets import Alphabets

LOGGER = logging.getLogger(__name__)

#: Entries left out that are named in the log.
MOST_NAMED = 20


@dataclass(frozen=True)
class PreparedData:
    """Aligned entries and references.

    Attributes:
        train: aligned training entries.
        dev: aligned validation entries, those that the model's alphabets can spell.
        dev_references: the accepted pronunciations of every validation word.
        alphabets: the letters and chunks of ``train``.
    """

    train: list[AlignedEntry]
    dev: list[AlignedEntry]
    dev_references: dict[str, list[tuple[str, ...]]]
    alphabets: Alphabets


def prepare(data: LexiconData, config: DictConfig, seed: int) -> PreparedData:
    """Align a lexicon and collect the model's alphabets.

    Args:
        data: the lexicon's parts.
        config: the group ``alignment``.
        seed: seeds the sample that the alignment is learnt from.

    Raises:
        UserError: if nothing is left to learn from or to choose by.
    """
    if not data.dev:
        raise UserError("the dev part holds no word: give data.dev_path, or a larger lexicon")
    train: list[AlignedEntry] = []
    aligned_dev: list[AlignedEntry] = []
    longest = 0
    for tag in [language.tag for language in data.languages] or [""]:
        # Each language by itself: the same letter is said otherwise elsewhere.
        learnt, chosen_by, most_phones = _align(
            _without_tag(data.train, tag), _without_tag(data.dev, tag), config, seed
        )
        train.extend(tagged(entry, tag) for entry in learnt)
        aligned_dev.extend(tagged(entry, tag) for entry in chosen_by)
        longest = max(longest, most_phones)
    alphabets = Alphabets.of_entries(train)
    if not any(set(alphabets.letters).issuperset(entry.spelling) for entry in data.dev):
        # The export is checked on such words: better to say so before the training.
        raise UserError(
            "no dev word has only letters that the training words have: give more words, or a "
            "dev lexicon with data.dev_path=FILE"
        )
    LOGGER.info(
        "aligned %s of %s training entries, up to %d phones a letter: "
        "%d letters, %d phones, %d chunks",
        f"{len(train):,}",
        f"{len(data.train):,}",
        longest,
        len(alphabets.letters),
        len(alphabets.phones),
        len(alphabets.chunks),
    )
    dev = [
        entry
        for entry in aligned_dev
        if all(chunk in alphabets.chunk_ids for chunk in entry.chunks)
    ]
    return PreparedData(train, dev, group_by_spelling(data.dev), alphabets)


def _align(
    train: Sequence[Entry], dev: Sequence[Entry], config: DictConfig, seed: int
) -> tuple[list[AlignedEntry], list[AlignedEntry], int]:
    """Return the aligned entries of both parts, and the most phones that a letter may give."""
    longest = config.max_phones_per_letter or choose_max_phones_per_letter(
        train,
        config.fewest_phones_per_letter,
        config.most_phones_per_letter,
        config.tolerated_loss,
    )
    aligner = Aligner(
        train,
        longest,
        config.iterations,
        config.sample_size,
        config.extra_phone_prior,
        seed,
    )
    aligned = _aligned(aligner, train)
    if not aligned:
        raise UserError(
            "no training word can be aligned: every one has more phones than "
            f"{longest} times its letters; raise alignment.max_phones_per_letter"
        )
    kept = {(entry.spelling, sum(entry.chunks, ())) for entry in aligned}
    unaligned = [entry.spelling for entry in train if (entry.spelling, entry.phones) not in kept]
    _report_left_out(unaligned, f"they have more than {longest} phones a letter")
    common, rare = without_rare_chunks(aligned, config.tolerated_loss)
    _report_left_out(
        [entry.spelling for entry in rare], "a letter says in them what it hardly says elsewhere"
    )
    return common, _aligned(aligner, dev), longest


def _without_tag(entries: Sequence[Entry], tag: str) -> Sequence[Entry]:
    """Return the entries of the language of a tag, without it; all where there are no tags."""
    if not tag:
        return entries
    return [
        Entry(entry.spelling[1:], entry.phones) for entry in entries if entry.spelling[0] == tag
    ]


def _aligned(aligner: Aligner, entries: Sequence[Entry]) -> list[AlignedEntry]:
    return [entry for entry in aligner.align(entries) if entry is not None]


def _report_left_out(spellings: Sequence[str], reason: str) -> None:
    if not spellings:
        return
    LOGGER.warning(
        "%d entries are not learnt from, since %s: %s%s",
        len(spellings),
        reason,
        ", ".join(spellings[:MOST_NAMED]),
        f" and {len(spellings) - MOST_NAMED} more" if len(spellings) > MOST_NAMED else "",
    )
