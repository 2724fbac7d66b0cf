"""Empties the spools of dead processes at once, and looks for one event in any spool.

Must not know a living emitter.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic

import msgspec

from tollkeeper.errors import Halted, InvalidInput, LogUnavailable
from tollkeeper.events.codec import decode
from tollkeeper.events.ids import now_micros
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.log.port import Log
from tollkeeper.logline import LogLine, failure
from tollkeeper.metering.delivery import Delivery
from tollkeeper.metering.frames import Frame
from tollkeeper.metering.orphans import end_orphan
from tollkeeper.metering.outlet import Outlet
from tollkeeper.metering.reading import SpoolReader
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.spool import (
    SpoolDirectory,
    emitter_directories,
    start_of,
    sweep_unfinished,
)

logger = logging.getLogger(__name__)

DRAIN = "drain"
"""Who retires the emitters whose spools are drained."""
MAX_DIRECTORIES = 100_000
"""How many directories one drain takes at most: new ones may keep appearing while it runs."""


class DrainResult(msgspec.Struct, frozen=True):
    """What `drain_spools` did. `left` counts the records that are still spooled."""

    sent: int = 0
    damaged: int = 0
    torn: int = 0
    left: int = 0
    owned: int = 0
    """Directories left alone because their emitter lives: it sends them itself."""
    orphaned: int = 0
    """How many of `left` no living emitter will send."""


class SpooledUsage(msgspec.Struct, frozen=True):
    """A usage that is accepted and not yet acknowledged by the log."""

    usage: UsageRecorded
    spooled_at: int
    segment: int
    position: int


class _Drain:
    def __init__(
        self,
        outlet: Outlet,
        settings: EmitterSettings,
        deadline: float,
        progress: Callable[[int], None] | None,
        stop: threading.Event,
    ) -> None:
        self._outlet = outlet
        self._settings = settings
        self._deadline = deadline
        self._progress = progress
        self._jitter = random.Random(deadline)
        self._stop = stop

    def empty_all(self, paths: Iterable[Path]) -> list[Path]:
        """Empty what can be taken; answers those whose end waits for others (see `end_orphan`)."""
        waiting = []
        for _count, path in zip(range(MAX_DIRECTORIES), paths, strict=False):
            try:
                directory = SpoolDirectory.take(path)
            except OSError as error:  # another user's, perhaps: what it holds is left, and counted
                logger.warning(LogLine("spool_not_taken_over", emitter=path.name, **failure(error)))
                continue
            if directory is not None:
                try:
                    if not self._empty(directory):
                        waiting.append(path)
                finally:
                    directory.release()
        return waiting

    def _empty(self, directory: SpoolDirectory) -> bool:
        """Send all of a directory, end its emitter and delete it; what the deadline cuts off stays.

        False: all is sent, but its end waits for others.
        """
        delivery = Delivery(directory, self._settings, bound=lambda: None)
        backoff_s = self._settings.first_backoff_s
        while monotonic() < self._deadline and not self._stop.is_set():
            try:
                step = self._outlet.send(delivery)
                if step.is_at_end:
                    return end_orphan(directory, self._outlet, actor=DRAIN)
            except LogUnavailable as error:
                logger.warning(LogLine("drain_waits", emitter=directory.emitter, **failure(error)))
                self._wait(backoff_s)
                backoff_s = min(self._settings.max_backoff_s, backoff_s * 2)
                continue
            backoff_s = self._settings.first_backoff_s
            if self._progress is not None and step.sent:
                self._progress(step.sent)
        return True

    def _wait(self, backoff_s: float) -> None:
        left = self._deadline - monotonic()
        self._stop.wait(max(0.0, min(left, backoff_s * self._jitter.uniform(0.5, 1.0))))


def drain_spools(
    spool_dir: Path,
    log: Log,
    *,
    timeout_s: float,
    progress: Callable[[int], None] | None = None,
    clock: Callable[[], int] = now_micros,
    settings: EmitterSettings | None = None,
    stop: threading.Event | None = None,
) -> DrainResult:
    """Send what dead emitters left, until all is sent, `timeout_s` has passed or `stop` is set.

    The end of those that may have holds is told to the log. `progress` is told the records of each
    batch that the log took. A spool whose emitter lives is its emitter's business. OSError when the
    disk fails.
    """
    settings = settings or EmitterSettings()
    deadline = monotonic() + timeout_s
    outlet = Outlet(lambda: log, settings, clock=clock)
    drain = _Drain(outlet, settings, deadline, progress, stop or threading.Event())
    sweep_unfinished(spool_dir)
    waiting = drain.empty_all(emitter_directories(spool_dir))
    drain.empty_all(reversed(waiting))  # the later ones first: the earlier ones wait for them
    left, owned, orphaned = _left(spool_dir)
    return DrainResult(outlet.acknowledged, outlet.damaged, outlet.torn, left, owned, orphaned)


def spooled_frames(path: Path) -> Iterator[tuple[int, int, Frame]]:
    """The unsent frames of one emitter's directory: segment, position and frame; takes no lock.

    What is being written or deleted meanwhile, or belongs to another user, may be missing.
    """
    reader = SpoolReader(path, bound=lambda: None)
    try:
        place = start_of(path)
    except PermissionError as error:
        logger.warning(LogLine("spool_not_read", emitter=path.name, **failure(error)))
        return
    while True:  # ends: every turn goes on, and the files end
        try:
            piece = reader.read(place)
        except FileNotFoundError:
            return
        except PermissionError as error:
            logger.warning(LogLine("spool_not_read", emitter=path.name, **failure(error)))
            return
        if piece.next == place:
            return
        position = place.position
        for frame in piece.frames:
            yield place.segment, position, frame
            position = frame.end
        place = piece.next


def find_spooled(spool_dir: Path, organization: str, event_id: str) -> SpooledUsage | None:
    """The event, if it is accepted and not yet acknowledged by the log."""
    key = organization.encode()
    needle = event_id.encode()
    for path in emitter_directories(spool_dir):
        for segment, position, frame in spooled_frames(path):
            if frame.key != key or needle not in frame.value:
                continue
            try:
                event = decode(frame.value)
            except (InvalidInput, Halted):
                continue  # written by another release: not ours to judge
            if isinstance(event, UsageRecorded) and event.event_id == event_id:
                return SpooledUsage(event, frame.spooled_at, segment, position)
    return None


def _left(spool_dir: Path) -> tuple[int, int, int]:
    records = owned = orphaned = 0
    for path in emitter_directories(spool_dir):
        spooled = sum(1 for _frame in spooled_frames(path))
        records += spooled
        try:
            directory = SpoolDirectory.take(path)
        except OSError:
            directory = None  # another user's: not ours to send
        if directory is None:
            owned += 1
        else:
            directory.release()
            orphaned += spooled
    return records, owned, orphaned
