"""Reader of the `events` format: one JSON object a line, a whole usage event each.

The rules of the values are those of the event itself (`events.rules`); here stands only which keys a
line has. Must not know traces.
"""

from __future__ import annotations

from collections.abc import Iterator

from tollkeeper.errors import InvalidEvent, InvalidInput
from tollkeeper.events.rules import RULES
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.metering.usage import Usage
from tollkeeper.money.instants import parse_instant
from tollkeeper.workloads.lines import ByteStream, json_object, numbered_lines, shown
from tollkeeper.workloads.rejected import RejectedLine, rejected

REQUIRED_KEYS = ("event_id", "organization", "member", "surface", "model", "occurred_at")
"""`event_id` too: without it, reading the same file again would charge everything again."""

_OURS = frozenset(
    {"emitter", "sequence"}
)  # who reports, and as its how-manieth: the emitter's to say
_RULES = {name: rule for name, rule in RULES[UsageRecorded].items() if name not in _OURS}


def read_event_lines(stream: ByteStream) -> Iterator[Usage | RejectedLine]:
    """Each line as usage, or as the first field of it that breaks a rule; blank lines are skipped."""
    for line in numbered_lines(stream):
        if isinstance(line, RejectedLine):
            yield line
            continue
        try:
            usage = parse_event_line(line)
        except InvalidInput as error:
            yield rejected(line.number, error)
            continue
        yield usage


def parse_event_line(text: str) -> Usage:
    """One line as usage; InvalidInput names the field and the rule."""
    values = json_object(text)
    for key in values:
        if key not in _RULES:
            raise InvalidInput(shown(key), f"is no key of a usage event; they are {_KEYS}")
    for key in REQUIRED_KEYS:
        if key not in values:
            raise InvalidInput(key, "must be given")
    values["occurred_at"] = _instant(values["occurred_at"])
    for key, value in values.items():
        _RULES[key](key, value)
    # Every value has just been checked against the rule of its field, types included.
    return Usage(**values)  # type: ignore[arg-type] # checked above by the rules of events


_KEYS = ", ".join(_RULES)


def _instant(value: object) -> int:
    if not isinstance(value, str):
        raise InvalidEvent("occurred_at", "must be RFC 3339 text such as 2026-11-01T00:00:00Z")
    return parse_instant(value, field="occurred_at")
