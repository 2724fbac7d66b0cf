"""From a begun epoch to an open one: every emitter has re-asserted its holds or is retired, and SQL has
folded all that was on the log by then.

Usage that is on the log and not folded is in no emitter's memory and in no snapshot: opened before, its
money would be held by nobody.
"""

from __future__ import annotations

from collections.abc import Collection

from tollkeeper.enforcement.emitter_facts import log_retirement
from tollkeeper.enforcement.listing import EmitterList, epoch_of
from tollkeeper.enforcement.means import Means
from tollkeeper.events.ids import is_command_line
from tollkeeper.failpoints import failpoint
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.ledger.enforcing import EpochRow, emitters, folded_up_to, open_epoch
from tollkeeper.ledger.generations import live_generation
from tollkeeper.outbox.database import reading, writing

ANOTHER_LOOK = "another look"
"""What was seen isn't so any more."""


class Recovery:
    """One primary's, one epoch after the other; remembers timers and the ends that it read."""

    def __init__(self, means: Means, tag: str) -> None:
        self._means = means
        self._functions = means.functions
        self._tag = tag
        self._list = EmitterList(means.functions, tag)
        self._row: EpochRow | None = None
        self._since: dict[str, float] = {}
        self._logged: set[str] = set()
        self._ends: dict[int, int] | None = None
        self._is_folded = False

    def advance(self, row: EpochRow) -> str:
        """Do what can be done now; answers what is waited for, empty when the key is open.

        `row` is SQL's as it was read after the key, which is recovering in the same epoch.
        """
        if self._row is None or epoch_of(row) != epoch_of(self._row):
            self._forget()
        self._row = row
        if not self._list_from_sql(row):
            return ANOTHER_LOOK
        waiting = self._waiting(row.epoch)
        self._retire_silent(waiting)
        if waiting:
            self._ends = None  # what they have sent by the time they answer counts, too
            return f"{len(waiting)} emitters, {waiting[0]} among them"
        if row.phase == "recovering":
            if self._ends is None:
                self._ends = self._means.log.end_offsets()
                failpoint("enforcement.after_ends")
                if not self._list_from_sql(row):
                    return ANOTHER_LOOK
            if not self._is_folded:
                return "the fold"
            if not self._open_row(row.epoch):
                return ANOTHER_LOOK
        return self._open_key(row.epoch)

    def _forget(self) -> None:
        self._since, self._logged, self._ends, self._is_folded = {}, set(), None, False

    def _list_from_sql(self, row: EpochRow) -> bool:
        """Have Redis list SQL's emitters; False when it is in another epoch.

        From one snapshot with how far the fold is: what is folded by then, retirements among it, is
        listed by then.
        """
        with reading(self._means.engine) as connection:
            known = emitters(connection, live_generation(connection))
            is_folded = self._ends is not None and folded_up_to(connection, self._ends)
        self._is_folded = is_folded
        return self._list.tell(row, started=known.started, retired=known.retired)

    def _waiting(self, epoch: int) -> list[str]:
        """Who is listed and owes its answer; each has its time from when it was seen so first."""
        found = self._functions.run(encoding.emitters(tag=self._tag))
        owing = [one.emitter for one in found.listed if one.standing == "started"]
        for emitter in filter(is_command_line, owing):
            # Nobody lives under it, and its holds aren't re-asserted: there is no answer to wait for.
            self._functions.run(encoding.answer(epoch, emitter, tag=self._tag))
        waiting = [one for one in owing if not is_command_line(one)]
        now = self._means.monotonic()
        self._since = {one: self._since.get(one, now) for one in waiting}
        return waiting

    def _retire_silent(self, waiting: Collection[str]) -> None:
        for emitter in waiting:
            waited_s = self._means.monotonic() - self._since[emitter]
            if emitter in self._logged or waited_s < self._means.settings.recovery_s:
                continue
            log_retirement(
                self._means.log,
                emitter,
                "recovery",
                now=self._means.clock(),
                timeout_s=self._means.settings.append_timeout_s,
            )
            self._logged.add(emitter)
            self._means.observer.retired(emitter, "recovery")

    def _open_row(self, epoch: int) -> bool:
        """False when the epoch was raised meanwhile."""
        with writing(self._means.engine) as connection:
            is_open = open_epoch(connection, self._tag, epoch)
        failpoint("enforcement.after_row_opened")
        return is_open

    def _open_key(self, epoch: int) -> str:
        answer = self._functions.run(encoding.open_epoch(epoch, tag=self._tag))
        match answer:
            case a.Done():
                return ""
            case a.Waiting():
                return f"{len(answer.emitters)} emitters, {answer.emitters[0]} among them"
            case a.Untrusted():
                return ANOTHER_LOOK
