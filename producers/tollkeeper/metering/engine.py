"""What an emitter runs within one process: intake, writer thread, sender thread.

A forked child leaves its parent's engine alone and starts another. Must not know callers' usages.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import msgspec

from tollkeeper.log.port import Log
from tollkeeper.metering.intake import Intake
from tollkeeper.metering.reading import SpoolReader
from tollkeeper.metering.segments import Sync
from tollkeeper.metering.sender import Sender
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.space import Space
from tollkeeper.metering.writer import Writer

JOIN_GRACE_S = 0.2
"""Past the deadline, how long a thread may still take to end by itself."""


class EmitterStats(msgspec.Struct, frozen=True, kw_only=True):
    """What an emitter holds and has done in this process, for metrics."""

    waiting_records: int = 0
    """In memory, not yet durable, so not yet accepted."""
    spooled_records: int = 0
    """Durable and accepted, not yet acknowledged by the log."""
    spooled_bytes: int = 0
    """The size of the own segments, acknowledged records in them included."""
    oldest_unsent_age_s: float | None = None
    """How long the oldest accepted usage has waited for the log; None when none waits."""
    acknowledged: int = 0
    """Records that the log has taken, from dead processes' spools too."""
    refused: int = 0
    """Usages refused because the disk was full or failed."""
    damaged: int = 0
    """Stretches of unreadable bytes, moved to `damaged/`."""
    torn: int = 0
    """Writes that a crash cut off before they were accepted."""
    taken_over: int = 0
    """Dead processes' spools taken over."""
    send_failures: int = 0
    """Attempts to send that failed and were repeated."""


class Engine:
    """Two threads, started at once."""

    def __init__(
        self,
        open_log: Callable[[], Log],
        spool_dir: Path,
        settings: EmitterSettings,
        *,
        clock: Callable[[], int],
        sync: Sync = os.fdatasync,
    ) -> None:
        self._clock = clock
        self._space = Space(settings.max_spool_bytes)
        self.intake = Intake(settings.max_waiting_records)
        self.sender = Sender(open_log, spool_dir, settings, space=self._space, clock=clock)
        self._writer = Writer(
            spool_dir,
            settings,
            intake=self.intake,
            space=self._space,
            clock=clock,
            begun=self.sender.add,
            wrote=self.sender.wake,
            sync=sync,
        )
        self._writer.thread.start()
        self.sender.thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Wait until the log has acknowledged everything accepted so far."""
        return self.sender.wait_until_sent(self.sender.target(), monotonic() + timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Accept no more, send what is left, end the threads. Whether nothing is left."""
        deadline = monotonic() + timeout_s
        self.intake.close()
        self._writer.thread.join(max(0.0, deadline - monotonic()))
        self.sender.stop(deadline)
        self.sender.thread.join(max(0.0, deadline - monotonic()) + JOIN_GRACE_S)
        return not self._writer.thread.is_alive() and not self.sender.incarnations()

    def stats(self) -> EmitterStats:
        """A snapshot; its figures are read one after the other."""
        incarnations = self.sender.incarnations()
        unsent = [i for i in incarnations if i.delivery.place < i.durable()]
        return EmitterStats(
            waiting_records=self.intake.records,
            spooled_records=sum(i.written_records - i.sent_records for i in unsent),
            spooled_bytes=self._space.own_bytes,
            oldest_unsent_age_s=self._oldest_age_s(),
            acknowledged=self.sender.acknowledged,
            refused=self._writer.refused_records,
            damaged=self.sender.damaged,
            torn=self.sender.torn,
            taken_over=self.sender.taken_over,
            send_failures=self.sender.failures,
        )

    def _oldest_age_s(self) -> float | None:
        for incarnation in self.sender.incarnations():
            reader = SpoolReader(incarnation.directory.path, bound=incarnation.durable)
            try:
                piece = reader.read(incarnation.delivery.place, max_frames=1)
            except FileNotFoundError:
                continue  # sent and deleted meanwhile
            if piece.frames:
                return max(0, self._clock() - piece.frames[0].spooled_at) / 1_000_000
        return None
