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
from tollkeeper.events.gate import GateEvent
from tollkeeper.metering.usage import Prepared

MAX_WAIT_S = 3600.0  # threading refuses waits beyond what its clock can count


class Entry(msgspec.Struct, frozen=True, eq=False):
    """One call's usages or facts. `future` is done once they are durable, or holds why they aren't.

    Cancelling it before the writer has taken the entry withdraws them.
    """

    usages: Sequence[Prepared]
    deadline: float
    """When the call stops waiting for room, on the monotonic clock."""
    future: Future[None]
    facts: Sequence[GateEvent] = ()

    @property
    def records(self) -> int:
        """How many records these will be."""
        return len(self.usages) + len(self.facts)


class Announce(msgspec.Struct, frozen=True, eq=False):
    """Asks for the emitter's id, announced. `future` holds it once its marker is durable."""

    deadline: float
    future: Future[str]
    records: int = 0


class BeginAnew(msgspec.Struct, frozen=True, eq=False):
    """Asks that nothing more is written as `emitter`. `future` says whether it was the current one."""

    emitter: str
    deadline: float
    future: Future[bool]
    records: int = 0


Asked = Entry | Announce | BeginAnew
"""What callers ask of the writer."""


class Intake:
    """What callers ask, in the order of arrival, up to a number of records."""

    def __init__(self, max_records: int, *, monotonic: Callable[[], float] = monotonic) -> None:
        self._max_records = max_records
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._asked: deque[Asked] = deque()
        self._records = 0
        self._room_waiters: dict[object, Callable[[], None]] = {}
        self._is_closed = False

    @property
    def records(self) -> int:
        """Records in memory that aren't on disk."""
        return self._records

    def offer(self, asked: Asked, on_room: Callable[[], None] | None = None) -> bool:
        """Queue it unless that breaks the bound; `on_room` is then called once on a change."""
        with self._changed:
            if self._is_closed:
                raise Misuse("the emitter is closed")
            if self._has_room_for(asked.records):
                self._append(asked)
                return True
            if on_room is not None:
                self._room_waiters[asked] = on_room
            return False

    def forget(self, asked: Asked) -> None:
        """No longer call back for what wasn't queued."""
        with self._changed:
            self._room_waiters.pop(asked, None)

    def put(self, asked: Asked) -> None:
        """Queue it, waiting for room until its deadline. SpoolFull: nothing was accepted."""
        with self._changed:
            while not self._is_closed and not self._has_room_for(asked.records):
                left = asked.deadline - self._monotonic()
                if left <= 0:
                    raise full_in_memory(self._records)
                self._changed.wait(left)
            if self._is_closed:
                raise Misuse("the emitter is closed")
            self._append(asked)

    def wait(self) -> bool:
        """Wait until something is asked; False once closed and drained."""
        with self._changed:
            while not self._asked and not self._is_closed:
                self._changed.wait(MAX_WAIT_S)
            return bool(self._asked)

    def take(self, max_records: int) -> list[Asked]:
        """What was asked next: one at least if there is any, up to `max_records`."""
        with self._changed:
            taken: list[Asked] = []
            records = 0
            while self._asked:
                records += self._asked[0].records
                if taken and records > max_records:
                    break
                taken.append(self._asked.popleft())
            return taken

    def done(self, taken: Sequence[Asked]) -> None:
        """They were answered and take no more room."""
        with self._changed:
            self._records -= sum(asked.records for asked in taken)
            self._wake()

    def close(self) -> None:
        """Take no more; what is queued is still written."""
        with self._changed:
            self._is_closed = True
            self._wake()

    def _has_room_for(self, records: int) -> bool:
        return self._records + records <= self._max_records

    def _append(self, asked: Asked) -> None:
        self._asked.append(asked)
        self._records += asked.records
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
