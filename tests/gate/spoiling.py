"""Changes by hand what Redis has of an organization: of the names that `copy` gives, one at a time."""

from __future__ import annotations

import struct
from typing import Any

from redis import Redis

from tollkeeper.gate.keys import organization_keys

NUMBERS = ("epoch", "known", "offset", "position", "floor", "oldest", "purchased", "used", "held")
OWN = len(NUMBERS)
CAP, MEMBER, RECORD_LENGTH = 0, 7, 8


def spoil(client: Redis, organization: str, name: str, value: str | None) -> None:
    """Give the name another value; None takes it away."""
    state, _ = organization_keys(organization)
    kind, *words = name.split(" ")
    if name in NUMBERS:
        _change(client, state, "numbers", NUMBERS.index(name), float(value or 0))
    elif name in ("funding", "levels") or (kind == "cap" and "/" not in name):
        _change_terms(client, state, name, value)
    else:
        scope = f"member/{words[0]}" if kind == "member" else words[-1]
        is_own = scope == f"organization/{organization}"
        at = _place(client, state, kind, words) + (OWN if is_own else 0)
        number = float(value if value is not None else -1 if kind == "cap" else 0)
        _change(client, state, "numbers" if is_own else f"scope {scope}", at, number)


def _place(client: Redis, state: str, kind: str, words: list[str]) -> int:
    if kind in ("cap", "member"):
        return CAP if kind == "cap" else MEMBER
    bounds = _terms(client, state)[:4]
    return 1 + 2 * bounds.index(words[0]) + (kind == "held")


def _change(client: Redis, state: str, field: str, at: int, number: float) -> None:
    raw: Any = client.hget(state, field) or struct.pack("<8d", -1, *[0] * (RECORD_LENGTH - 1))
    numbers = [*struct.unpack(f"<{len(raw) // 8}d", raw)]
    numbers[at] = number
    client.hset(state, field, struct.pack(f"<{len(numbers)}d", *numbers))


def _terms(client: Redis, state: str) -> list[str]:
    raw: Any = client.hget(state, "terms")
    return str(raw.decode()).split(" ")


def _change_terms(client: Redis, state: str, name: str, value: str | None) -> None:
    words = _terms(client, state)
    if name == "funding":
        words[4] = str(value)
    elif name == "levels":
        wanted = str(value).split(" ")
        words = [*words[:6], *(one for one in words[6:] if one.split("=")[0] in wanted)]
    else:
        level = name.removeprefix("cap ")
        words = [f"{level}={value}" if one.startswith(f"{level}=") else one for one in words]
    client.hset(state, "terms", " ".join(words))
