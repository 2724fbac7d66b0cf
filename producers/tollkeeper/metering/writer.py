"""The thread that makes usages durable: collects what callers hand in, one write and sync a group.

All it does is done in `step`; the thread is a loop around that. Must not know the log.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from tollkeeper.errors import InvalidEvent, SpoolFailed, SpoolFull
from tollkeeper.metering.frames import framed_bytes
from tollkeeper.metering.incarnation import Group, Incarnation
from tollkeeper.metering.intake import Announce, Asked, BeginAnew, Entry, Intake
from tollkeeper.metering.sender import Sender
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.space import Space
from tollkeeper.metering.surroundings import Surroundings

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Writer:
    """Takes what was asked from the intake and answers each: done, invalid, full or failed."""

    def __init__(
        self,
        spool_dir: Path,
        settings: EmitterSettings,
        *,
        intake: Intake,
        space: Space,
        sender: Sender,
        surroundings: Surroundings,
    ) -> None:
        self._spool_dir = spool_dir
        self._settings = settings
        self._intake = intake
        self._space = space
        self._sender = sender
        self._surroundings = surroundings
        self._incarnation: Incarnation | None = None
        self.identity: str | None = None
        """The current incarnation's id if it is announced; taken away before that one is retired."""
        self.refused_records = 0
        self.thread = threading.Thread(target=self._run, name="tollkeeper-spool", daemon=True)

    def step(self) -> bool:
        """Do what was asked, one group of it, without waiting for more; whether there was any."""
        taken = self._intake.take(self._settings.max_group_records)
        if taken:
            self._answer(taken)
        return bool(taken)

    def finish(self) -> None:
        """Write no more: what is durable is still sent."""
        self._intake.close()
        if self._incarnation is not None:
            self._retire(self._incarnation)
        self._sender.written()

    def abandon(self) -> None:
        """Let go of the files as they are, as the process's death would."""
        if self._incarnation is not None:
            self._incarnation.writer.close()

    def _run(self) -> None:
        try:
            while self._intake.wait():
                self.step()
        finally:
            self.finish()

    def _answer(self, taken: Sequence[Asked]) -> None:
        running = [asked for asked in taken if asked.future.set_running_or_notify_cancel()]
        try:
            entries: list[Entry] = []
            for asked in running:
                match asked:
                    case Entry():
                        entries.append(asked)
                    case Announce():
                        self._announce(asked)
                    case BeginAnew():
                        self._begin_anew(asked)
                    case _:
                        assert_never(asked)
            if entries:
                self._commit(entries)
        finally:
            self._fail(running, SpoolFailed("the writer stopped: a bug, see its traceback"))
            self._intake.done(taken)

    def _announce(self, asked: Announce) -> None:
        try:
            incarnation = self._current()
            incarnation.announce()
        except OSError as error:
            self._fail([asked], self._refusal(error, "the emitter isn't announced"))
        else:
            self.identity = incarnation.emitter
            self._sender.wake()
            asked.future.set_result(incarnation.emitter)

    def _begin_anew(self, asked: BeginAnew) -> None:
        incarnation = self._incarnation
        is_current = incarnation is not None and incarnation.emitter == asked.emitter
        if incarnation is not None and is_current:
            self._retire(incarnation)
        asked.future.set_result(is_current)

    def _commit(self, entries: Sequence[Entry]) -> None:
        try:
            incarnation = self._current()
        except OSError as error:
            self._fail(entries, self._refusal(error, "emit the usage again by its id"))
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
            self._incarnation = Incarnation(
                self._spool_dir,
                self._settings,
                predecessor=self._sender.last_announced(),
                new_id=self._surroundings.new_emitter_id,
                sync=self._surroundings.sync,
            )
            self._sender.add(self._incarnation)
        return self._incarnation

    def _retire(self, incarnation: Incarnation) -> None:
        # In this order: who registers a hold under an identity and then still reads the same one
        # has registered it before the sender asks whether any is open.
        self.identity = None
        self._incarnation = None
        incarnation.retire()
        self._sender.wake()

    def _encode(
        self, incarnation: Incarnation, entries: Sequence[Entry]
    ) -> tuple[Group, list[Entry]]:
        group = Group()
        valid: list[Entry] = []
        for entry in entries:
            try:
                incarnation.encode(entry.usages, group)
                incarnation.encode_facts(entry.facts, group)
            except InvalidEvent as error:
                entry.future.set_exception(error)
            else:
                valid.append(entry)
        return group, valid

    def _append(self, incarnation: Incarnation, group: Group, entries: Sequence[Entry]) -> None:
        try:
            self._space.add(incarnation.append(group, self._surroundings.clock()))
        except OSError as error:
            if incarnation.writer.is_broken:
                self._retire(incarnation)
            self._fail(entries, self._refusal(error, "emit the usage again by its id"))
        else:
            self._sender.wake()
            for entry in entries:
                entry.future.set_result(None)

    def _fail(self, asked: Sequence[Asked], error: SpoolFull | SpoolFailed) -> None:
        for one in asked:
            if not one.future.done():
                self.refused_records += one.records
                one.future.set_exception(error)

    def _refusal(self, error: OSError, advice: str) -> SpoolFull | SpoolFailed:
        folder, why = self._spool_dir, error.strerror or str(error)
        if error.errno in _FULL:
            return SpoolFull(f"the disk of {folder} takes no more ({why}): nothing was accepted")
        return SpoolFailed(
            f"the spool {folder} can't be made or written ({why}): {advice}; if it stays so, let this "
            "process write there, or name another TOLLKEEPER_HOME"
        )

    def _full(self, size: int) -> SpoolFull:
        space = self._space
        return SpoolFull(
            f"the spool holds {space.used_bytes} of max_spool_bytes={space.max_bytes} and {size} "
            "more don't fit: the log has been away for too long; nothing was accepted"
        )
