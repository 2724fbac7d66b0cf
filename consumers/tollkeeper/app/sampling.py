"""The job that measures: lag of every partition, outbox, dead letters, spool; every few seconds.

It has a log of its own, so that it waits for no other job and none waits for it. A scrape reads what
was measured last and touches no service.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Engine

from tollkeeper.app.health import Standing
from tollkeeper.app.watch import SAMPLE, Watch
from tollkeeper.errors import Unavailable
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.port import Position
from tollkeeper.log.port import Log
from tollkeeper.metering.spool import spooled_bytes
from tollkeeper.money.amounts import NANOS_PER_USD
from tollkeeper.money.instants import MICROS_PER_SECOND
from tollkeeper.money.periods import period_at
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.store import count_waiting, oldest_waiting
from tollkeeper.reports.letters import OpenLetters, open_letters_by_cause
from tollkeeper.reports.notifications import waiting_deliveries
from tollkeeper.reports.overspend import overspent

SAMPLE_S = 5.0
LETTERS_EVERY = 12
"""Dead letters are counted in one sample of so many: once a minute."""
OVERSPENT_EVERY = 60
"""What was spent beyond limits is looked for every five minutes: that reads each cap."""


class Sample(msgspec.Struct, frozen=True):
    """What one look at the services found; None is what wasn't counted this time."""

    positions: Mapping[int, Position]
    ends: Mapping[int, int]
    pending: int
    deliveries: int
    oldest_decided_at: int | None
    letters: list[OpenLetters] | None
    overspent: int | None

    @property
    def standings(self) -> dict[int, Standing]:
        """Every partition's place and its log's end."""
        return {
            partition: Standing(position.next_offset, self.ends.get(partition, 0))
            for partition, position in sorted(self.positions.items())
        }


class Sampler:
    """Measures for one process; not for several threads. `clock` is in microseconds since the epoch."""

    def __init__(
        self,
        log: Log,
        engine: Engine,
        watch: Watch,
        *,
        spool_dir: Path,
        clock: Callable[[], int],
    ) -> None:
        self._log = log
        self._engine = engine
        self._watch = watch
        self._spool_dir = spool_dir
        self._clock = clock
        self._samples = 0
        self._caught_up_at: dict[int, int] = {}
        self._known_causes: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Measure until told to stop; a service that is away is waited for."""
        while not stop.is_set():
            self.sample()
            stop.wait(SAMPLE_S)

    def sample(self) -> None:
        """Measure once. What is away shows as such; the gauges keep their last values then."""
        try:
            sample = self._look()
        except Unavailable as away:
            self._watch.waits(SAMPLE, away)
            self._watch.health.unsampled()
        else:
            self._samples += 1
            self._show(sample)
            self._watch.health.sampled(sample.standings)
            self._watch.turned(SAMPLE)

    def _look(self) -> Sample:
        with reading(self._engine) as connection:
            found = positions(connection, live_generation(connection))
            pending = count_waiting(connection)
            deliveries = waiting_deliveries(connection)
            oldest = oldest_waiting(connection)
            letters = self._letters(connection)
            overspent = self._overspent(connection)
        ends = self._log.end_offsets()
        return Sample(found, ends, pending, deliveries, oldest, letters, overspent)

    def _letters(self, connection: Connection) -> list[OpenLetters] | None:
        return None if self._samples % LETTERS_EVERY else open_letters_by_cause(connection)

    def _overspent(self, connection: Connection) -> int | None:
        if self._samples % OVERSPENT_EVERY:
            return None
        return len(overspent(connection, period=period_at(self._clock())))

    def _show(self, sample: Sample) -> None:
        metrics, now = self._watch.metrics, self._clock()
        for partition, standing in sample.standings.items():
            lag_s = self._lag_s(partition, standing, sample.positions[partition], now)
            metrics.next_offset.labels(partition).set(standing.next_offset)
            metrics.lag_records.labels(partition).set(standing.lag_records)
            metrics.lag_seconds.labels(partition).set(lag_s)
        oldest = now if sample.oldest_decided_at is None else sample.oldest_decided_at
        metrics.relay_pending.set(sample.pending)
        metrics.webhook_waiting.set(sample.deliveries)
        metrics.relay_oldest_age.set(max(0, now - oldest) / MICROS_PER_SECOND)
        with suppress(OSError):  # another user's spool: the rest of the gauges matter more
            metrics.spool_bytes.set(spooled_bytes(self._spool_dir, without=frozenset()))
        metrics.sampled_at.set(now / MICROS_PER_SECOND)
        if sample.letters is not None:
            self._show_letters(sample.letters)
        if sample.overspent is not None:
            metrics.overspent.set(sample.overspent)

    def _lag_s(self, partition: int, standing: Standing, position: Position, now: int) -> float:
        """A bound from above that needs no read of the log.

        The oldest unfolded record came after the last folded one, and after the last time when nothing
        waited; while a backlog is worked off that is exact to the batch.
        """
        if standing.lag_records == 0:
            self._caught_up_at[partition] = now
            return 0.0
        since = max(position.last_appended_at or 0, self._caught_up_at.get(partition, 0))
        if since == 0:  # nothing was ever folded, and lag is all that was ever seen
            since = self._caught_up_at[partition] = now
        return max(0, now - since) / MICROS_PER_SECOND

    def _show_letters(self, letters: list[OpenLetters]) -> None:
        metrics = self._watch.metrics
        found = {one.cause: one for one in letters}
        self._known_causes |= set(found)
        for cause in self._known_causes:
            one = found.get(cause, OpenLetters(cause, 0, 0, 0))
            metrics.letters_open.labels(cause).set(one.count)
            metrics.letters_at_risk.labels(cause).set(one.at_risk_nanos / NANOS_PER_USD)
