"""Runs jobs until a signal or until one of them breaks, and ends all of them within a bound.

What doesn't end in time is left behind with the process: that is as safe as a kill anywhere, since a
batch is one transaction and everything else can be done twice. Must not know what the jobs do.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from time import monotonic
from types import FrameType

import msgspec

from tollkeeper.errors import Misuse
from tollkeeper.logline import LogLine, failure

logger = logging.getLogger(__name__)

STOP_WITHIN_S = 7.0
"""How long jobs have to finish what they are at: an idle Kafka poll or commit needs up to 5 s."""
LEAVE_WITHIN_S = 1.5
"""How long leaving the group may take for a job that hangs; together below the 10 s of most supervisors."""

Job = Callable[[threading.Event], object]
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """A signal arrived before the jobs were started: nothing is to be finished."""


class Ended(msgspec.Struct, frozen=True):
    """How the jobs ended: the first error of one, and which didn't end in time."""

    failure: BaseException | None
    abandoned: tuple[str, ...]


class Signals:
    """SIGTERM and SIGINT: the first one stops, the second ends at once.

    Before `is_awaited` the first raises Stopped where the program stands, so that also a start that
    waits for a service ends.
    """

    is_awaited = False

    def __init__(self) -> None:
        self.stop = threading.Event()
        """Set by the first signal, once it is awaited. The main thread must never wait for it: a handler
        that sets it meanwhile would wait for ever."""
        # Its put may interrupt its own get, which no lock, and so no Event, can promise.
        self._wakeups: SimpleQueue[str] = SimpleQueue()
        self._seen = 0

    def wake(self, cause: str) -> None:
        """End the waiting, from any thread."""
        self._wakeups.put(cause)

    def wait(self) -> str:
        """Wait for a signal or for somebody to `wake`; answers the cause."""
        return self._wakeups.get()

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """The handler."""
        self._seen += 1
        if self._seen > 1:
            raise KeyboardInterrupt
        if not self.is_awaited:
            raise Stopped
        self.stop.set()
        self._wakeups.put(signal.Signals(number).name)


@contextmanager
def signals_caught() -> Iterator[Signals]:
    """Handle SIGTERM and SIGINT meanwhile. A process that is number 1 of a container needs it from the
    start: the kernel drops what it doesn't handle."""
    signals = Signals()
    before = {number: signal.signal(number, signals.on_signal) for number in SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_jobs(
    jobs: Mapping[str, Job],
    signals: Signals,
    *,
    died: Callable[[str, BaseException], None],
    leave: Callable[[], None],
    stop_within_s: float = STOP_WITHIN_S,
) -> Ended:
    """Run every job in a thread until a signal, or until one ends; then stop all of them.

    `died` hears of an error that a job didn't handle. `leave` is called for jobs that don't stop: give
    to others what they hold.
    """
    stop = signals.stop
    failures: list[BaseException] = []

    def work(name: str, job: Job) -> None:
        try:
            job(stop)
            if not stop.is_set():
                raise Misuse(f"the job {name} ended, and nobody told it to")
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must end the process
            failures.append(error)
            died(name, error)
        finally:
            signals.wake(f"{name} ended")

    threads = {
        name: threading.Thread(target=work, args=(name, job), name=name, daemon=True)
        for name, job in jobs.items()
    }
    signals.is_awaited = True
    for thread in threads.values():
        thread.start()
    cause = signals.wait()
    logger.info(LogLine("stopping", cause=cause))
    stop.set()
    abandoned = _join(threads, stop_within_s)
    if abandoned:
        logger.warning(LogLine("jobs_abandoned", jobs=",".join(abandoned)))
        _within(LEAVE_WITHIN_S, leave)
    return Ended(failures[0] if failures else None, abandoned)


def _join(threads: Mapping[str, threading.Thread], within_s: float) -> tuple[str, ...]:
    deadline = monotonic() + within_s
    for thread in threads.values():
        thread.join(max(0.0, deadline - monotonic()))
    return tuple(name for name, thread in threads.items() if thread.is_alive())


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do it, as long as it takes no longer; the process ends either way."""

    def try_it() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a client in use by a hung thread may raise anything
            logger.warning(LogLine("leaving_failed", **failure(error)))

    thread = threading.Thread(target=try_it, name="leave", daemon=True)
    thread.start()
    thread.join(seconds)
