"""What the jobs of a process tell about themselves, kept as metrics and judged as health.

The one place that knows both. Every call is cheap and waits for nothing: jobs call it once a round.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from prometheus_client import generate_latest

from tollkeeper.app.gate_watch import GateWatch
from tollkeeper.app.health import Health
from tollkeeper.app.jobs import CONSUME
from tollkeeper.app.metrics import Metrics
from tollkeeper.errors import (
    GateUnavailable,
    Halted,
    LogUnavailable,
    SpoolFailed,
    SpoolFull,
    StoreUnavailable,
    Unavailable,
)
from tollkeeper.ledger.apply import FoldCounts
from tollkeeper.logline import LogLine, failure
from tollkeeper.metering.drain import DrainResult
from tollkeeper.pipeline.observing import Stage

if TYPE_CHECKING:  # an HTTP client's import, for who delivers only
    from tollkeeper.webhooks.delivering import Delivered

logger = logging.getLogger(__name__)

SAMPLE = "sample"
REASONS = {
    "UnknownSchema": "unknown_schema",
    "LogDiverged": "log_diverged",
    "LogGap": "log_gap",
    "LogCorrupt": "log_corrupt",
    "BrokenInvariant": "broken_invariant",
}
"""The label of each kind of halt."""


class Watch:
    """Implements the pipeline's Observer, and hears the other jobs."""

    def __init__(self, monotonic: Callable[[], float], *, stuck_after_s: float) -> None:
        self.metrics = Metrics()
        self.health = Health(monotonic, stuck_after_s=stuck_after_s)
        self.gate = GateWatch(self.metrics, self.health, monotonic)
        self._owned: set[int] = set()
        self._stages = {
            stage: self.metrics.stage_duration.labels(stage)
            for stage in ("poll", "decode", "fold", "commit", "publish")
        }
        self._lock = threading.Lock()
        self._ever_away: set[tuple[str, str]] = set()

    # The pipeline

    def took(self, stage: Stage, duration_s: float) -> None:
        """A stage of a batch is done."""
        self._stages[stage].observe(duration_s)

    def folded(self, counts: FoldCounts) -> None:
        """A round was committed."""
        self.metrics.batch_records.observe(counts.records)
        self.metrics.records_folded.inc(counts.records)
        self.metrics.usage_charged.inc(counts.charged)
        self.metrics.usage_duplicates.inc(counts.duplicates)
        self.metrics.notifications.inc(counts.notifications)
        for cause, count in counts.causes.items():
            self.metrics.dead_letters.labels(cause).inc(count)
            # Their ids stand in `tollkeeper dead-letters list`: one line each could be millions.
            logger.warning(LogLine("quarantined", cause=cause, records=count))

    def adopted(self, owned: Collection[int]) -> None:
        """These partitions, and no others, are this process's now."""
        self.health.owns(owned)
        with self._lock:
            for partition in self._owned - set(owned):
                self.metrics.owned.labels(partition).set(0)
            for partition in owned:
                self.metrics.owned.labels(partition).set(1)
            self._owned |= set(owned)
        if owned:
            self.metrics.adoptions.inc()
            logger.info(LogLine("partitions_adopted", partitions=sorted(owned)))
        else:
            self.metrics.halted.clear()

    def overtaken(self) -> None:
        """Another process had folded these records first."""
        self.metrics.overtaken.inc()

    def halted(self, halted: Mapping[int, Halted]) -> None:
        """The owned partitions that are stopped."""
        self.health.halted(halted)
        self.metrics.halted.clear()
        for partition, cause in halted.items():
            reason = REASONS.get(type(cause).__name__, "other")
            self.metrics.halted.labels(partition, reason).set(1)

    def turned(self, job: str = CONSUME) -> None:
        """A round of the job ended without an error."""
        for service, away_s in self.health.turned(job).items():
            logger.info(LogLine("service_back", job=job, service=service, away_s=round(away_s, 1)))

    # The other jobs

    def waits(self, job: str, away: Unavailable) -> None:
        """A job found a service away, and will try again."""
        service = service_of(away)
        is_news = self.health.away(job, service)
        self._ever_away.add((job, service))
        self.metrics.service_errors.labels(job, service).inc()
        if is_news:  # else: a line a second, for as long as it lasts
            logger.warning(LogLine("service_away", job=job, service=service, **failure(away)))

    def died(self, job: str, error: BaseException) -> None:
        """A job ended by an error that it doesn't handle: the process ends."""
        self.health.died(job, f"{type(error).__name__}: {error}")
        logger.error(LogLine("job_died", job=job, **failure(error)), exc_info=error)

    def relayed(self, events: int) -> None:
        """The relay brought events to the log."""
        self.metrics.relayed.inc(events)

    def drained(self, result: DrainResult) -> None:
        """A round of the drain ended."""
        self.metrics.drained.inc(result.sent)
        self.metrics.damaged.inc(result.damaged)
        self.metrics.spool_orphaned.set(result.orphaned)
        if result.sent or result.damaged:
            logger.info(LogLine("spools_drained", sent=result.sent, damaged=result.damaged))

    def delivered(self, done: Delivered) -> None:
        """A round of webhooks ended."""
        for outcome, count in (
            ("delivered", done.delivered),
            ("failed", done.failed),
            ("given_up", done.given_up),
            ("too_old", done.too_old),
        ):
            self.metrics.webhook_deliveries.labels(outcome).inc(count)

    # The endpoints

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format, health as it is now among them."""
        away_s = self.health.away_s()
        for job, service in sorted(self._ever_away):
            gauge = self.metrics.service_away.labels(job, service)
            gauge.set(away_s.get((job, service), 0.0))
        self.metrics.healthy.set(not self.health.reasons())
        return generate_latest(self.metrics.registry)


def service_of(away: Unavailable) -> str:
    """Which service an error is about."""
    match away:
        case LogUnavailable():
            return "log"
        case StoreUnavailable():
            return "sql"
        case GateUnavailable():
            return "redis"
        case SpoolFull() | SpoolFailed():
            return "spool"
        case _:
            return "other"
