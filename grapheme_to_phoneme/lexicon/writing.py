"""Writing lexicons."""

from collections.abc import Iterable
from pathlib import Path

from grapheme_to_phoneme.lexicon.entries import Entry
from grapheme_to_phoneme.lexicon.files import replacing


def write_tsv(path: Path, entries: Iterable[Entry]) -> None:
    """Write one ``spelling<TAB>phones separated by spaces`` line per entry, in UTF-8.

    The file appears whole or not at all.

    Raises:
        UserError: if the file cannot be written.
    """
    with replacing(path) as stream:
        stream.writelines(
            f"{entry.spelling}\t{' '.join(entry.phones)}\n".encode() for entry in entries
        )


def write_words(path: Path, spellings: Iterable[str]) -> None:
    """Write one spelling a line, the input of ``infer``, in UTF-8.

    Raises:
        UserError: if the file cannot be written.
    """
    with replacing(path) as stream:
        stream.writelines(f"{spelling}\n".encode() for spelling in spellings)
