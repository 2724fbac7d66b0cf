"""A line of a workload file that wasn't accepted, as a value: reading goes on with the next line."""

from __future__ import annotations

import msgspec

from tollkeeper.errors import InvalidInput


class RejectedLine(msgspec.Struct, frozen=True, gc=False):
    """Which line (from 1), which of its fields (`line` when it is all of it) and which rule it broke."""

    line: int
    field: str
    reason: str


def rejected(line: int, error: InvalidInput) -> RejectedLine:
    """The rejection that stands for `error` in line number `line`."""
    return RejectedLine(line=line, field=error.field, reason=error.rule)
