"""Where the fold's time goes: the stages of a batch, by the clock and not by a profiler.

A stage is a call made once or a few times a batch, so timing it costs nothing that could be seen;
a profiler, which looks at each of a batch's hundred thousand calls, shifts the picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any
from unittest.mock import patch

from tollkeeper.app.enforcing import LateFollower
from tollkeeper.ledger import apply
from tollkeeper.ledger.fold import Fold
from tollkeeper.ledger.store import SqlTransaction
from tollkeeper.pipeline import loop, reading
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.reading import BatchReader

_CALLS: tuple[tuple[str, Any, str], ...] = (
    ("poll", BatchReader, "_collect"),
    ("decode and check", reading, "prepare"),
    ("move positions", SqlTransaction, "advance"),
    ("load state", SqlTransaction, "load"),
    ("insert charges", SqlTransaction, "insert_charges"),
    ("add up", Fold, "settle"),
    ("write totals", SqlTransaction, "write"),
    ("effects", apply, "effects_of"),
    ("round", loop, "fold_round"),
    ("tell the gate", LateFollower, "folded"),
    ("batch", Pipeline, "_fold"),
)
_WITHIN_A_ROUND = (
    "move positions",
    "load state",
    "insert charges",
    "add up",
    "write totals",
    "effects",
)

Work = Callable[[], float]


@contextmanager
def timed_stages() -> Iterator[dict[str, float]]:
    """Seconds spent in each call of `_CALLS` while this is open."""
    seconds: defaultdict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for stage, owner, name in _CALLS:
            stack.enter_context(patch.object(owner, name, _timing(stage, owner, name, seconds)))
        yield seconds


def _timing(
    stage: str, owner: Any, name: str, seconds: defaultdict[str, float]
) -> Callable[..., Any]:
    call = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        began = perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            seconds[stage] += perf_counter() - began

    return timed


def micros_an_event(events: int, work: Work) -> dict[str, float]:
    """Microseconds an event of each stage of `work`, which folds `events` and answers its seconds."""
    with timed_stages() as seconds:
        total_s = work()
    return micros_of(seconds, events, total_s)


def micros_of(seconds: Mapping[str, float], events: int, total_s: float) -> dict[str, float]:
    """What was timed, as microseconds an event of each stage; `all` is by the clock."""
    inside = sum(seconds[stage] for stage in _WITHIN_A_ROUND)
    found = {
        "poll": seconds["poll"],
        "decode and check": seconds["decode and check"],
        "rate, hash, judge": seconds["round"] - inside,
        **{stage: seconds[stage] for stage in _WITHIN_A_ROUND},
        "tell the gate": seconds["tell the gate"],
        "commit": seconds["batch"] - seconds["round"] - seconds["tell the gate"],
        "all": total_s,
    }
    return {stage: round(value / events * 1_000_000, 2) for stage, value in found.items()}
