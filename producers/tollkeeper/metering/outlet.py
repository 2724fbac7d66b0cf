"""The log as the spool's senders use it: opened when it is needed, and told of emitters' lives.

An emitter that may have holds has a start and an end on *every* partition. Its end stands behind all
usage that may settle its holds: whoever tells it had that acknowledged before. Must not know threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from tollkeeper.events.codec import encode
from tollkeeper.events.emitters import (
    EmitterEvent,
    EmitterRetired,
    EmitterStarted,
    RetirementReason,
)
from tollkeeper.failpoints import failpoint
from tollkeeper.log.port import Log, Outgoing
from tollkeeper.logline import LogLine
from tollkeeper.metering.delivery import Delivery, Step
from tollkeeper.metering.settings import EmitterSettings

logger = logging.getLogger(__name__)


class Outlet:
    """Sends to one log and counts what it took. LogUnavailable leaves everything to be tried again."""

    def __init__(
        self,
        open_log: Callable[[], Log],
        settings: EmitterSettings,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._open_log = open_log
        self._timeout_s = settings.append_timeout_s
        self._clock = clock
        self._log: Log | None = None
        self.acknowledged = 0
        self.damaged = 0
        self.torn = 0

    def send(self, delivery: Delivery) -> Step:
        """Send the next batch of a directory."""
        step = delivery.step(self._opened(), at=self._clock())
        self.acknowledged += step.sent
        self.damaged += step.damaged
        self.torn += step.torn
        return step

    def tell_started(self, emitter: str) -> None:
        """Tell every partition that this emitter may have holds from here on."""
        self._tell(EmitterStarted(emitter=emitter, occurred_at=self._clock()))
        failpoint("outlet.after_started")
        logger.info(LogLine("emitter_started", emitter=emitter))

    def tell_retired(self, emitter: str, *, actor: str, reason: RetirementReason) -> None:
        """Tell every partition that this emitter has no holds any more."""
        failpoint("outlet.before_retired")
        self._tell(
            EmitterRetired(emitter=emitter, actor=actor, reason=reason, occurred_at=self._clock())
        )
        failpoint("outlet.after_retired")
        logger.info(LogLine("emitter_retired", emitter=emitter, actor=actor, reason=reason))

    def close(self) -> None:
        """Close the log; what is sent next opens it again."""
        log, self._log = self._log, None
        if log is not None:
            log.close()

    def _tell(self, event: EmitterEvent) -> None:
        log, value = self._opened(), encode(event)
        everywhere = [Outgoing(partition, None, value) for partition in range(log.partition_count)]
        log.append(everywhere, timeout_s=self._timeout_s)

    def _opened(self) -> Log:
        if self._log is None:
            self._log = self._open_log()
        return self._log
