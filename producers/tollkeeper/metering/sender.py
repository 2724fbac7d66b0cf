"""The thread that sends: this emitter's own spool, and those that dead processes left behind.

It tries for ever while the log is away, waiting longer and longer. Must not know the callers.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from tollkeeper.errors import TollkeeperError
from tollkeeper.failpoints import failpoint
from tollkeeper.log.port import Log
from tollkeeper.logline import LogLine, failure
from tollkeeper.metering.delivery import Delivery, Step
from tollkeeper.metering.incarnation import Incarnation
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.space import Space
from tollkeeper.metering.spool import (
    Place,
    SpoolDirectory,
    emitter_directories,
    spooled_bytes,
    sweep_unfinished,
)

logger = logging.getLogger(__name__)

MAX_ORPHANS = 4
"""Dead processes' directories held at once: others in this spool directory can take the rest."""


class Sender:
    """Sends batches in turn from its own incarnations, the oldest first, and from orphans."""

    def __init__(
        self,
        open_log: Callable[[], Log],
        spool_dir: Path,
        settings: EmitterSettings,
        *,
        space: Space,
        clock: Callable[[], int],
    ) -> None:
        self._open_log = open_log
        self._spool_dir = spool_dir
        self._settings = settings
        self._space = space
        self._clock = clock
        self._log: Log | None = None
        self._jitter = random.Random(str(spool_dir))
        self._changed = threading.Condition()
        self._has_news = False
        self._stop_at: float | None = None
        self._incarnations: list[Incarnation] = []
        self._orphans: list[Delivery] = []
        self._next_takeover = 0.0
        self.acknowledged = 0
        self.damaged = 0
        self.torn = 0
        self.taken_over = 0
        self.failures = 0
        self.thread = threading.Thread(target=self._run, name="tollkeeper-sender", daemon=True)

    def add(self, incarnation: Incarnation) -> None:
        """Send from this incarnation too, after those before it."""
        with self._changed:
            self._incarnations.append(incarnation)

    def wake(self) -> None:
        """There is something new to send."""
        with self._changed:
            self._has_news = True
            self._changed.notify_all()

    def stop(self, deadline: float) -> None:
        """Send what is left until `deadline` on the monotonic clock, then end the thread."""
        with self._changed:
            self._stop_at = deadline
            self._has_news = True
            self._changed.notify_all()

    def incarnations(self) -> list[Incarnation]:
        """Those that may have unsent records, the oldest first."""
        with self._changed:
            return list(self._incarnations)

    def target(self) -> dict[Incarnation, Place]:
        """Up to where everything durable now reaches."""
        return {incarnation: incarnation.durable() for incarnation in self.incarnations()}

    def wait_until_sent(self, target: dict[Incarnation, Place], deadline: float) -> bool:
        """Wait until the log has acknowledged everything up to `target`; False at the deadline."""
        with self._changed:
            while not self._has_sent(target):
                left = deadline - monotonic()
                if left <= 0 or not self.thread.is_alive():
                    return False
                self._changed.wait(left)
            return True

    def _has_sent(self, target: dict[Incarnation, Place]) -> bool:
        current = set(self._incarnations)
        return all(i not in current or i.delivery.place >= place for i, place in target.items())

    def _run(self) -> None:
        try:
            backoff_s = 0.0
            while not self._is_over():
                try:
                    moved = self._round()
                    backoff_s = 0.0
                except (TollkeeperError, OSError) as error:
                    backoff_s = self._failed(error, backoff_s)
                    moved = False
                except Exception as error:
                    # Nothing was forgotten, since the cursor moves only after an acknowledgement:
                    # begin again with a new log.
                    logger.exception(LogLine("sender_failed", **failure(error)))
                    self._close_log()
                    backoff_s = self._failed(error, backoff_s)
                    moved = False
                if not moved:
                    self._rest(backoff_s)
        finally:
            self._close()

    def _round(self) -> bool:
        """One batch of the own spool, one of an orphan. Whether anything moved."""
        if monotonic() >= self._next_takeover:
            self._next_takeover = monotonic() + self._settings.takeover_interval_s
            self._look_around()
        moved = False
        for incarnation in self.incarnations()[:1]:
            moved = self._send_own(incarnation)
        for orphan in self._orphans[:1]:
            moved = self._send_orphan(orphan) or moved
        return moved

    def _send_own(self, incarnation: Incarnation) -> bool:
        # In this order: what is durable when a retired one is seen at its end is all there is.
        is_retired = incarnation.is_retired
        step = self._step(incarnation.delivery)
        incarnation.sent_records += step.sent
        self._space.add(-step.freed_bytes)
        is_done = step.is_at_end and is_retired
        with self._changed:
            if is_done:
                self._incarnations.remove(incarnation)
            self._changed.notify_all()
        if is_done:
            self._space.add(-incarnation.directory.remove())
        return is_done or not step.is_at_end

    def _send_orphan(self, orphan: Delivery) -> bool:
        try:
            step = self._step(orphan)
        except OSError:
            self._orphans.remove(orphan)  # its disk fails: the next look around tries again
            orphan.directory.release()
            raise
        if step.is_at_end:
            self._orphans.remove(orphan)
            orphan.directory.remove()
            self._next_takeover = min(self._next_takeover, monotonic())
        return True

    def _step(self, delivery: Delivery) -> Step:
        if self._log is None:
            self._log = self._open_log()
        step = delivery.step(self._log, at=self._clock())
        self.acknowledged += step.sent
        self.damaged += step.damaged
        self.torn += step.torn
        return step

    def _look_around(self) -> None:
        """Take over what dead processes left, and measure what the living hold."""
        sweep_unfinished(self._spool_dir)
        for path in emitter_directories(self._spool_dir):
            if len(self._orphans) >= MAX_ORPHANS:
                break
            try:
                directory = SpoolDirectory.take(path)
            except OSError as error:
                logger.warning(LogLine("spool_not_taken_over", emitter=path.name, **failure(error)))
                continue
            if directory is not None:
                failpoint("takeover.after_lock")
                logger.info(LogLine("spool_taken_over", emitter=directory.emitter))
                self.taken_over += 1
                self._orphans.append(Delivery(directory, self._settings, bound=lambda: None))
        own = frozenset(incarnation.emitter for incarnation in self.incarnations())
        self._space.measured_others(spooled_bytes(self._spool_dir, without=own))

    def _failed(self, error: Exception, backoff_s: float) -> float:
        settings = self._settings
        self.failures += 1
        logger.warning(LogLine("send_failed", failures=self.failures, **failure(error)))
        return min(settings.max_backoff_s, max(settings.first_backoff_s, backoff_s * 2))

    def _rest(self, backoff_s: float) -> None:
        """Wait for news or the next look around, or out the backoff; never beyond a stop."""
        until = self._next_takeover
        if backoff_s > 0:
            until = monotonic() + backoff_s * self._jitter.uniform(0.5, 1.0)
        with self._changed:
            while backoff_s > 0 or not self._has_news:
                if self._stop_at is not None:
                    until = min(until, self._stop_at)
                left = until - monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._has_news = False

    def _is_over(self) -> bool:
        with self._changed:
            if self._stop_at is None:
                return False
            return monotonic() >= self._stop_at or not self._incarnations

    def _close(self) -> None:
        """Give everything up: what is left is the next process's."""
        for incarnation in self.incarnations():
            incarnation.directory.release()
        for orphan in self._orphans:
            orphan.directory.release()
        self._close_log()
        with self._changed:
            self._changed.notify_all()

    def _close_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.close()
