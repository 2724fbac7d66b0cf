"""The thread that makes usages durable: collects what callers hand in, one write and sync a group.

Must not know the log.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tollkeeper.errors import InvalidEvent, SpoolFailed, SpoolFull
from tollkeeper.metering.frames import framed_bytes
from tollkeeper.metering.incarnation import Group, Incarnation
from tollkeeper.metering.intake import Entry, Intake
from tollkeeper.metering.segments import Sync
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.space import Space

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Writer:
    """Takes entries from the intake and answers each: durable, invalid, full or failed."""

    def __init__(
        self,
        spool_dir: Path,
        settings: EmitterSettings,
        *,
        intake: Intake,
        space: Space,
        clock: Callable[[], int],
        begun: Callable[[Incarnation], None],
        wrote: Callable[[], None],
        sync: Sync = os.fdatasync,
    ) -> None:
        self._spool_dir = spool_dir
        self._settings = settings
        self._intake = intake
        self._space = space
        self._clock = clock
        self._begun = begun
        self._wrote = wrote
        self._sync = sync
        self._incarnation: Incarnation | None = None
        self.refused_records = 0
        self.thread = threading.Thread(target=self._run, name="tollkeeper-spool", daemon=True)

    def _run(self) -> None:
        try:
            while taken := self._intake.take(self._settings.max_group_records):
                self._answer(taken)
        finally:
            self._intake.close()
            if self._incarnation is not None:
                self._incarnation.retire()
                self._wrote()

    def _answer(self, taken: Sequence[Entry]) -> None:
        entries = [e for e in taken if e.future.set_running_or_notify_cancel()]
        try:
            self._commit(entries)
        finally:
            self._fail(entries, SpoolFailed("the writer stopped: a bug, see its traceback"))
            self._intake.done(taken)

    def _commit(self, entries: Sequence[Entry]) -> None:
        try:
            incarnation = self._current()
        except OSError as error:
            self._fail(entries, _refusal(error))
            return
        group, valid = self._encode(incarnation, entries)
        if not valid:
            return
        size = framed_bytes(group.entries)
        if not self._space.has_room_for(size) and len(valid) > 1:
            for entry in valid:  # smaller pieces may fit, and each has its own deadline
                self._commit([entry])
        elif not self._space.wait_for(size, valid[0].deadline):
            self._fail(valid, self._full(size))
        else:
            self._append(incarnation, group, valid)

    def _current(self) -> Incarnation:
        if self._incarnation is None:
            self._incarnation = Incarnation(self._spool_dir, self._settings, sync=self._sync)
            self._begun(self._incarnation)
        return self._incarnation

    def _encode(
        self, incarnation: Incarnation, entries: Sequence[Entry]
    ) -> tuple[Group, list[Entry]]:
        group = Group()
        valid: list[Entry] = []
        for entry in entries:
            try:
                incarnation.encode(entry.usages, group)
            except InvalidEvent as error:
                entry.future.set_exception(error)
            else:
                valid.append(entry)
        return group, valid

    def _append(self, incarnation: Incarnation, group: Group, entries: Sequence[Entry]) -> None:
        try:
            self._space.add(incarnation.append(group, self._clock()))
        except OSError as error:
            if incarnation.writer.is_broken:
                incarnation.retire()
                self._incarnation = None
            self._fail(entries, _refusal(error))
        else:
            self._wrote()
            for entry in entries:
                entry.future.set_result(None)

    def _fail(self, entries: Sequence[Entry], error: SpoolFull | SpoolFailed) -> None:
        for entry in entries:
            if not entry.future.done():
                self.refused_records += len(entry.usages)
                entry.future.set_exception(error)

    def _full(self, size: int) -> SpoolFull:
        space = self._space
        return SpoolFull(
            f"the spool holds {space.used_bytes} of max_spool_bytes={space.max_bytes} and {size} "
            "more don't fit: the log has been away for too long; nothing was accepted"
        )


def _refusal(error: OSError) -> SpoolFull | SpoolFailed:
    if error.errno in _FULL:
        return SpoolFull(f"the disk takes no more ({error.strerror}): nothing was accepted")
    return SpoolFailed(
        f"the disk didn't confirm ({error.strerror or error}): emit the usage again by its id"
    )
