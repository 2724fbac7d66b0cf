"""The spools of dead processes: takes them over, sends what is in them, and tells the log of their end.

Must not know the living emitters of this process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from tollkeeper.failpoints import failpoint
from tollkeeper.logline import LogLine, failure
from tollkeeper.metering.delivery import Delivery
from tollkeeper.metering.outlet import Outlet
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.spool import (
    SpoolDirectory,
    emitter_directories,
    has_follower,
    sweep_unfinished,
)

logger = logging.getLogger(__name__)

MAX_ORPHANS = 4
"""Dead processes' directories held at once: others in this spool directory can take the rest."""


class Orphans:
    """The directories whose locks this process took, one being sent at a time, the oldest first."""

    def __init__(
        self,
        spool_dir: Path,
        settings: EmitterSettings,
        *,
        outlet: Outlet,
        monotonic: Callable[[], float],
    ) -> None:
        self._spool_dir = spool_dir
        self._settings = settings
        self._outlet = outlet
        self._monotonic = monotonic
        self._held: list[Delivery] = []
        self._sent: set[str] = set()
        """Those that are sent, and may be retired once those that came after them are."""
        self.next_look = 0.0
        """When to look around again, on the monotonic clock."""
        self.taken_over = 0

    def look_around(self) -> None:
        """Take over what dead processes left."""
        self.next_look = self._monotonic() + self._settings.takeover_interval_s
        sweep_unfinished(self._spool_dir)
        paths = list(emitter_directories(self._spool_dir))
        self._sent &= {path.name for path in paths}
        for path in paths:
            if len(self._held) >= MAX_ORPHANS:
                break
            if path.name not in self._sent or not has_follower(path):
                self._take(path)

    def send_next(self, actor: str) -> bool:
        """Send a batch of the first one; whether there was any. `actor` is who retires it."""
        for orphan in self._held[:1]:
            try:
                if self._outlet.send(orphan).is_at_end:
                    self._end(orphan, actor)
            except OSError:
                self._let_go(orphan)  # its disk fails: the next look around tries again
                raise
            return True
        return False

    def release(self) -> None:
        """Give them all up as they are."""
        for orphan in list(self._held):
            self._let_go(orphan)

    def _take(self, path: Path) -> None:
        try:
            directory = SpoolDirectory.take(path)
        except OSError as error:
            logger.warning(LogLine("spool_not_taken_over", emitter=path.name, **failure(error)))
            return
        if directory is None:
            return
        self._held.append(Delivery(directory, self._settings, bound=lambda: None))
        failpoint("takeover.after_lock")
        if path.name not in self._sent:
            logger.info(LogLine("spool_taken_over", emitter=directory.emitter))
            self.taken_over += 1

    def _end(self, orphan: Delivery, actor: str) -> None:
        if end_orphan(orphan.directory, self._outlet, actor=actor):
            self._held.remove(orphan)
            self.next_look = min(self.next_look, self._monotonic())
        else:
            self._sent.add(orphan.directory.emitter)
            self._let_go(orphan)

    def _let_go(self, orphan: Delivery) -> None:
        self._held.remove(orphan)
        orphan.directory.release()


def end_orphan(directory: SpoolDirectory, outlet: Outlet, *, actor: str) -> bool:
    """Retire an emitter all of whose spool is sent, then delete that.

    False, with nothing done: usage for its holds may still stand in the spool of one that came
    after it in the same process, so that its end has to wait.
    """
    if directory.is_announced():
        if has_follower(directory.path):
            return False
        directory.empty()  # a disk that refuses this would have the end told again and again
        outlet.tell_retired(directory.emitter, actor=actor, reason="taken_over")
    directory.remove()
    return True
