"""The background jobs' work, done by a command itself where nobody else may do it: on the embedded default.

It is the same code as theirs, so that a `tollkeeper run` beside or after it finds nothing else than it
would have done. Where log or ledger are shared, they do it, and a command only asks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tollkeeper.app.jobs import catch_up, lag_of
from tollkeeper.app.wiring import App
from tollkeeper.enforcement.bundle import Enforcement
from tollkeeper.enforcement.epochs import PrimaryState
from tollkeeper.errors import GateUnavailable
from tollkeeper.pipeline.settings import GROUP, PipelineSettings

OPEN_WITHIN_S = 60.0
"""A new epoch waits for old leases, then up to 30 s for emitters that don't answer, then for the fold."""
FOLDED_WITHIN_S = 10.0
"""Longer than the session of a consumer that was killed; a backlog is waited for no longer."""
PAUSE_S = 0.05
TELLING_ROUNDS = 100
QUICK = PipelineSettings(poll_timeout_s=0.02)
"""Somebody waits for the answer, and is alone with the log."""

Said = Callable[[str], None]


class Inline:
    """Steps of the jobs, taken by the thread that asks."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._stop = threading.Event()
        self.enforcement: Enforcement = app.enforcing.started()
        self.is_ours = app.settings.is_alone

    def open(self, tick: Callable[[], None], *, said: Said) -> None:
        """Have every primary open, and the log folded; `tick` answers for this command's own emitter.

        `said` hears what is waited for. Raises GateUnavailable after OPEN_WITHIN_S. Where others keep the
        gate this does nothing.
        """
        if not self.is_ours:
            tick()
            return
        if not self._app.log.owners(GROUP):
            self._catch_up()  # what dead processes left is sent, and they are retired
        until = time.monotonic() + OPEN_WITHIN_S
        folded_until = time.monotonic() + FOLDED_WITHIN_S
        heard = ""
        while True:
            waits = [one for one in self.step() if one.state != "open"]
            tick()
            # What this home's commands decided before counts; others may fold it, or have just died.
            is_folded = not lag_of(self._app) or time.monotonic() >= folded_until
            if not waits and is_folded:
                return
            if time.monotonic() >= until:
                raise GateUnavailable(f"the gate doesn't open: {_waiting(waits)}")
            if _waiting(waits) != heard and any(one.waits_for for one in waits):
                heard = _waiting(waits)
                said(heard)
            time.sleep(PAUSE_S)

    def step(self) -> list[PrimaryState]:
        """One round of all that keeps the gate, folding included; where every primary is then."""
        if not self.is_ours:
            return []
        self.fold()
        states = self.enforcement.keep()
        for _ in range(TELLING_ROUNDS):
            if self.enforcement.applier.tick():
                break
        self.enforcement.publish()
        self.enforcement.retire()
        self.enforcement.warm()
        return states

    def fold(self) -> None:
        """Fold what waits on the log, unless a process is there that does."""
        if lag_of(self._app) and not self._app.log.owners(GROUP):
            self._catch_up()

    def _catch_up(self) -> None:
        catch_up(self._app, self._stop, progress=lambda _records: None, settings=QUICK)


def _waiting(states: list[PrimaryState]) -> str:
    return "; ".join(
        f"epoch {one.epoch} is {one.state}"
        + (f", waiting for {one.waits_for}" if one.waits_for else "")
        for one in states
    )
