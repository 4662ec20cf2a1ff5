"""Shows how far a word list is, to somebody who watches."""

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from tqdm import tqdm

KNOWN_END = "{desc} {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left"
UNKNOWN_END = "{desc} {elapsed}"


class Progress:
    """A line on standard error with words, words per second and the time left.

    Args:
        bar: the line.
        words: words answered before.
        bytes_read: bytes of the input read before.
    """

    def __init__(self, bar: tqdm, words: int, bytes_read: int) -> None:
        self._bar = bar
        self._words_before = words
        self._bytes_read = bytes_read
        self._started = time.perf_counter()

    def show(self, words: int, bytes_read: int) -> None:
        """Show how far the work is.

        Args:
            words: words answered.
            bytes_read: bytes of the input that they took.
        """
        speed = (words - self._words_before) / (time.perf_counter() - self._started)
        self._bar.set_description_str(f"{words:,} words, {speed:,.0f}/s", refresh=False)
        self._bar.update(bytes_read - self._bytes_read)
        self._bytes_read = bytes_read


@contextmanager
def shown_progress(
    file: BinaryIO, is_shown: bool, words: int = 0, bytes_read: int = 0
) -> Iterator[Progress]:
    """Give a progress line, which stays silent unless it is to be shown.

    Args:
        file: the input, whose size tells the time left.
        is_shown: whether anybody watches.
        words: words answered before.
        bytes_read: bytes of the input that they took.
    """
    total = _size_of(file)
    layout = UNKNOWN_END if total is None else KNOWN_END
    with tqdm(
        total=total,
        initial=bytes_read,
        bar_format=layout,
        disable=not is_shown,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as bar:
        yield Progress(bar, words, bytes_read)


def _size_of(file: BinaryIO) -> int | None:
    """Return a file's size in bytes; None of a pipe or a terminal, and of what is no file."""
    try:
        status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
