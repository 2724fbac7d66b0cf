"""What this process has in flight at the gate: each hold from before it is asked for until it has ended.

A hold is entered before Redis hears of it, so that none can be forgotten, and leaves when its usage is
durable, when its release was answered, or when the gate said no. Must not know Redis or the spool.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal

import msgspec

from tollkeeper.errors import GateUnavailable
from tollkeeper.gate.commands import HeldCall, Request
from tollkeeper.metering.usage import Usage

State = Literal["asked", "open", "settling", "releasing"]


class Kept(msgspec.Struct, eq=False):
    """One hold; or, with `hold_id` None, a call that a policy let through without one.

    asked: it was sent, or is about to be. open: the grant was taken. settling: its usage is on the way
    to the spool. releasing: nobody wants it, and Redis has not yet said that it knows.
    """

    organization: str
    emitter: str
    request: Request
    hold_id: str | None = None
    state: State = "asked"
    granted_at: int = 0
    held_micros: int = 0
    may_be_held: bool = False
    """An answer to its `hold` got lost, so Redis may have it, whatever it says now."""
    usages: tuple[Usage, ...] = ()
    handed_in: Future[None] | None = None

    def is_open_for(self, emitter: str) -> bool:
        """Whether it is a hold of this emitter that a recovering server has to be told of."""
        return (
            self.emitter == emitter
            and self.hold_id is not None
            and self.state in ("open", "settling")
        )

    def as_held_call(self) -> HeldCall:
        """For a recovering server."""
        assert self.hold_id is not None
        return HeldCall(self.hold_id, self.granted_at, self.held_micros, self.request)


class Book:
    """All that is kept, up to a bound. `lock` is held by who reads or changes more than one thing."""

    def __init__(self, most: int) -> None:
        self.lock = threading.Lock()
        self._most = most
        self._kept: dict[Kept, None] = {}  # in the order in which they were begun
        self._owed: dict[Kept, None] = {}
        """Those of them that are releasing or settling: what each tick looks at, the oldest first."""
        self._emitters: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, kept: Kept) -> None:
        """Enter it. GateUnavailable: there are too many."""
        if len(self._kept) >= self._most:
            raise GateUnavailable(f"{self._most} holds of this process are open, the most allowed")
        self.keep(kept)

    def keep(self, kept: Kept) -> None:
        """Have it in the book whatever the bound: its usage is still to be delivered."""
        with self.lock:
            if kept not in self._kept:
                self._kept[kept] = None
                self._emitters[kept.emitter] += 1
            self._put(kept, kept.state)

    def move(self, kept: Kept, state: State, *, out_of: tuple[State, ...] | None = None) -> bool:
        """Give it another state, unless it is in none of `out_of`; whether it was given."""
        with self.lock:
            if out_of is not None and kept.state not in out_of:
                return False
            self._put(kept, state)
            return True

    def strike(self, kept: Kept) -> None:
        """It has ended; striking it again changes nothing."""
        with self.lock:
            if kept not in self._kept:
                return
            del self._kept[kept]
            self._owed.pop(kept, None)
            self._emitters[kept.emitter] -= 1
            if not self._emitters[kept.emitter]:
                del self._emitters[kept.emitter]

    def has(self, kept: Kept) -> bool:
        """Whether it hasn't ended."""
        return kept in self._kept

    def emitters(self) -> set[str]:
        """Whose holds these are."""
        with self.lock:
            return set(self._emitters)

    def owed(self, state: State) -> list[Kept]:
        """Those that are releasing, or those that are settling."""
        with self.lock:
            return [kept for kept in self._owed if kept.state == state]

    def having(self, condition: Callable[[Kept], bool]) -> list[Kept]:
        """Those for which it holds, as of now. Looks at all of them."""
        with self.lock:
            return [kept for kept in self._kept if condition(kept)]

    def forget_all(self) -> None:
        """In a forked child: they are the parent's. Its lock may be held by a thread that isn't here."""
        self.lock = threading.Lock()
        self._kept, self._owed, self._emitters = {}, {}, Counter()

    def _put(self, kept: Kept, state: State) -> None:
        kept.state = state
        if kept in self._kept and state in ("releasing", "settling"):
            self._owed[kept] = None
        else:
            self._owed.pop(kept, None)
