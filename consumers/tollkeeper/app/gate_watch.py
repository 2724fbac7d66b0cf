"""What enforcement tells about itself, as metrics, health and log lines. Cheap, and for every thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal, get_args

from tollkeeper.app.health import Health
from tollkeeper.app.metrics import Metrics
from tollkeeper.app.sparing import Sparing
from tollkeeper.enforcement.observing import EpochState, Outcome
from tollkeeper.logline import LogLine
from tollkeeper.money.instants import MICROS_PER_SECOND

logger = logging.getLogger(__name__)

STATES: tuple[EpochState, ...] = get_args(EpochState)

PAUSE_S = 10.0
"""While an epoch is raised, a cause comes up many times a second: it gets one line in so long."""


class GateWatch:
    """Implements enforcement's Observer."""

    def __init__(self, metrics: Metrics, health: Health, monotonic: Callable[[], float]) -> None:
        self._metrics = metrics
        self._health = health
        self._sparing = Sparing(monotonic, pause_s=PAUSE_S)
        self._lock = threading.Lock()
        self._states: dict[str, tuple[int, EpochState]] = {}

    def applied(self, *, applied: int, ignored: int, unknown: int) -> None:
        """A round reached Redis."""
        for outcome, count in (("applied", applied), ("ignored", ignored), ("unknown", unknown)):
            self._metrics.gate_applies.labels(outcome).inc(count)

    def made_unknown(self, organizations: int, cause: Literal["retired", "behind"]) -> None:
        """Organizations have to be read anew."""
        self._metrics.gate_made_unknown.labels(cause).inc(organizations)

    def behind(self, partitions: int) -> None:
        """Of so many owned partitions Redis lacks something."""
        self._metrics.gate_behind.set(partitions)

    def not_applied(self, cause: str) -> None:
        """A call didn't do what it was for; each is counted, few get a line."""
        self._metrics.gate_apply_failures.inc()
        held_back = self._sparing.speak(cause)
        if held_back is not None:
            logger.warning(LogLine("gate_not_applied", cause=cause, held_back=held_back))

    def warmed(self, outcome: Outcome, organizations: int) -> None:
        """What became of organizations that were asked for."""
        self._metrics.gate_warmed.labels(outcome).inc(organizations)

    def epoch(self, tag: str, epoch: int, state: EpochState) -> None:
        """Where a primary is; a line only when that changed."""
        with self._lock:
            is_news = self._states.get(tag) != (epoch, state)
            self._states[tag] = (epoch, state)
        is_kept = state in ("open", "superseded")  # a newer release decides during an upgrade
        self._health.gate(tag, is_open=is_kept, detail=f"epoch {epoch} is {state}")
        self._metrics.gate_epoch.labels(tag).set(epoch)
        for one in STATES:
            self._metrics.gate_state.labels(tag, one).set(one == state)
        if is_news:
            level = logging.INFO if state == "open" else logging.WARNING
            logger.log(level, LogLine("gate_epoch", primary=tag, epoch=epoch, state=state))

    def raised(self, tag: str, epoch: int, cause: str) -> None:
        """Old grants end with their leases; holds are re-asserted."""
        self._metrics.gate_epochs_raised.inc()
        logger.warning(LogLine("gate_epoch_raised", primary=tag, epoch=epoch, cause=cause))

    def leased(self, tag: str, lease_until: int) -> None:
        """It may grant until then."""
        self._metrics.gate_leased_until.labels(tag).set(lease_until / MICROS_PER_SECOND)

    def retired(self, emitter: str, reason: Literal["recovery", "unseen"]) -> None:
        """Its holds are freed once that is folded."""
        self._metrics.gate_retired.labels(reason).inc()
        logger.warning(LogLine("emitter_retired", emitter=emitter, reason=reason))

    def emitters(self, tag: str, listed: int) -> None:
        """So many may hold."""
        self._metrics.gate_emitters.labels(tag).set(listed)

    def published(self, tag: str, kind: str, version: int) -> None:
        """Product services are told another version."""
        self._metrics.gate_published.labels(tag, kind).set(version)
        logger.info(LogLine("gate_published", primary=tag, kind=kind, version=version))

    def asked(self, tag: str, organizations: int) -> None:
        """So many organizations wait to be warmed."""
        self._metrics.gate_asked.labels(tag).set(organizations)
