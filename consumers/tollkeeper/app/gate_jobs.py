"""What keeps the gate in the background: its epochs, warming, and what else has its time. One loop each.

Where the gate is embedded and nobody has needed it yet, they wait for it to be there. Who keeps the gate
waits for no other service than it must: a lease that isn't renewed in time stops everybody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from tollkeeper.app.wiring import App
from tollkeeper.enforcement.bundle import Enforcement
from tollkeeper.enforcement.epochs import PrimaryState
from tollkeeper.errors import GateUnavailable, Unavailable
from tollkeeper.gate.encoding import asked_to_warm

if TYPE_CHECKING:  # commands do without the metrics' import
    from tollkeeper.app.watch import Watch

APPLY, KEEP, WARM, TEND = "apply", "keep", "warm", "tend"
KEEP_PAUSE_S = 0.4
"""Five times within the default lease."""
APPLY_PAUSE_S = 0.5
CATCH_UP_PAUSE_S = 0.02
TEND_PAUSE_S = 1.0
RETRY_PAUSE_S = 0.5
ABSENT_PAUSE_S = 0.2
"""How soon an embedded gate is found that somebody started."""
BELL_S = 0.5
BELL_IN_CLUSTER_S = 0.02
"""Primaries are listened to in turn: an organization's first hold waits for so long times their number."""
ROUNDS_AT_ONCE = 100
MOST_ASKED = 1_000
MOST_PRIMARIES = 64

Work = Callable[[Enforcement, threading.Event], None]


class Keepers:
    """A tick at a time of each primary, none of which waits for another's.

    One that doesn't answer takes as long as a lease: the others would stop granting, too.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MOST_PRIMARIES, thread_name_prefix=KEEP)
        self._ticks: dict[str, Future[PrimaryState]] = {}

    def tick(self, enforcement: Enforcement) -> None:
        """Begin one wherever the last has ended. Raises what one of those raised."""
        tags = enforcement.means.functions.tags()
        if len(tags) == 1:
            enforcement.keep()
            return
        failures: list[BaseException] = []
        for tag in tags:
            last = self._ticks.get(tag)
            if last is None or last.done():
                if last is not None and (failure := last.exception()) is not None:
                    failures.append(failure)
                self._ticks[tag] = self._pool.submit(enforcement.keeper(tag).tick)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def apply(app: App, watch: Watch, stop: threading.Event) -> None:
    """Tell Redis what couldn't be told right after the fold's commit."""

    def round_(enforcement: Enforcement, stop: threading.Event) -> None:
        is_whole = enforcement.applier.tick()
        stop.wait(APPLY_PAUSE_S if is_whole else CATCH_UP_PAUSE_S)

    _repeat(app, watch, stop, APPLY, round_)


def keep(app: App, watch: Watch, stop: threading.Event) -> None:
    """Renew every primary's lease; begin a new epoch when its server isn't the same any more."""

    keepers = Keepers()

    def round_(enforcement: Enforcement, stop: threading.Event) -> None:
        keepers.tick(enforcement)
        stop.wait(KEEP_PAUSE_S)

    try:
        _repeat(app, watch, stop, KEEP, round_)
    finally:
        keepers.close()


def warm(app: App, watch: Watch, stop: threading.Event) -> None:
    """Make organizations known to the gate as soon as somebody asks for them."""

    def round_(enforcement: Enforcement, stop: threading.Event) -> None:
        for _ in range(ROUNDS_AT_ONCE):
            if stop.is_set() or not enforcement.warm():
                break
        functions = enforcement.means.functions
        tags = functions.tags()
        for tag in tags:
            functions.wait_until_asked(BELL_S if len(tags) == 1 else BELL_IN_CLUSTER_S, tag=tag)

    _repeat(app, watch, stop, WARM, round_)


def tend(app: App, watch: Watch, stop: threading.Event) -> None:
    """Tell product services of prices and policies; retire emitters that nobody sees."""

    def round_(enforcement: Enforcement, stop: threading.Event) -> None:
        enforcement.publish()
        enforcement.retire()
        functions = enforcement.means.functions
        for tag in functions.tags():
            watch.gate.asked(tag, len(functions.run(asked_to_warm(most=MOST_ASKED, tag=tag))))
        stop.wait(TEND_PAUSE_S)

    _repeat(app, watch, stop, TEND, round_)


def _repeat(app: App, watch: Watch, stop: threading.Event, job: str, work: Work) -> None:
    """Rounds until told to stop; a service that is away is waited for."""
    while not stop.is_set():
        try:
            enforcement = app.enforcing.running()
            if enforcement is None:
                stop.wait(ABSENT_PAUSE_S)
            else:
                work(enforcement, stop)
        except Unavailable as away:
            watch.waits(job, away)
            if isinstance(away, GateUnavailable):
                app.enforcing.reconnect()
                _revive(app, watch, job)
            stop.wait(RETRY_PAUSE_S)
        else:
            watch.turned(job)


def _revive(app: App, watch: Watch, job: str) -> None:
    """Start an embedded gate again that was there and has ended."""
    if app.settings.redis.is_embedded:
        try:
            app.enforcing.started()
        except GateUnavailable as away:
            watch.waits(job, away)
