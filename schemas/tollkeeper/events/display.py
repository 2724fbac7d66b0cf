"""An event as people and programs see it: times as RFC 3339, every `_nanos` with its `_usd` twin.

The codec is for storing, this is for showing; nothing reads it back.
"""

from __future__ import annotations

import msgspec

from tollkeeper.events.codec import Event
from tollkeeper.events.rules import RULES, instant, optional_instant
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.money.instants import format_instant


def as_document(event: Event) -> dict[str, object]:
    """The event's type under `event`, then its fields in order, fit for JSON.

    Prices stay integer pico-USD. The event must be a valid one, as `decode` returns it.
    """
    rules = RULES[type(event)]
    document: dict[str, object] = {"event": type(event).__name__}
    for name, value in msgspec.structs.asdict(event).items():
        if rules[name] is instant:
            document[name] = format_instant(value)
        elif rules[name] is optional_instant:
            document[name] = None if value is None else format_instant(value)
        elif name.endswith("_nanos"):
            document[name] = value
            twin = name.removesuffix("_nanos") + "_usd"
            document[twin] = None if value is None else nanos_to_usd(value)
        elif isinstance(value, tuple):
            document[name] = [msgspec.structs.asdict(row) for row in value]
        else:
            document[name] = value
    return document
