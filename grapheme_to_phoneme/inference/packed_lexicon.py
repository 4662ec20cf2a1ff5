"""A lexicon in one file that answers for single words without being read whole: SQLite."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock

from grapheme_to_phoneme.errors import UserError

Pronunciations = tuple[tuple[str, ...], ...]

#: Written into the file's header, where SQLite keeps what a file is for: "g2pl".
APPLICATION_ID = 0x6732706C


def write_packed_lexicon(path: Path, lexicon: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    """Write a lexicon.

    Args:
        path: the file, which must not exist yet.
        lexicon: pronunciations by normalised spelling, the preferred one first.
    """
    connection = sqlite3.connect(path)
    try:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(
            "CREATE TABLE lexicon (spelling BLOB PRIMARY KEY, pronunciations TEXT) WITHOUT ROWID"
        )
        connection.executemany(
            "INSERT INTO lexicon VALUES (?, ?)",
            (
                (_key(spelling), "\n".join(" ".join(phones) for phones in pronunciations))
                for spelling, pronunciations in sorted(lexicon.items())
            ),
        )
        connection.commit()
        connection.execute("VACUUM")
    finally:
        connection.close()


class PackedLexicon:
    """An open file. It may be used from several threads at once.

    Args:
        path: what :func:`write_packed_lexicon` wrote.

    Raises:
        UserError: if the file cannot be read or is something else.
    """

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        try:
            # Nobody writes to it, so there is nothing to lock: it may lie on a read-only disk.
            self._connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.Error as error:
            raise UserError(f"the packed lexicon {path} cannot be read: {error}") from error
        if application != APPLICATION_ID:
            raise UserError(f"{path} is no packed lexicon: package the model again")

    def find(self, spellings: Iterable[str]) -> dict[str, Pronunciations]:
        """Return the pronunciations of those spellings, in their normal form, that it holds."""
        found = {}
        with self._lock:
            for spelling in spellings:
                row = self._connection.execute(
                    "SELECT pronunciations FROM lexicon WHERE spelling = ?", (_key(spelling),)
                ).fetchone()
                if row is not None:
                    found[spelling] = tuple(tuple(line.split(" ")) for line in row[0].split("\n"))
        return found


def _key(spelling: str) -> bytes:
    # Half a surrogate pair is no text to SQLite, but somebody may ask for its pronunciation.
    return spelling.encode("utf-8", "surrogatepass")
