"""Where the log lines of a process go: standard error, as JSON for programs or as text for people.

`TOLLKEEPER_LOG_LEVEL` is the level of Tollkeeper's own lines alone. Libraries print keys, values, SQL and
its rows at their lower levels: usage, that is, and who used it. They may warn and no more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import TextIO

from tollkeeper.app.sparing import Sparing
from tollkeeper.logline import LogLine

OWN = "tollkeeper"
TALKATIVE = ("kafka", "sqlalchemy")
"""Libraries that may have a level of their own, set before ours."""
QUIET_S = 60.0


@contextmanager
def logging_to(stream: TextIO, *, log_format: str | None, level: str) -> Iterator[None]:
    """Write every line to `stream` meanwhile; without a format: text on a terminal, JSON elsewhere."""
    chosen = log_format or ("text" if stream.isatty() else "json")
    handler = logging.StreamHandler(stream)
    handler.addFilter(Sparingly())
    handler.setFormatter(JsonLines() if chosen == "json" else TextLines())
    levels = {OWN: level.upper(), **dict.fromkeys(TALKATIVE, "WARNING")}
    before = {name: logging.getLogger(name).level for name in levels}
    root = logging.getLogger()
    root.addHandler(handler)
    for name, wanted in levels.items():
        logging.getLogger(name).setLevel(wanted)
    try:
        yield
    finally:
        root.removeHandler(handler)
        for name, was in before.items():
            logging.getLogger(name).setLevel(was)


class Sparingly(logging.Filter):
    """Lets each place in a library speak once a minute, and says how often it was held back since.

    While a broker is away kafka-python prints dozens of lines a second, of which one is news.
    """

    def __init__(self, monotonic: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._sparing = Sparing(monotonic, pause_s=QUIET_S)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written; ours always are."""
        if record.name.split(".")[0] == OWN:
            return True
        held_back = self._sparing.speak((record.pathname, record.lineno))
        if held_back is None:
            return False
        record.held_back = held_back
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line: `at`, `level`, `event`, the line's own fields, `logger`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; in ASCII, so that no odd byte of a file name can spoil the line."""
        document: dict[str, object] = {
            "at": _instant(record),
            "level": record.levelname.lower(),
            "event": "message",
        }
        if isinstance(record.msg, LogLine):
            document["event"] = record.msg.name
            for name, value in record.msg.fields.items():
                document.setdefault(name, value)
        else:
            document["text"] = record.getMessage()
            document["held_back"] = getattr(record, "held_back", 0)
        document["logger"] = record.name
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


class TextLines(logging.Formatter):
    """Time, level and the line as it is; a traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """The record for people."""
        text = f"{_instant(record)} {record.levelname.lower():7} {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _instant(record: logging.LogRecord) -> str:
    when = datetime.fromtimestamp(record.created, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1_000:03}Z"
