"""The lexicons that can be named by their language: WikiPron's and SIGMORPHON 2021's.

What there is stands in ``tables/``; the files themselves are downloaded or lie in a folder of
the user's, ``data.root``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.lexicon.records import first_few

WIKIPRON = "wikipron"
SIGMORPHON = "sigmorphon2021"
CATALOGUES = (WIKIPRON, SIGMORPHON)

TRANSCRIPTIONS = ("broad", "narrow")
SIZES = ("low", "medium", "high")

LIST_HEADINGS = ("data", "data.language", "name", "entries", "what")

#: Stands for nothing in the tables.
ABSENT = "-"

#: Where the files lie in a copy of the repository, whichever of its folders is named.
FOLDERS = {
    WIKIPRON: (".", "tsv", "scrape/tsv", "data/scrape/tsv"),
    SIGMORPHON: ("{size}", "data/{size}", "."),
}


@dataclass(frozen=True)
class NamedLexicon:
    """A lexicon of WikiPron.

    Attributes:
        language: ISO 639-3 code.
        short_code: ISO 639-1 code, or empty.
        name: the language's name.
        script: ISO 15924 code in lower case.
        script_name: the script's name.
        dialect: WikiPron's code, or empty.
        dialect_name: what it is called, or empty.
        transcription: ``broad`` or ``narrow``.
        filtered: whether only entries with phones of WikiPron's list are in it.
        entries: lines of the file.
        has_scripts: whether the language is written in several scripts here.
    """

    language: str
    short_code: str
    name: str
    script: str
    script_name: str
    dialect: str
    dialect_name: str
    transcription: str
    filtered: bool
    entries: int
    has_scripts: bool

    @property
    def stem(self) -> str:
        """The file's name without ``.tsv``."""
        parts = (self.language, self.script, self.dialect, self.transcription)
        return "_".join(filter(None, (*parts, "filtered" if self.filtered else "")))

    @property
    def tag(self) -> str:
        """The BCP 47 tag of its words."""
        language = self.short_code or self.language
        return f"{language}-{self.script.title()}" if self.has_scripts else language


@dataclass(frozen=True)
class SharedTaskLexicon:
    """A lexicon of SIGMORPHON 2021's shared task 1, whose parts are files.

    Attributes:
        language: the task's code.
        size: ``low``, ``medium`` or ``high``.
        tag: the BCP 47 tag.
        name: the language's name.
        entries: lines by the name of the part, where they are known.
        sha256: hashes by the name of the part, where they are known.
    """

    language: str
    size: str
    tag: str
    name: str
    entries: dict[str, int]
    sha256: dict[str, str]


@cache
def wikipron_lexicons() -> tuple[NamedLexicon, ...]:
    """Return all lexicons of WikiPron at the pinned commit, in the order of their codes."""
    table = _table(WIKIPRON)
    languages = {code: (short, name) for code, short, name in _rows(table.languages, 3)}
    scripts = dict(_rows(table.scripts, 2))
    dialects = dict(_rows(table.dialects, 2))
    rows = list(_rows(table.files, 5))
    written = {tuple(key.split("_")[:2]) for key, *_ in rows}
    lexicons = []
    for key, *counts in rows:
        language, script, *rest = key.split("_")
        dialect = "".join(rest)
        short, name = languages[language]
        for column, count in enumerate(counts):
            if count != ABSENT:
                lexicons.append(
                    NamedLexicon(
                        language,
                        "" if short == ABSENT else short,
                        name,
                        script,
                        scripts[script],
                        dialect,
                        dialects.get(f"{language}_{dialect}", ""),
                        TRANSCRIPTIONS[column % 2],
                        column >= len(TRANSCRIPTIONS),
                        int(count),
                        sum(code == language for code, _ in written) > 1,
                    )
                )
    return tuple(lexicons)


@cache
def shared_task_lexicons() -> tuple[SharedTaskLexicon, ...]:
    """Return all lexicons of the shared task, in the order of the table."""
    return tuple(
        SharedTaskLexicon(
            language,
            size,
            tag,
            name,
            {"train": int(train), "dev": int(dev)},
            {"train": train_sha256, "dev": dev_sha256},
        )
        for language, size, tag, train, dev, train_sha256, dev_sha256, name in _rows(
            _table(SIGMORPHON).languages, 8
        )
    )


def find_wikipron(
    language: str | None,
    script: str | None = None,
    dialect: str | None = None,
    transcription: str | None = None,
    filtered: bool = False,
) -> NamedLexicon:
    """Return the one lexicon that is meant.

    Args:
        language: an ISO 639-3 or 639-1 code, or the language's English name.
        script: an ISO 15924 code; None where the language has one script.
        dialect: WikiPron's code; None where there is one, or one without a dialect.
        transcription: ``broad`` or ``narrow``; None takes the one with more entries.
        filtered: whether the filtered file is meant.

    Raises:
        UserError: if there is none, with near ones, or if several fit, with what tells them
            apart.
    """
    lexicons = wikipron_lexicons()
    code = _find_language(language, lexicons)
    found = [item for item in lexicons if item.language == code]
    name = f"{found[0].name} ({code})"
    for setting, wanted in (
        ("transcription", transcription),
        ("script", script),
        ("dialect", dialect),
    ):
        if wanted is None:
            continue
        choices = list(dict.fromkeys(getattr(item, setting) for item in found))
        found = [item for item in found if getattr(item, setting) == str(wanted).lower()]
        if not found:
            raise UserError(
                f"WikiPron has no {setting} '{wanted}' for {name}: {_told(setting, choices)}"
            )
    if filtered:
        found = [item for item in found if item.filtered]
        if not found:
            raise UserError(
                f"WikiPron has no filtered lexicon for {name}: leave data.filtered out"
            )
    else:
        found = [item for item in found if not item.filtered]
    for setting in ("script", "dialect"):
        choices = sorted({getattr(item, setting) for item in found})
        if len(choices) > 1:
            if setting == "dialect" and "" in choices:
                found = [item for item in found if not item.dialect]
                continue
            raise UserError(f"WikiPron has several lexicons for {name}: {_told(setting, choices)}")
    return max(found, key=lambda item: item.entries)


def find_shared_task(language: str | None, size: str | None = None) -> SharedTaskLexicon:
    """Return the lexicon of the shared task that is meant.

    Args:
        language: the task's code, or the language's English name.
        size: None, or the size that the language has in the task.

    Raises:
        UserError: if there is none, with near ones.
    """
    if size is not None and size not in SIZES:
        raise UserError(f"unknown data.size '{size}': choose one of {', '.join(SIZES)}")
    lexicons = shared_task_lexicons()
    code = _find_language(language, lexicons)
    found = next(item for item in lexicons if item.language == code)
    if size is not None and found.size != size:
        others = [item.language for item in lexicons if item.size == size]
        raise UserError(
            f"SIGMORPHON 2021 has {found.name} ({code}) in the size {found.size}, not {size}: "
            f"say data.size={found.size}, or choose among {', '.join(others)}"
        )
    return found


def list_lexicons(wanted: Sequence[str] = (), filtered: bool = False) -> list[str]:
    """Return a table of the lexicons: columns separated by tabs, with a line of headings.

    Args:
        wanted: codes, names or their beginnings; empty takes all languages.
        filtered: whether WikiPron's filtered files are in it.

    Raises:
        UserError: if one of ``wanted`` is no language, with near ones.
    """
    lines = []
    for item in wikipron_lexicons():
        if filtered or not item.filtered:
            settings = (
                f"{item.script_name} ({item.script})",
                f"{item.dialect_name or ABSENT} ({item.dialect})" if item.dialect else "",
                item.transcription + (", filtered" if item.filtered else ""),
            )
            names = (item.language, item.short_code, item.name)
            lines.append((names, WIKIPRON, item.entries, ", ".join(filter(None, settings))))
    for task in shared_task_lexicons():
        entries = sum(task.entries.values())
        lines.append(((task.language, task.tag, task.name), SIGMORPHON, entries, task.size))
    for text in wanted:
        if not any(_is_meant(text, names) for names, *_ in lines):
            _find_language(text, (*wikipron_lexicons(), *shared_task_lexicons()))
    chosen = [
        (source, names[0], names[2], f"{entries}", settings)
        for names, source, entries, settings in lines
        if not wanted or any(_is_meant(text, names) for text in wanted)
    ]
    return ["\t".join(line) for line in (LIST_HEADINGS, *chosen)]


def _is_meant(wanted: str, names: Sequence[str]) -> bool:
    text = wanted.lower()
    code, short, name = (item.lower() for item in names)
    # The beginning of a name is enough from four letters on: three are a code.
    return text in (code, short, name) or (len(text) > 3 and name.startswith(text))


def locate(config: DictConfig) -> None:
    """Fill in what the chosen language says of the group ``data``: file, folder, tag, name.

    Nothing happens where the data is not named by a language, or where it is filled in.

    Raises:
        UserError: if no single lexicon is meant, or if ``data.root`` does not have it.
    """
    data = config.data
    catalogue = data.get("catalogue")
    if catalogue is None:
        if data.get("root") is not None and data.get("raw_path", "") is None:
            data.raw_path = str(
                _find_file(Path(data.root), (".", "raw", "data/raw"), data.filename)
            )
        return
    if data.located:
        return
    if catalogue == WIKIPRON:
        lexicon = find_wikipron(
            data.language, data.script, data.dialect, data.transcription, data.filtered
        )
        data.filename = f"{lexicon.stem}.tsv"
        data.entries = lexicon.entries if data.verify else None
        data.name = f"{data.name}-{lexicon.stem}"
        data.language = lexicon.tag
        if data.root is not None and data.raw_path is None:
            data.raw_path = str(_find_file(Path(data.root), FOLDERS[WIKIPRON], data.filename))
    else:
        task = find_shared_task(data.language, data.size)
        data.size = task.size
        data.code = task.language
        data.name = f"{data.name}-{task.language}"
        data.language = task.tag
    data.located = True


def shared_task_path(root: Path, language: str, size: str, part: str) -> Path | None:
    """Return the file of a part in a folder of the user's, or None where it has none."""
    for folder in FOLDERS[SIGMORPHON]:
        path = root / folder.format(size=size) / f"{language}_{part}.tsv"
        if path.is_file():
            return path
    return None


def table_commit(catalogue: str) -> str:
    """Return the commit of the repository that a table tells of."""
    return _table(catalogue).commit


def _find_file(root: Path, folders: Sequence[str], filename: str) -> Path:
    for folder in folders:
        if (root / folder / filename).is_file():
            return root / folder / filename
    raise UserError(f"data.root={root} has no {filename}: name the folder in which it is")


def _find_language(
    wanted: str | None, lexicons: Iterable[NamedLexicon | SharedTaskLexicon]
) -> str:
    lexicons = list(lexicons)
    names: dict[str, str] = {}
    # Codes count before names: "mon" is Mongolian, though there is a language Mon.
    for attribute in ("language", "short_code", "name"):
        for item in lexicons:
            names.setdefault(getattr(item, attribute, "").lower(), item.language)
    if not wanted:
        raise UserError("say which language: data.language=CODE, see `g2p languages`")
    code = names.get(str(wanted).lower())
    if code is not None:
        return code
    codes = {item.language: item.name for item in lexicons}
    near = dict.fromkeys(
        names[name] for name in get_close_matches(str(wanted).lower(), names, n=5, cutoff=0.6)
    )
    if near:
        told = [f"{near_code} ({codes[near_code]})" for near_code in near]
        raise UserError(f"there is no language '{wanted}': did you mean {', '.join(told)}?")
    raise UserError(f"there is no language '{wanted}': `g2p languages` lists those that there are")


def _told(setting: str, choices: Sequence[str]) -> str:
    named = [f"data.{setting}={choice}" for choice in choices if choice]
    if not named:
        return f"leave data.{setting} out"
    return f"say {first_few(named, ' or ')}"


@cache
def _table(name: str) -> DictConfig:
    return OmegaConf.load(Path(__file__).parent / "tables" / f"{name}.yaml")


def _rows(text: str, columns: int) -> Iterable[list[str]]:
    """Yield the columns of every line; the last one may have spaces in it."""
    return (line.split(maxsplit=columns - 1) for line in text.splitlines())
