"""Measures `g2p review-lexicon` on planted errors: `python -m benchmarks.lexicon_review -h`."""

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from math import inf, log
from pathlib import Path

import fire

from grapheme_to_phoneme.configuration import compose_config
from grapheme_to_phoneme.lexicon.data import load_part
from grapheme_to_phoneme.lexicon.entries import Entry, group_by_spelling, ungroup
from grapheme_to_phoneme.lexicon.writing import write_tsv
from grapheme_to_phoneme.presets import automatic_overrides
from grapheme_to_phoneme.review.folds import divide, review
from grapheme_to_phoneme.training.alignment import AlignedEntry, Aligner, Chunk

#: Kinds of planted errors.
WRONG_PHONE = "wrong phone"
SWAPPED = "swapped entry"
WRONG_LANGUAGE = "wrong language"
KINDS = (WRONG_PHONE, SWAPPED, WRONG_LANGUAGE)

#: How a reader of Italian who knows no English would say a letter, in ARPAbet.
FOREIGN_READING = {
    **{letter: (letter.upper(),) for letter in "bdfgklmnprstv"},
    **dict(zip("aeiouy", (("AA",), ("EH",), ("IY",), ("OW",), ("UW",), ("IY",)), strict=True)),
    **{"c": ("K",), "j": ("Y",), "q": ("K",), "w": ("V",), "x": ("K", "S"), "z": ("T", "S")},
}
VOWELS = ("AA", "EH", "IY", "OW", "UW")

#: The list's beginning that is read, and the share of it that errors are looked for in.
TOP = 100
SHARE = 0.05

Key = tuple[str, tuple[str, ...]]
Token = tuple[str, Chunk]


def measure(
    lexicon: str,
    folder: str,
    *overrides: str,
    words: int = 0,
    share: float = 0.02,
    networks: bool = True,
) -> None:
    """Plant errors into an ARPAbet lexicon with stress, review it, and count what was found.

    Args:
        lexicon: the lexicon, thought to be clean.
        folder: where the planted lexicon and the review go; a finished fold is kept.
        overrides: Hydra overrides, such as review.folds=2.
        words: how many of its words to take, drawn at random; 0 takes all.
        share: errors per entry.
        networks: whether to review with networks; if not, pair n-grams alone do.
    """
    target = Path(folder)
    path = target / "planted.tsv"
    given = ["data=lexicon", "data.format=auto", f"data.train_path={path}", "logger=none"]
    given += overrides
    config = compose_config(given)
    groups = group_by_spelling(load_part(config, Path(lexicon)))
    chosen = sorted(groups)
    random.Random(config.seed).shuffle(chosen)
    clean = ungroup({spelling: groups[spelling] for spelling in chosen[: words or None]})
    entries, planted = plant(clean, share, config.seed)
    write_tsv(path, entries)
    preset = automatic_overrides(config, given, config.review.preset)
    config = compose_config([*preset, *given])
    if networks:
        judgements = review(path, config, target / "review")
        ranked = [(judgement.spelling, judgement.given_phones) for judgement in judgements]
        report("networks of the other folds", ranked, planted)
    report("pair n-grams of the other folds", rank_by_ngrams(entries, config), planted)


def plant(entries: Sequence[Entry], share: float, seed: int) -> tuple[list[Entry], dict[Key, str]]:
    """Put errors of every kind, equally many, into a lexicon.

    Args:
        entries: the lexicon.
        share: errors per entry.
        seed: seeds their choice.

    Returns:
        The lexicon with errors, and the kind of each by spelling and phones.
    """
    generator = random.Random(seed)
    accepted = group_by_spelling(entries)
    phones = sorted({phone for entry in entries for phone in entry.phones})
    # No entry is spoilt twice.
    places = iter(generator.sample(range(len(entries)), len(entries)))
    spoilt = list(entries)
    planted: dict[Key, str] = {}
    per_kind = int(share * len(entries) / len(KINDS))

    def spoil(index: int, said: tuple[str, ...], kind: str) -> None:
        spoilt[index] = Entry(entries[index].spelling, said)
        planted[entries[index].spelling, said] = kind

    counts = Counter[str]()
    while counts[WRONG_PHONE] < per_kind:
        index = next(places)
        said = list(entries[index].phones)
        place = generator.randrange(len(said))
        said[place] = generator.choice([phone for phone in phones if phone != said[place]])
        if tuple(said) not in accepted[entries[index].spelling]:
            spoil(index, tuple(said), WRONG_PHONE)
            counts[WRONG_PHONE] += 1
    while counts[SWAPPED] < per_kind:
        one, other = islice(places, 2)
        if accepted[entries[one].spelling] != accepted[entries[other].spelling]:
            spoil(one, entries[other].phones, SWAPPED)
            spoil(other, entries[one].phones, SWAPPED)
            counts[SWAPPED] += 2
    while counts[WRONG_LANGUAGE] < per_kind:
        index = next(places)
        said = read_as_foreign(entries[index].spelling)
        if said and said not in accepted[entries[index].spelling]:
            spoil(index, said, WRONG_LANGUAGE)
            counts[WRONG_LANGUAGE] += 1
    return spoilt, planted


def read_as_foreign(spelling: str) -> tuple[str, ...]:
    """Say a word letter by letter, the stress on the last vowel but one."""
    said = [phone for letter in spelling for phone in FOREIGN_READING.get(letter, ())]
    vowels = [place for place, phone in enumerate(said) if phone in VOWELS]
    for number, place in enumerate(reversed(vowels)):
        said[place] += "1" if number == min(1, len(vowels) - 1) else "0"
    return tuple(said)


class PairNgrams:
    """Pair n-grams with interpolated absolute discounting (Ney, Essen and Kneser, 1994).

    Args:
        entries: aligned entries.
        order: of the longest n-grams.
    """

    DISCOUNT = 0.75

    def __init__(self, entries: Sequence[AlignedEntry], order: int) -> None:
        self._order = order
        self._counts: dict[tuple[Token, ...], Counter[Token]] = defaultdict(Counter)
        for entry in entries:
            tokens = self.start + tuple(zip(entry.spelling, entry.chunks, strict=True))
            for i in range(order - 1, len(tokens)):
                for length in range(order):
                    self._counts[tokens[i - length : i]][tokens[i]] += 1
        self._totals = {context: counts.total() for context, counts in self._counts.items()}

    @property
    def start(self) -> tuple[Token, ...]:
        """What stands before a word."""
        return (("", ()),) * (self._order - 1)

    @cached_property
    def _chunks(self) -> dict[str, list[Chunk]]:
        chunks: dict[str, list[Chunk]] = defaultdict(list)
        for letter, chunk in self._counts[()]:
            chunks[letter].append(chunk)
        return chunks

    def log_probabilities(
        self, history: tuple[Token, ...], tokens: Sequence[Token]
    ) -> list[float]:
        """Return the natural logarithms of tokens' probabilities after a history."""
        values = [1.0 / (len(self._counts[()]) + 1)] * len(tokens)
        for length in range(self._order):
            context = history[len(history) - length :]
            total = self._totals.get(context)
            if total is None:
                break
            counts = self._counts[context]
            left = self.DISCOUNT * len(counts) / total
            values = [
                max(counts.get(token, 0) - self.DISCOUNT, 0.0) / total + left * value
                for token, value in zip(tokens, values, strict=True)
            ]
        return [log(value) for value in values]

    def score(self, entry: AlignedEntry) -> float:
        """Return the log probability of an aligned entry."""
        tokens = self.start + tuple(zip(entry.spelling, entry.chunks, strict=True))
        before = self._order - 1
        return sum(
            self.log_probabilities(tokens[i - before : i], [tokens[i]])[0]
            for i in range(before, len(tokens))
        )

    def best_score(self, spelling: str, beam_size: int) -> float:
        """Return the log probability of the best pronunciation that a beam search finds."""
        beam = [(0.0, self.start)]
        for letter in spelling:
            tokens = [(letter, chunk) for chunk in self._chunks.get(letter, [()])]
            extended = [
                (score + value, (*history[1:], token))
                for score, history in beam
                for token, value in zip(
                    tokens, self.log_probabilities(history, tokens), strict=True
                )
            ]
            beam = sorted(extended, key=lambda item: -item[0])[:beam_size]
        return beam[0][0]


def rank_by_ngrams(
    entries: Sequence[Entry], config, order: int = 6, beam_size: int = 4
) -> list[Key]:
    """Order a lexicon by how improbable pair n-grams of the other folds find its entries.

    What has no alignment comes first.
    """
    folds = divide(entries, config.review.folds, config.review.least_words, config.seed)
    scored: list[tuple[float, Key]] = []
    for number, fold in enumerate(folds):
        others = [entry for i, other in enumerate(folds) if i != number for entry in other]
        settings = config.alignment
        aligner = Aligner(
            others,
            settings.fewest_phones_per_letter,
            settings.iterations,
            settings.sample_size,
            settings.extra_phone_prior,
            config.seed,
        )
        ngrams = PairNgrams([entry for entry in aligner.align(others) if entry], order)
        spellings = {entry.spelling for entry in fold}
        best = {spelling: ngrams.best_score(spelling, beam_size) for spelling in spellings}
        for entry, aligned in zip(fold, aligner.align(fold), strict=True):
            ratio = best[entry.spelling] - ngrams.score(aligned) if aligned else inf
            scored.append((ratio, (entry.spelling, entry.phones)))
    return [key for _, key in sorted(scored, key=lambda item: (-item[0], item[1]))]


def report(name: str, ranked: Sequence[Key], planted: dict[Key, str]) -> None:
    """Print what of the planted errors the beginning of a list holds, and what else it holds."""
    found = [planted.get(key) for key in ranked]
    first = found[: int(SHARE * len(found))]
    lines = [
        f"{name}: {len(ranked):,} entries, {len(planted):,} planted errors",
        f"  precision at {TOP}: {sum(kind is not None for kind in found[:TOP]) / TOP:.2f}",
        f"  recall at {SHARE:.0%} of the list: {sum(map(bool, first)) / len(planted):.3f}",
    ]
    for kind in KINDS:
        total = sum(value == kind for value in planted.values())
        lines.append(f"    {kind}: {first.count(kind) / total:.3f} of {total:,}")
    lines.append(f"  not planted among the first {TOP}:")
    for (spelling, phones), kind in zip(ranked[:TOP], found[:TOP], strict=True):
        if kind is None:
            lines.append(f"    {spelling}  {' '.join(phones)}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run the command line."""
    fire.Fire(measure)


if __name__ == "__main__":
    main()
