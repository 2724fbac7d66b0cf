"""What happens to a call when the gate can't know: closed, open up to a ceiling, observe.

A ceiling bounds what one process lets through from when the gate last knew. Pure but for that sum.
"""

from __future__ import annotations

import threading
from typing import Literal, get_args

import msgspec

from tollkeeper.errors import BrokenInvariant

PolicyName = Literal["closed", "open", "observe"]
EVERYBODY = "*"
NEVER = ("-", "0", "")


class Policy(msgspec.Struct, frozen=True):
    """`ceiling_micros` is what one process may let through while the gate doesn't know, for `open`.

    `until` is the instant in microseconds from which it no longer holds; None: never.
    """

    name: PolicyName
    ceiling_micros: int = 0
    until: int | None = None


CLOSED = Policy("closed")


def parse_policy(item: str) -> tuple[str, Policy]:
    """Of one published word: `ORGANIZATION,POLICY,CEILING_MICROS,UNTIL_MICROS`, `-` where there is none."""
    organization, name, ceiling, until = item.split(",")
    if name not in get_args(PolicyName):
        raise BrokenInvariant(f"{organization} has the policy {name!r}, unknown to this release")
    return organization, Policy(
        name,  # type: ignore[arg-type] # it is one of them
        0 if ceiling in NEVER else int(ceiling),
        None if until in NEVER else int(until),
    )


class Ceilings:
    """What this process has let through for each organization since the gate last knew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._admitted: dict[str, int] = {}

    def admit(self, organization: str, amount_micros: int, ceiling_micros: int) -> bool:
        """Let a call of so much through, unless the sum would be above the ceiling."""
        with self._lock:
            total = self._admitted.get(organization, 0) + amount_micros
            if total > ceiling_micros:
                return False
            self._admitted[organization] = total
            return True

    def gate_knows(self, organization: str) -> None:
        """The gate has answered: what was let through before is on its way to be counted."""
        if organization in self._admitted:
            with self._lock:
                self._admitted.pop(organization, None)
