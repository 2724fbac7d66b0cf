"""Durations as people write them: 90, 90s, 15m, 2h, 1d."""

from __future__ import annotations

import re

from tollkeeper.errors import InvalidInput

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
LONGEST_S = 366 * 86_400
_SHAPE = re.compile(r"([0-9]{1,8}(?:\.[0-9]{1,3})?)([smhd]?)")


def duration_s(text: str, *, field: str) -> float:
    """Seconds. InvalidInput: it is no duration, or longer than a year."""
    found = _SHAPE.fullmatch(text)
    seconds = float(found[1]) * SECONDS[found[2]] if found else -1.0
    if not 0 <= seconds <= LONGEST_S:
        raise InvalidInput(field, f"must be a duration such as 90, 15m, 2h or 1d, not {text!r}")
    return seconds
