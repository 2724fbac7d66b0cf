"""What the figures are to be: printed beside them, so that one that is missed is seen."""

from __future__ import annotations

from typing import Literal

import msgspec


class Target(msgspec.Struct, frozen=True):
    """A bound, in the figure's own unit."""

    side: Literal["at most", "at least"]
    bound: float

    def said_of(self, value: float) -> str:
        """For people."""
        is_met = value <= self.bound if self.side == "at most" else value >= self.bound
        return f"{self.side} {self.bound:g}{'' if is_met else ': missed'}"


TARGETS: dict[tuple[str, str], Target] = {
    ("enforcement", "cap_raised_to_hold_p99_ms"): Target("at most", 500),
    ("enforcement", "credits_bought_to_hold_p99_ms"): Target("at most", 500),
    ("enforcement", "cap_raised_to_hold_under_load_p99_ms"): Target("at most", 500),
    ("enforcement", "credits_bought_to_hold_under_load_p99_ms"): Target("at most", 500),
    ("cold-start", "all_warm_s"): Target("at most", 60),
    ("cold-start", "first_hold_p99_ms"): Target("at most", 50),
    ("apply", "ratio_with_apply"): Target("at least", 0.85),
    **{
        ("gate", f"{server}_{way}_{clients}_ratio"): Target("at least", 0.7)
        for server in ("redis", "valkey")
        for way in ("sync", "asyncio")
        for clients in (1, 32)
    },
}
"""By benchmark and figure."""


def target_of(bench: str, figure: str, value: float) -> str:
    """What stands beside a figure; nothing where no target was set."""
    target = TARGETS.get((bench, figure))
    return "" if target is None else target.said_of(value)
