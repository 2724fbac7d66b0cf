"""The bounded queue between the callers of `emit` and the writer.

Must not know the disk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import monotonic

import msgspec

from tollkeeper.errors import Misuse, SpoolFull
from tollkeeper.metering.usage import Prepared

MAX_WAIT_S = 3600.0  # threading refuses waits beyond what its clock can count


class Entry(msgspec.Struct, frozen=True, eq=False):
    """One call's usages. `future` is done once they are durable, or holds why they aren't.

    Cancelling it before the writer has taken the entry withdraws the usages.
    """

    usages: Sequence[Prepared]
    deadline: float
    """When the call stops waiting for room, on the monotonic clock."""
    future: Future[None]


class Intake:
    """Entries in the order of arrival, up to a number of records."""

    def __init__(self, max_records: int) -> None:
        self._max_records = max_records
        self._changed = threading.Condition()
        self._entries: deque[Entry] = deque()
        self._records = 0
        self._room_waiters: dict[object, Callable[[], None]] = {}
        self._is_closed = False

    @property
    def records(self) -> int:
        """Records in memory that aren't on disk."""
        return self._records

    def offer(self, entry: Entry, on_room: Callable[[], None] | None = None) -> bool:
        """Queue the entry unless that breaks the bound; `on_room` is then called once on a change."""
        with self._changed:
            if self._is_closed:
                raise Misuse("the emitter is closed")
            if self._has_room_for(len(entry.usages)):
                self._append(entry)
                return True
            if on_room is not None:
                self._room_waiters[entry] = on_room
            return False

    def forget(self, entry: Entry) -> None:
        """No longer call back for an entry that wasn't queued."""
        with self._changed:
            self._room_waiters.pop(entry, None)

    def put(self, entry: Entry) -> None:
        """Queue the entry, waiting for room until its deadline. SpoolFull: nothing was accepted."""
        with self._changed:
            while not self._is_closed and not self._has_room_for(len(entry.usages)):
                left = entry.deadline - monotonic()
                if left <= 0:
                    raise full_in_memory(self._records)
                self._changed.wait(left)
            if self._is_closed:
                raise Misuse("the emitter is closed")
            self._append(entry)

    def take(self, max_records: int) -> list[Entry]:
        """The next entries, one at least; waits for them. Empty once closed and drained."""
        with self._changed:
            while not self._entries and not self._is_closed:
                self._changed.wait(MAX_WAIT_S)
            taken: list[Entry] = []
            records = 0
            while self._entries:
                records += len(self._entries[0].usages)
                if taken and records > max_records:
                    break
                taken.append(self._entries.popleft())
            return taken

    def done(self, entries: Sequence[Entry]) -> None:
        """The entries were answered and take no more room."""
        with self._changed:
            self._records -= sum(len(entry.usages) for entry in entries)
            self._wake()

    def close(self) -> None:
        """Take no more; what is queued is still written."""
        with self._changed:
            self._is_closed = True
            self._wake()

    def _has_room_for(self, records: int) -> bool:
        return self._records + records <= self._max_records

    def _append(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._records += len(entry.usages)
        self._changed.notify_all()

    def _wake(self) -> None:
        self._changed.notify_all()
        waiters, self._room_waiters = self._room_waiters, {}
        for on_room in waiters.values():
            on_room()


def full_in_memory(records: int) -> SpoolFull:
    """The refusal when the writer didn't keep up for `full_timeout_s`."""
    return SpoolFull(
        f"{records} usages wait for the disk, which is as many as allowed: "
        "nothing was accepted; emit it again by its id"
    )
