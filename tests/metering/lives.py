"""Emitters that may have holds: what a log tells of them, and whether their ends come late enough."""

from __future__ import annotations

from metering.fake_log import NOON, events_on, usage

from tollkeeper.events.emitters import EmitterRetired, EmitterStarted
from tollkeeper.events.gate import LimitReached
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.log.port import Log
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.usage import Usage

PARTITIONS = 4
"""How many a `MemoryLog` has."""
QUICK = EmitterSettings(
    first_backoff_s=0.005, max_backoff_s=0.02, full_timeout_s=0.2, takeover_interval_s=0.02
)


class Holds:
    """What a gate knows of its open holds: `in_use` names the emitters that have some."""

    def __init__(self, *emitters: str) -> None:
        self.in_use = set(emitters)
        self.asked: list[str] = []

    def __call__(self, emitter: str) -> bool:
        self.asked.append(emitter)
        return emitter in self.in_use


def held(emitter: str, number: int = 1, organization: str = "acme") -> Usage:
    """Usage that settles a hold of this emitter."""
    return usage(number, organization, hold_id=f"{emitter}.{organization}.{number}")


def reached(requested_micros: int = 5) -> LimitReached:
    """A limit that stopped usage."""
    return LimitReached(
        organization="acme",
        limit="member_cap",
        scope="member/ann",
        period_start=1_793_491_200_000_000,
        cap_micros=10,
        spent_micros=8,
        held_micros=0,
        requested_micros=requested_micros,
        member="ann",
        emitter="em-1",
        occurred_at=NOON,
    )


def started_on(log: Log) -> dict[str, int]:
    """Of each emitter that started, how many partitions know it."""
    return _knowing(log, EmitterStarted)


def retired_on(log: Log) -> dict[str, int]:
    """Of each emitter that is retired, how many partitions know it."""
    return _knowing(log, EmitterRetired)


def endings_on(log: Log) -> set[tuple[str, str, str]]:
    """Emitter, actor and reason of each retirement."""
    return {
        (event.emitter, event.actor, event.reason)
        for events in events_on(log).values()
        for event in events
        if isinstance(event, EmitterRetired)
    }


def assert_retired_last(log: Log) -> None:
    """On no partition usage that settles a hold stands behind the end of the hold's emitter.

    Usage that is there a second time was settled by the first.
    """
    for partition, events in events_on(log).items():
        retired: set[str] = set()
        settled: set[str] = set()
        for offset, event in enumerate(events):
            if isinstance(event, EmitterRetired):
                retired.add(event.emitter)
            elif isinstance(event, UsageRecorded) and event.event_id not in settled:
                settled.add(event.event_id)
                holder = (event.hold_id or "").partition(".")[0]
                assert holder not in retired, f"{partition}/{offset}: {holder} was retired before"
                assert event.emitter not in retired, f"{partition}/{offset}: {event.emitter}"


def _knowing(log: Log, kind: type[EmitterStarted | EmitterRetired]) -> dict[str, int]:
    known: dict[str, set[int]] = {}
    for partition, events in events_on(log).items():
        for event in events:
            if isinstance(event, kind):
                known.setdefault(event.emitter, set()).add(partition)
    return {emitter: len(partitions) for emitter, partitions in known.items()}
