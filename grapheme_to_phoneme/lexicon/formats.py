"""The formats of lexicons that are text, a line for each entry: parsing, writing, telling apart.

Each format has a function that parses a line and one that formats a record. A parser gives
``None`` for a line without an entry; a formatter raises :class:`LineFault` for a record that
would be read as another one.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Sequence

from grapheme_to_phoneme.lexicon.records import LineFault, Record, quote

#: Named in messages and in the configuration; ``auto`` tells by content.
AUTO = "auto"
TSV = "tsv"
CMUDICT = "cmudict"
KALDI = "kaldi"
KALDI_PROBABILITIES = "kaldi-probabilities"
MFA = "mfa"
PHONETISAURUS = "phonetisaurus"
ANSWERS = "answers"
JSON_LINES = "jsonl"
PLS = "pls"
FORMATS = (
    TSV,
    CMUDICT,
    KALDI,
    KALDI_PROBABILITIES,
    MFA,
    PHONETISAURUS,
    ANSWERS,
    JSON_LINES,
    PLS,
)

#: What a file's name says of its format. MFA's dictionaries end in .dict as CMUdict does.
FORMATS_BY_SUFFIX = {".tsv": TSV, ".jsonl": JSON_LINES, ".pls": PLS, ".xml": PLS}
FORMATS_BY_NAME = {
    "cmudict.dict": CMUDICT,
    "lexicon.txt": KALDI,
    "lexiconp.txt": KALDI_PROBABILITIES,
}

#: The fields of a record besides its spelling and phones.
ALL_FIELDS = ("probability", "silences", "score", "comment", "preferred", "role")

#: Those that each format can say.
FIELDS = {
    TSV: (),
    CMUDICT: ("comment",),
    KALDI: (),
    KALDI_PROBABILITIES: ("probability",),
    MFA: ("probability", "silences"),
    PHONETISAURUS: ("score",),
    ANSWERS: ("probability",),
    JSON_LINES: ALL_FIELDS,
    PLS: ("preferred", "role"),
}

#: Keys of JSON Lines that mean the same; the first is written.
SPELLING_KEYS = ("spelling", "word")
PHONES_KEYS = ("phones", "phonemes", "pronunciation")
JSON_KEYS = frozenset((*SPELLING_KEYS, *PHONES_KEYS, *ALL_FIELDS))

#: What Kaldi's own scripts write for a pronunciation without a probability, and its cost.
CERTAIN = 1.0
NO_COST = 0.0

VARIANT_SUFFIX = re.compile(r"\(\d+\)$")
ARPABET_LINE = re.compile(r"\S+(\s+[A-Z]{1,3}[0-2]?)+\s*")
#: float() would also take "nan", "1_0" and digits of other scripts.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
PLS_BEGINNING = re.compile(r"\s*<(\?xml|!--|!DOCTYPE|([\w.-]+:)?lexicon[\s/>])")

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")

#: Most base characters of what is taken for a phone where nothing but white space is between
#: columns: a list of phrases must not be taken for a lexicon.
LONGEST_LIKELY_PHONE = 2
LETTER_CATEGORIES = ("Ll", "Lu", "Lo", "Lt")

LineParser = Callable[[str], Record | None]


def is_pls(beginning: bytes) -> bool:
    """Tell from a file's first bytes whether it is XML, in whatever encoding."""
    encoding = "utf-16" if beginning.startswith(UTF_16_MARKS) else "utf-8-sig"
    return PLS_BEGINNING.match(beginning.decode(encoding, "replace")) is not None


def detect_format(lines: Sequence[str]) -> str:
    """Tell the format of a file that is not XML from its first lines.

    A file is taken for what most of its lines look like, so that a few malformed ones are
    reported instead of misread. A list of words or phrases without pronunciations is taken
    for ``tsv``, whose reader then says what is missing.
    """
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{") and _is_json_object(first):
        return JSON_LINES
    sample = [line for line in lines if not _is_skipped(line)]
    tabbed = [line for line in sample if "\t" in line]
    arpabet = sum(bool(ARPABET_LINE.fullmatch(_without_comment(line))) for line in sample)
    if arpabet > len(tabbed) and 2 * arpabet >= len(sample):
        return CMUDICT
    if 2 * len(tabbed) >= len(sample):
        return _detect_tabbed(tabbed)
    return _detect_spaced(sample)


def _detect_tabbed(lines: Sequence[str]) -> str:
    rows = [line.split("\t") for line in lines]
    most = len(rows) / 2
    triples = [row for row in rows if len(row) == 3]
    scored = [row for row in triples if _is_number(row[1])]
    if len(scored) > most:
        numbers = [float(row[1]) for row in scored]
        # Costs are hardly ever all below one, and probabilities hardly ever nothing.
        is_cost = max(numbers) > 1 or 2 * numbers.count(NO_COST) > len(numbers)
        return PHONETISAURUS if is_cost else MFA
    if sum(_is_number(row[2]) for row in triples) > most:
        return ANSWERS
    if sum(len(row) == 6 and all(map(_is_number, row[1:5])) for row in rows) > most:
        return MFA
    if sum(_has_probability(line.split()) for line in lines) > most:
        # Kaldi's scripts put a space before the probability and a tab after it.
        return KALDI_PROBABILITIES
    return TSV


def _detect_spaced(lines: Sequence[str]) -> str:
    rows = [line.split() for line in lines]
    if 2 * sum(_has_probability(row) for row in rows) > len(rows):
        return KALDI_PROBABILITIES
    if 2 * sum(len(row) > 1 for row in rows) <= len(rows):
        return TSV
    phones = [phone for row in rows for phone in row[1:]]
    short = sum(_count_letters(phone) <= LONGEST_LIKELY_PHONE for phone in phones)
    return KALDI if 10 * short >= 9 * len(phones) else TSV


def _count_letters(text: str) -> int:
    """Count letters without modifiers such as ``ʰ`` and ``ː``."""
    return sum(unicodedata.category(character) in LETTER_CATEGORIES for character in text)


def _has_probability(fields: Sequence[str]) -> bool:
    return len(fields) > 2 and _is_number(fields[1]) and "." in fields[1]


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text.strip()) is not None


def _is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_skipped(line: str) -> bool:
    # Releases of CMUdict before 2014 write comments as lines that begin with three semicolons.
    return line.startswith(";;;") or not _without_comment(line).strip()


def _without_comment(line: str) -> str:
    return line.partition("#")[0]


def added_fields(record: Record, target_format: str) -> list[str]:
    """Return what the formatter adds to a record because the format must say it."""
    needs_probability = target_format in (KALDI_PROBABILITIES, ANSWERS) or (
        target_format == MFA and record.silences is not None
    )
    if needs_probability and record.probability is None:
        return [f"probability {CERTAIN}"]
    if target_format == PHONETISAURUS and record.score is None:
        return [f"score {NO_COST}"]
    return []


def parse_number(text: str, what: str, least: float = -math.inf) -> float:
    """Return a number of a column.

    Raises:
        LineFault: if the text is none, or less than ``least``, or infinite.
    """
    value = float(text) if _is_number(text) else math.nan
    if not least <= value < math.inf:
        raise LineFault(f"{quote(text.strip())} is no {what}")
    return value


def _probability(text: str) -> float:
    return parse_number(text, "probability", least=0.0)


def _parse_tsv(line: str) -> Record | None:
    columns = _tab_columns(line)
    if columns is None:
        return None
    spelling, *others = columns
    if len(others) != 1:
        raise LineFault(f"{quote(spelling)} is followed by {len(others)} columns, not one")
    return Record(spelling, tuple(others[0].split()))


def _tab_columns(line: str) -> list[str] | None:
    if "\t" not in line:
        if not line.strip():
            return None
        raise LineFault(
            f"{quote(line.strip())} is one column, where spelling<TAB>phones is expected"
        )
    spelling, *others = line.split("\t")
    return [spelling.strip(), *others]


def _parse_cmudict(line: str) -> Record | None:
    if _is_skipped(line):
        return None
    content, _, comment = line.partition("#")
    spelling, *phones = content.split()
    return Record(VARIANT_SUFFIX.sub("", spelling), tuple(phones), comment=comment.strip())


def _parse_kaldi(line: str) -> Record | None:
    spelling, *phones = line.split() or [""]
    return Record(spelling, tuple(phones)) if spelling else None


def _parse_kaldi_probabilities(line: str) -> Record | None:
    fields = line.split()
    if not fields:
        return None
    if len(fields) < 2:
        raise LineFault(f"{quote(fields[0])} has no probability")
    return Record(fields[0], tuple(fields[2:]), probability=_probability(fields[1]))


def _parse_mfa(line: str) -> Record | None:
    """Parse a line of MFA: one, two or five tabs, or spaces alone with at most a probability."""
    if "\t" not in line:
        fields = line.split()
        has_probability = _has_probability(fields)
        return _parse_kaldi_probabilities(line) if has_probability else _parse_kaldi(line)
    spelling, *numbers, phones = line.split("\t")
    if len(numbers) not in (0, 1, 4):
        raise LineFault(
            f"{quote(spelling)} is followed by {len(numbers) + 1} columns, not 1, 2 or 5"
        )
    probability = _probability(numbers[0]) if numbers else None
    silences = tuple(parse_number(text, "number", least=0.0) for text in numbers[1:])
    return Record(
        spelling.strip(), tuple(phones.split()), probability=probability, silences=silences or None
    )


def _parse_phonetisaurus(line: str) -> Record | None:
    columns = _tab_columns(line)
    if columns is None:
        return None
    if len(columns) != 3:
        raise LineFault(
            f"{quote(columns[0])} is followed by {len(columns) - 1} columns, not score and phones"
        )
    return Record(columns[0], tuple(columns[2].split()), score=parse_number(columns[1], "score"))


def _parse_answer(line: str) -> Record | None:
    columns = _tab_columns(line)
    if columns is None:
        return None
    if len(columns) != 3:
        raise LineFault(
            f"{quote(columns[0])} is followed by {len(columns) - 1} columns, "
            "not phones and probability"
        )
    return Record(columns[0], tuple(columns[1].split()), probability=_probability(columns[2]))


def parse_json(line: str) -> tuple[Record | None, list[str]]:
    """Parse a line of JSON Lines.

    Returns:
        The record, and the keys that no record holds.

    Raises:
        LineFault: if the line is no JSON object with a spelling and phones.
    """
    if not line.strip():
        return None, []
    try:
        value = json.loads(line)
    except RecursionError:
        raise LineFault("the brackets are nested too deeply") from None
    except ValueError as error:
        # The position in the line alone: what json adds counts lines within this one.
        reason = getattr(error, "msg", None) or "a number is too long"
        raise LineFault(f"no JSON ({reason})") from None
    if not isinstance(value, dict):
        raise LineFault("no JSON object")
    spelling = next((value[key] for key in SPELLING_KEYS if key in value), None)
    if not isinstance(spelling, str):
        raise LineFault(f"no text under {quote(SPELLING_KEYS[0])}")
    silences = value.get("silences")
    if silences is not None:
        if not isinstance(silences, list) or len(silences) != 3:
            raise LineFault("'silences' are not three numbers")
        silences = tuple(_json_number(item, "silence", least=0.0) for item in silences)
    record = Record(
        _plain(spelling).strip(),
        _json_phones(next((value[key] for key in PHONES_KEYS if key in value), None)),
        probability=_json_number(value.get("probability"), "probability", least=0.0),
        silences=silences,
        score=_json_number(value.get("score"), "score"),
        comment=_json_text(value, "comment"),
        preferred=value.get("preferred") is True,
        role=_json_text(value, "role"),
    )
    return record, [key for key in value if key not in JSON_KEYS]


def _json_phones(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(_plain(value).split())
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise LineFault(f"no text and no list of texts under {quote(PHONES_KEYS[0])}")
    for phone in value:
        if not phone or _plain(phone).split() != [phone]:
            raise LineFault(f"{quote(phone)} is no phone: it is empty or has white space")
    return tuple(value)


def _json_text(value: dict, key: str) -> str:
    text = value.get(key, "")
    if not isinstance(text, str):
        raise LineFault(f"no text under {quote(key)}")
    return " ".join(_plain(text).split())


def _json_number(value: object, what: str, least: float = -math.inf) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LineFault(f"{quote(str(value))} is no {what}")
    return parse_number(repr(value), what, least)


def _plain(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise LineFault("half of a surrogate pair is no character")
    return text


def _format_tsv(record: Record) -> str:
    return f"{record.spelling}\t{' '.join(record.phones)}"


def _format_cmudict(record: Record) -> str:
    spelling = _one_field(record.spelling)
    if "#" in spelling or any("#" in phone for phone in record.phones):
        raise LineFault("'#' begins a comment")
    if VARIANT_SUFFIX.search(spelling):
        raise LineFault("a number in brackets at the end counts pronunciations")
    if spelling.startswith(";;;"):
        raise LineFault("';;;' begins a comment")
    number = f"({record.variant})" if record.variant > 1 else ""
    comment = f" # {record.comment}" if record.comment else ""
    return f"{spelling}{number} {' '.join(record.phones)}{comment}"


def _format_kaldi(record: Record) -> str:
    return f"{_one_field(record.spelling)} {' '.join(record.phones)}"


def _format_kaldi_probabilities(record: Record) -> str:
    spelling = _one_field(record.spelling)
    probability = CERTAIN if record.probability is None else record.probability
    return f"{spelling} {probability!r} {' '.join(record.phones)}"


def _format_mfa(record: Record) -> str:
    numbers: tuple[float, ...] = ()
    if record.probability is not None or record.silences is not None:
        numbers = (CERTAIN if record.probability is None else record.probability,)
        numbers += record.silences or ()
    columns = (_one_field(record.spelling), *map(repr, numbers), " ".join(record.phones))
    return "\t".join(columns)


def _format_phonetisaurus(record: Record) -> str:
    score = NO_COST if record.score is None else record.score
    return f"{record.spelling}\t{score!r}\t{' '.join(record.phones)}"


def _format_answer(record: Record) -> str:
    probability = CERTAIN if record.probability is None else record.probability
    return f"{record.spelling}\t{' '.join(record.phones)}\t{probability!r}"


def _format_json(record: Record) -> str:
    value: dict[str, object] = {
        SPELLING_KEYS[0]: record.spelling,
        PHONES_KEYS[0]: list(record.phones),
    }
    for name in FIELDS[JSON_LINES]:
        content = getattr(record, name)
        if content is not None and content != "" and content is not False:
            value[name] = content
    return json.dumps(value, ensure_ascii=False)


def _one_field(spelling: str) -> str:
    if len(spelling.split()) != 1:
        raise LineFault("white space ends the spelling")
    return spelling


#: :func:`parse_json` gives more than these.
PARSERS: dict[str, LineParser] = {
    TSV: _parse_tsv,
    CMUDICT: _parse_cmudict,
    KALDI: _parse_kaldi,
    KALDI_PROBABILITIES: _parse_kaldi_probabilities,
    MFA: _parse_mfa,
    PHONETISAURUS: _parse_phonetisaurus,
    ANSWERS: _parse_answer,
}
FORMATTERS: dict[str, Callable[[Record], str]] = {
    TSV: _format_tsv,
    CMUDICT: _format_cmudict,
    KALDI: _format_kaldi,
    KALDI_PROBABILITIES: _format_kaldi_probabilities,
    MFA: _format_mfa,
    PHONETISAURUS: _format_phonetisaurus,
    ANSWERS: _format_answer,
    JSON_LINES: _format_json,
}
