"""What an emitter runs within one process: intake, writer thread, sender thread.

A forked child leaves its parent's engine alone and starts another. Must not know callers' usages.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from tollkeeper.log.port import Log
from tollkeeper.metering.intake import Asked, Intake
from tollkeeper.metering.reading import SpoolReader
from tollkeeper.metering.sender import Sender
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.space import Space
from tollkeeper.metering.surroundings import Surroundings
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
    leaving: int = 0
    """Own emitters that are sent but not yet gone: a hold of theirs is open, or the log wasn't told."""


class Engine:
    """Two threads, started at once; without them, the same steps on the threads of the callers."""

    def __init__(
        self,
        open_log: Callable[[], Log],
        spool_dir: Path,
        settings: EmitterSettings,
        *,
        surroundings: Surroundings,
        is_in_use: Callable[[str], bool],
    ) -> None:
        self.exit_timeout_s = settings.exit_timeout_s
        self._surroundings = surroundings
        now = surroundings.monotonic
        self._space = Space(settings.max_spool_bytes, monotonic=now)
        self._intake = Intake(settings.max_waiting_records, monotonic=now)
        self.sender = Sender(
            open_log,
            spool_dir,
            settings,
            space=self._space,
            surroundings=surroundings,
            is_in_use=is_in_use,
        )
        self._writer = Writer(
            spool_dir,
            settings,
            intake=self._intake,
            space=self._space,
            sender=self.sender,
            surroundings=surroundings,
        )
        if surroundings.has_threads:
            self._writer.thread.start()
            self.sender.thread.start()

    @property
    def identity(self) -> str | None:
        """The current emitter's id, once it is announced."""
        return self._writer.identity

    def put(self, asked: Asked) -> None:
        """Hand it in, waiting for room until its deadline. SpoolFull: nothing was accepted."""
        self._intake.put(asked)
        self._write_without_threads()

    def offer(self, asked: Asked, on_room: Callable[[], None]) -> bool:
        """Hand it in if there is room; `on_room` is then called once on a change."""
        is_taken = self._intake.offer(asked, on_room)
        self._write_without_threads()
        return is_taken

    def forget(self, asked: Asked) -> None:
        """No longer call back for what wasn't taken."""
        self._intake.forget(asked)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the log has acknowledged everything accepted so far."""
        target = self.sender.target()
        if self._surroundings.has_threads:
            deadline = self._surroundings.monotonic() + timeout_s
            return self.sender.wait_until_sent(target, deadline)
        while not self.sender.has_sent(target) and self.sender.step():
            continue  # ends: nothing is spooled meanwhile, and a step that moves nothing ends it
        return self.sender.has_sent(target)

    def close(self, timeout_s: float) -> bool:
        """Accept no more, send what is left, end the threads. Whether nothing is left."""
        self._intake.close()
        if self._surroundings.has_threads:
            return self._end_threads(self._surroundings.monotonic() + timeout_s)
        self._write_without_threads()
        self._writer.finish()
        while not self.sender.is_empty() and self.sender.step():
            continue  # ends: nothing is spooled any more, and a step that moves nothing ends it
        is_empty = self.sender.is_empty()
        self.sender.release()
        return is_empty

    def abandon(self) -> None:
        """Let go of all files as they are, as the process's death would; only without threads."""
        self._writer.abandon()
        self.sender.written()
        self.sender.release()

    def stats(self) -> EmitterStats:
        """A snapshot; its figures are read one after the other."""
        incarnations = self.sender.incarnations()
        unsent = [i for i in incarnations if i.delivery.place < i.durable()]
        return EmitterStats(
            waiting_records=self._intake.records,
            spooled_records=sum(i.written_records - i.sent_records for i in unsent),
            spooled_bytes=self._space.own_bytes,
            oldest_unsent_age_s=self._oldest_age_s(),
            acknowledged=self.sender.outlet.acknowledged,
            refused=self._writer.refused_records,
            damaged=self.sender.outlet.damaged,
            torn=self.sender.outlet.torn,
            taken_over=self.sender.orphans.taken_over,
            send_failures=self.sender.failures,
            leaving=len(self.sender.leaving()),
        )

    def _end_threads(self, deadline: float) -> bool:
        now = self._surroundings.monotonic
        self._writer.thread.join(max(0.0, deadline - now()))
        self.sender.stop(deadline)
        self.sender.thread.join(max(0.0, deadline - now()) + JOIN_GRACE_S)
        return not self._writer.thread.is_alive() and self.sender.is_empty()

    def _write_without_threads(self) -> None:
        if not self._surroundings.has_threads:
            while self._writer.step():
                continue  # ends: the intake is bounded, and only this thread adds to it

    def _oldest_age_s(self) -> float | None:
        for incarnation in self.sender.incarnations():
            reader = SpoolReader(incarnation.directory.path, bound=incarnation.durable)
            try:
                piece = reader.read(incarnation.delivery.place, max_frames=1)
            except FileNotFoundError:
                continue  # sent and deleted meanwhile
            if piece.frames:
                return max(0, self._surroundings.clock() - piece.frames[0].spooled_at) / 1_000_000
        return None
