"""The thread that sends: this emitter's own spool, and those that dead processes left behind.

It tries for ever while the log is away, waiting longer and longer. All it does is done in `step`; the
thread is a loop around that. Must not know the callers.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

from tollkeeper.errors import TollkeeperError
from tollkeeper.log.port import Log
from tollkeeper.logline import LogLine, failure
from tollkeeper.metering.incarnation import Incarnation
from tollkeeper.metering.leaving import Leaving
from tollkeeper.metering.orphans import Orphans
from tollkeeper.metering.outlet import Outlet
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.space import Space
from tollkeeper.metering.spool import Place, spooled_bytes
from tollkeeper.metering.surroundings import Surroundings

logger = logging.getLogger(__name__)

LEAVING_POLL_S = 0.1
"""How often it is asked whether the last hold of a replaced emitter is settled: nobody tells."""
SENDER = "sender"
"""Who retires a dead process's emitter, on the log."""


class Sender:
    """Sends batches in turn from its own incarnations, the oldest first, and from orphans."""

    def __init__(
        self,
        open_log: Callable[[], Log],
        spool_dir: Path,
        settings: EmitterSettings,
        *,
        space: Space,
        surroundings: Surroundings,
        is_in_use: Callable[[str], bool],
    ) -> None:
        self._spool_dir = spool_dir
        self._settings = settings
        self._space = space
        self._monotonic = surroundings.monotonic
        self._is_in_use = is_in_use
        self._jitter = random.Random(str(spool_dir))
        self._changed = threading.Condition()
        self._has_news = False
        self._stop_at: float | None = None
        self._is_written = False
        self._is_released = False
        self._backoff_s = 0.0
        self._incarnations: list[Incarnation] = []
        self._leaving: list[Leaving] = []
        self.outlet = Outlet(open_log, settings, clock=surroundings.clock)
        self.orphans = Orphans(spool_dir, settings, outlet=self.outlet, monotonic=self._monotonic)
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

    def written(self) -> None:
        """The writer has ended: no usage comes any more, so no open hold keeps an emitter here."""
        with self._changed:
            self._is_written = True
            self._has_news = True
            self._give_up_own()
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

    def leaving(self) -> list[Incarnation]:
        """Those that are sent and will write no more, while their directories are still there."""
        with self._changed:
            return [leaving.incarnation for leaving in self._leaving]

    def last_announced(self) -> str | None:
        """The last emitter of this process that may have holds and whose end isn't told yet."""
        with self._changed:
            own = [*(leaving.incarnation for leaving in self._leaving), *self._incarnations]
            return next((one.emitter for one in reversed(own) if one.is_announced), None)

    def is_empty(self) -> bool:
        """Whether nothing of this process's emitter is left, no directory either."""
        with self._changed:
            return not self._incarnations and not self._leaving

    def target(self) -> dict[Incarnation, Place]:
        """Up to where everything durable now reaches."""
        return {incarnation: incarnation.durable() for incarnation in self.incarnations()}

    def has_sent(self, target: dict[Incarnation, Place]) -> bool:
        """Whether the log has acknowledged everything up to `target`."""
        with self._changed:
            return self._has_sent(target)

    def wait_until_sent(self, target: dict[Incarnation, Place], deadline: float) -> bool:
        """Wait until the log has acknowledged everything up to `target`; False at the deadline."""
        with self._changed:
            while not self._has_sent(target):
                left = deadline - self._monotonic()
                if left <= 0 or not self.thread.is_alive():
                    return False
                self._changed.wait(left)
            return True

    def step(self) -> bool:
        """Send a batch of each that has one; whether anything moved. A failure is kept to be counted."""
        try:
            moved = self._round()
        except (TollkeeperError, OSError) as error:
            self._failed(error)
            return False
        except Exception as error:
            # Nothing was forgotten, since the cursor moves only after an acknowledgement: begin again
            # with a new log.
            logger.exception(LogLine("sender_failed", **failure(error)))
            self.outlet.close()
            self._failed(error)
            return False
        self._backoff_s = 0.0
        return moved

    def release(self) -> None:
        """Give everything up as it is: what is left is the next process's."""
        with self._changed:
            self._is_released = True
            self._give_up_own()
        self.orphans.release()
        self.outlet.close()
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while not self._is_over():
                if not self.step():
                    self._rest()
        finally:
            self.release()

    def _round(self) -> bool:
        """One batch of the own spool, one of an orphan. Whether anything moved."""
        if self._monotonic() >= self.orphans.next_look:
            self.orphans.look_around()
            own = frozenset(one.emitter for one in [*self.incarnations(), *self.leaving()])
            self._space.measured_others(spooled_bytes(self._spool_dir, without=own))
        moved = False
        for incarnation in self.incarnations():
            moved = self._tell_started(incarnation) or moved
        for incarnation in self.incarnations()[:1]:
            moved = self._send_own(incarnation) or moved
        moved = self.orphans.send_next(SENDER) or moved
        return self._let_go() or moved

    def _tell_started(self, incarnation: Incarnation) -> bool:
        if incarnation.is_started or not incarnation.is_announced:
            return False
        self.outlet.tell_started(incarnation.emitter)
        incarnation.is_started = True
        return True

    def _send_own(self, incarnation: Incarnation) -> bool:
        # In this order: what is durable when a retired one is seen at its end is all there is.
        is_retired = incarnation.is_retired
        step = self.outlet.send(incarnation.delivery)
        incarnation.sent_records += step.sent
        self._space.add(-step.freed_bytes)
        is_done = step.is_at_end and is_retired
        with self._changed:
            if is_done:
                self._incarnations.remove(incarnation)
                self._leaving.append(Leaving(incarnation))
            self._changed.notify_all()
        if is_done:
            self._space.add(-incarnation.directory.empty())
        return is_done or not step.is_at_end

    def _let_go(self) -> bool:
        """Retire those that are sent and whose holds are settled, and delete their directories.

        In their order: each names only the last one before it, and stands for all those before that.
        """
        with self._changed:
            leaving = list(self._leaving)
            is_all = self._is_written and not self._incarnations
        for count, one in enumerate(leaving):
            if not is_all and not one.is_free(self._is_in_use, self.target, self.has_sent):
                return count > 0
            self._space.add(-one.end(self.outlet, self._forget))
        return bool(leaving)

    def _give_up_own(self) -> None:
        """Not before the writer has ended, which may take long on a disk that hangs.

        The next process would delete a spool under the writer's hands, or tell the end of an emitter
        whose hold it still settles.
        """
        if self._is_released and self._is_written:
            own = [*self._incarnations, *(leaving.incarnation for leaving in self._leaving)]
            for incarnation in own:
                incarnation.directory.release()

    def _forget(self, leaving: Leaving) -> None:
        with self._changed:
            self._leaving.remove(leaving)
            self._changed.notify_all()

    def _has_sent(self, target: dict[Incarnation, Place]) -> bool:
        current = set(self._incarnations)
        return all(i not in current or i.delivery.place >= place for i, place in target.items())

    def _failed(self, error: Exception) -> None:
        settings = self._settings
        self.failures += 1
        logger.warning(LogLine("send_failed", failures=self.failures, **failure(error)))
        doubled_s = max(settings.first_backoff_s, self._backoff_s * 2)
        self._backoff_s = min(settings.max_backoff_s, doubled_s)

    def _rest(self) -> None:
        """Wait for news or the next look around, or out the backoff; never beyond a stop."""
        is_backing_off = self._backoff_s > 0
        until = self.orphans.next_look
        if is_backing_off:
            until = self._monotonic() + self._backoff_s * self._jitter.uniform(0.5, 1.0)
        elif self._leaving:
            until = min(until, self._monotonic() + LEAVING_POLL_S)
        with self._changed:
            while is_backing_off or not self._has_news:
                if self._stop_at is not None:
                    until = min(until, self._stop_at)
                left = until - self._monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._has_news = False

    def _is_over(self) -> bool:
        with self._changed:
            if self._stop_at is None:
                return False
            has_nothing = not self._incarnations and not self._leaving
            return has_nothing or self._monotonic() >= self._stop_at
