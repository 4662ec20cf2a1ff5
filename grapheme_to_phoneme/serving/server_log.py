"""A server's log: a JSON object a line, or lines for people."""

import json
import logging
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TextIO

from grapheme_to_phoneme.constants import PACKAGE_NAME
from grapheme_to_phoneme.errors import UserError

FORMATS = ("json", "text")

#: What Triton and its Python processes write: a level, a source and a message.
TRITON_LINE = re.compile(
    r"(?:\S+Z (?P<level>[IWEF])|(?P<short>[IWEF])\d{4} \S+) +\d+ "
    r"(?P<source>\S+:\d+)\] *(?P<message>.*)"
)
LEVELS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}

#: Tables, which say again what lines before them said.
TABLE_EDGES = ("+-", "| ")


class EventFormatter(logging.Formatter):
    """Formats what this package logs as the rest of a server's log.

    Args:
        format: one of ``FORMATS``.
    """

    def __init__(self, format: str) -> None:
        super().__init__()
        self._format = format

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return _format_event(self._format, record.levelname, "g2p", record.getMessage(), {})


@dataclass(frozen=True)
class ServerLog:
    """Writes what happens, each event at once.

    Attributes:
        stream: where it goes.
        format: one of ``FORMATS``.
    """

    stream: TextIO
    format: str

    def write(
        self, level: str, source: str, message: str, **facts: str | int | float | None
    ) -> None:
        """Write an event.

        Args:
            level: as Python's logging calls it.
            source: what tells of it.
            message: what happened.
            facts: further fields of the JSON object.
        """
        self.stream.write(_format_event(self.format, level, source, message, facts) + "\n")
        self.stream.flush()

    def write_triton(self, line: str) -> None:
        """Write what the server wrote to its own log, without its tables."""
        line = line.rstrip()
        found = TRITON_LINE.fullmatch(line)
        if found is None:
            if line and not line.startswith(TABLE_EDGES):
                self.write("INFO", "triton", line)
            return
        message = found["message"].strip()
        if message.startswith('"') and message.endswith('"') and len(message) > 1:
            message = message[1:-1]
        if message:
            level = LEVELS[found["level"] or found["short"]]
            self.write(level, f"triton {found['source']}", message)


def use_format(format: str) -> None:
    """Let what this package logs look like the rest of a server's log.

    Raises:
        UserError: if ``format`` is none of ``FORMATS``.
    """
    if format not in FORMATS:
        raise UserError(f"unknown log format '{format}': choose {' or '.join(FORMATS)}")
    for handler in logging.getLogger(PACKAGE_NAME).handlers:
        handler.setFormatter(EventFormatter(format))


def _format_event(
    format: str, level: str, source: str, message: str, facts: dict[str, str | int | float | None]
) -> str:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    if format == "json":
        event = {"time": now, "level": level, "source": source, "message": message, **facts}
        return json.dumps(event)
    told = "".join(f" {name}={value}" for name, value in facts.items())
    return f"{now} {level} {source}: {message}{told}"
