"""What a gate has done and has in flight in this process, for metrics."""

from __future__ import annotations

import threading
from collections import Counter

import msgspec


class GateStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot; counts are since the process began."""

    granted: int = 0
    """Holds that were granted and taken."""
    refused: int = 0
    """Calls that were refused, for whatever reason, and not let through."""
    unavailable: int = 0
    """Those of them that were refused since the gate didn't know."""
    admitted_open: int = 0
    """Calls let through by the policy `open`, while the gate didn't know."""
    admitted_observe: int = 0
    """Calls let through by the policy `observe`, which would have been refused."""
    extended: int = 0
    extensions_refused: int = 0
    settled: int = 0
    """Holds whose usage is durable in the spool."""
    released: int = 0
    """Holds of whose release Redis has said that it knows."""
    estimated: int = 0
    """Calls charged as estimated, since the provider's count was missing."""
    abandoned: int = 0
    """Holds that their callers lost: neither settled nor released; they were released."""
    late_grants: int = 0
    """Grants that came too late to be taken; they were released."""
    usage_not_accepted: int = 0
    """Times that the spool didn't take a call's usage; it is handed in again and again."""
    reports_dropped: int = 0
    """Refusals and admitted calls that couldn't be reported, since too many waited."""
    began_anew: int = 0
    """Times that this process learned that its emitter was retired."""
    reasserted: int = 0
    """Holds re-asserted to recovering servers."""
    ticks: int = 0
    ticks_failed: int = 0
    """Ticks in which Redis or the spool didn't answer."""
    open_holds: int = 0
    open_micros: int = 0
    """What the open holds reserve, in micro-USD."""
    owed_releases: int = 0
    owed_usages: int = 0
    """Calls whose usage isn't durable yet."""
    waiting_reports: int = 0
    trouble: str | None = None
    """Why holds aren't granted now; None: they are."""
    epoch: int = 0
    """The highest of all primaries."""
    policies: dict[str, str] = {}
    """The policies in force that aren't `closed`, by organization; `*` is for all others."""


class Counters:
    """Counts by the names of `GateStats`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, count: int = 1) -> None:
        """Count what happened."""
        with self._lock:
            self._counts[name] += count

    def leave_parent(self) -> None:
        """In a forked child: begin at zero. The lock may be held by a thread that isn't here."""
        self._lock = threading.Lock()
        self._counts = Counter()

    def all(self) -> dict[str, int]:
        """All counts so far."""
        with self._lock:
            return dict(self._counts)
