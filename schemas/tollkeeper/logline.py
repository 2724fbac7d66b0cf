"""One line for the people who operate Tollkeeper: the name of what happened, and its ids and values.

It is handed to the standard library's loggers as the message. A product service's own handlers print it
as `name key=value`; `app.logs` writes it as JSON. Must know nothing of handlers.
"""

from __future__ import annotations

import json
import re

_PLAIN = re.compile(r'[^\s"=\\\x00-\x1f\x7f]+')


class LogLine:
    """`LogLine("drain_waits", emitter="em-1")`; ids and values, never a secret or a record's content."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, /, **fields: object) -> None:
        self.name = name
        self.fields = fields

    def __str__(self) -> str:
        return " ".join(
            [self.name, *(f"{key}={_shown(value)}" for key, value in self.fields.items())]
        )


def failure(error: BaseException) -> dict[str, object]:
    """The two fields that name an error: `error` is its type, `cause` what it says."""
    # str, not repr: only that names the file of an OSError.
    return {"error": type(error).__name__, "cause": str(error)}


def _shown(value: object) -> str:
    """Quoted where it would be read as something else: a value can't forge a field or a line."""
    text = "null" if value is None else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
