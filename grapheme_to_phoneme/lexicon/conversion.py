"""From one lexicon format to another, with a list of what the other one cannot say."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from omegaconf import DictConfig

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon import formats
from grapheme_to_phoneme.lexicon.files import replacing
from grapheme_to_phoneme.lexicon.pls import check_pls_record, pls_lines
from grapheme_to_phoneme.lexicon.reading import LexiconReader
from grapheme_to_phoneme.lexicon.records import LineFault, Record, count, quote
from grapheme_to_phoneme.notation import NotationError, converter

#: What tells a format's absent values from those that were given.
ABSENT = (None, "", False)

#: What a lexicon is called of which neither the file nor the user says it.
UNKNOWN_LANGUAGE = "und"
UNKNOWN_ALPHABET = "unknown"

BYTE_ORDER_MARK = "\ufeff"


@dataclass
class Conversion:
    """What a conversion did.

    Attributes:
        source_format, target_format: the formats.
        written: entries written.
        lost: how many entries had something that the target cannot say, by its name.
        added: how many entries were given what the target must say, by its name.
        left_out: how many entries the target cannot say at all, or had phones without a
            counterpart in the wanted notation.
        named: the first of those, with the reason.
        limit: how many of those to name.
    """

    source_format: str
    target_format: str
    limit: int
    written: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    added: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    named: list[str] = field(default_factory=list)

    def leave_out(self, record: Record, reason: object) -> None:
        """Note an entry that is not written."""
        self.left_out += 1
        if len(self.named) < self.limit:
            self.named.append(f"{quote(record.spelling)}: {reason}")

    def remarks(self) -> list[str]:
        """Return what is different in the target, a line each."""
        target = self.target_format
        lines = [
            f"not in the {target} file, which cannot say it: {name} ({count(number, 'time')})"
            for name, number in self.lost.items()
        ]
        lines += [
            f"added, since {target} must say it: {name} ({count(number, 'time')})"
            for name, number in self.added.items()
        ]
        lines += [f"left out: {text}" for text in self.named]
        if self.left_out > len(self.named):
            lines.append(f"left out: {self.left_out - len(self.named):,} more")
        return lines


def convert_lexicon(source: Path, target: Path, settings: DictConfig) -> Conversion:
    """Write a lexicon in another format, another notation, or both.

    The target appears whole or not at all. Neither file is held in memory.

    Args:
        source: the lexicon.
        target: where the other one goes.
        settings: the configuration's ``convert`` group.

    Raises:
        UserError: if the source has faults, the target's format is not told by its name and
            not given, nothing at all can be written, or a notation or format is unknown.
    """
    reader = LexiconReader(source, settings.from_format, settings.segment)
    target_format = _target_format(target, settings.to_format)
    convert = None
    if settings.to_notation is not None:
        if settings.from_notation is None:
            raise UserError(
                "say what the phones are written in: --from-notation arpabet, ipa or x-sampa"
            )
        convert = converter(settings.from_notation, settings.to_notation)
    result = Conversion(settings.from_format, target_format, settings.report_limit)
    with replacing(target) as stream:
        for line in _lines(reader, convert, settings, result):
            stream.write(line.encode())
            stream.write(b"\n")
        if not result.written:
            reasons = "; ".join(result.remarks()[-result.limit :])
            raise UserError(f"{target_format} can say no entry of {source} ({reasons})")
    result.source_format = reader.format
    result.lost.update(reader.header.left_out)
    header = {"language": reader.header.language, "alphabet": reader.header.alphabet}
    if target_format != formats.PLS:
        for name, value in header.items():
            if value:
                result.lost[f"the file's {name}, {quote(value)}"] += 1
    return result


def _target_format(target: Path, given: str | None) -> str:
    if given is not None:
        if given not in formats.FORMATS:
            raise UserError(
                f"unknown lexicon format '{given}': choose one of {', '.join(formats.FORMATS)}"
            )
        return given
    told = formats.FORMATS_BY_NAME.get(target.name.lower())
    told = told or formats.FORMATS_BY_SUFFIX.get(target.suffix.lower())
    if told is None:
        raise UserError(
            f"the name {target.name} does not tell its format: say --to-format with one of "
            f"{', '.join(formats.FORMATS)}"
        )
    return told


def _lines(
    reader: LexiconReader,
    convert: Callable[[tuple[str, ...]], tuple[str, ...]] | None,
    settings: DictConfig,
    result: Conversion,
) -> Iterator[str]:
    """Yield the target's lines and note in ``result`` what they do not say."""
    pairs = _said(reader, convert, result)
    if result.target_format != formats.PLS:
        yield from (line for _, line in pairs)
        return
    # The file's head comes before its first record, but is known with it.
    first = next(pairs, None)
    if first is None:
        return
    alphabet = settings.to_notation or settings.from_notation or reader.header.alphabet
    if not alphabet:
        alphabet = "arpabet" if reader.format == formats.CMUDICT else UNKNOWN_ALPHABET
    language = settings.language or reader.header.language or UNKNOWN_LANGUAGE
    records = (record for record, _ in chain([first], pairs))
    yield from pls_lines(records, language, alphabet, settings.pls_separator)


def _said(
    reader: LexiconReader,
    convert: Callable[[tuple[str, ...]], tuple[str, ...]] | None,
    result: Conversion,
) -> Iterator[tuple[Record, str]]:
    """Yield the records that the target can say, with their lines where it has one for each."""
    target_format = result.target_format
    unsaid = [name for name in formats.ALL_FIELDS if name not in formats.FIELDS[target_format]]
    spoken: Counter[str] = Counter()
    for record in reader:
        try:
            if convert is not None:
                record = replace(record, phones=convert(record.phones))
            if target_format == formats.CMUDICT:
                record = replace(record, variant=spoken[record.spelling] + 1)
            line = _line(record, target_format)
        except (LineFault, NotationError) as reason:
            result.leave_out(record, reason)
            continue
        for name in unsaid:
            if getattr(record, name) not in ABSENT:
                result.lost[name] += 1
        result.added.update(formats.added_fields(record, target_format))
        if target_format == formats.CMUDICT:
            spoken[record.spelling] += 1
        result.written += 1
        yield record, line


def _line(record: Record, target_format: str) -> str:
    if target_format == formats.PLS:
        check_pls_record(record)
        return ""
    if target_format != formats.JSON_LINES:
        if any(character in record.spelling for character in "\t\r\n"):
            raise LineFault("a tab or line end ends the spelling")
        if record.spelling.startswith(BYTE_ORDER_MARK):
            raise LineFault("a byte order mark is no letter")
    return formats.FORMATTERS[target_format](record)
