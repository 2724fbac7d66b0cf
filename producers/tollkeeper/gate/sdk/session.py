"""A process's standing at the gate: who it is, which epochs it is in, and what it has in flight.

Safe to use from several threads; nothing here waits. A grant is taken, and a recovery's list of open
holds is made, under one lock, so that a hold is either on the list or was never taken. What is to be done
beside the calls is done by `tick` (`upkeep.py`), driven by a thread or by a simulator. Must not know
providers or prices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count

from tollkeeper.errors import InvalidInput, TollkeeperError
from tollkeeper.events.ids import MAX_ID_LENGTH
from tollkeeper.gate import answers as a
from tollkeeper.gate.commands import Request
from tollkeeper.gate.hold_ids import parse_hold_id
from tollkeeper.gate.sdk.book import Book, Kept
from tollkeeper.gate.sdk.ports import Functions, Recorder
from tollkeeper.gate.sdk.primary import Primary
from tollkeeper.gate.sdk.published import Published
from tollkeeper.gate.sdk.settings import GateSettings
from tollkeeper.gate.sdk.stats import Counters
from tollkeeper.metering.usage import Usage

MICROS = 1_000_000

Ending = Callable[[InvalidInput | None], "Sequence[Usage] | None"]
"""Answers what is to be charged, None where the hold is to be released; asked again where its first
answer can't be recorded."""
Abandoned = tuple[Kept, Ending | None]
"""A hold that its caller lost; with an ending where he left word of what became of the call."""


class Session:
    """One a process. `wake` has the next tick come at once; `follow` has a version of the functions asked,
    and `reconnect` has them asked over new connections."""

    def __init__(
        self,
        functions: Functions,
        recorder: Recorder,
        settings: GateSettings,
        *,
        monotonic: Callable[[], float],
        wake: Callable[[], None],
        follow: Callable[[str], bool],
        reconnect: Callable[[], None],
    ) -> None:
        self.functions = functions
        self.recorder = recorder
        self.settings = settings
        self.monotonic = monotonic
        self.wake = wake
        self.follow = follow
        self.reconnect = reconnect
        self.book = Book(settings.max_open_holds)
        self.published = Published()
        self.counters = Counters()
        self.emitter: str | None = None
        """The id under which holds are asked for; None until the spool has one."""
        self.broken: str | None = None
        """Why the last round of the upkeep didn't come to its end."""
        self.trouble: str | None = None
        """Why nothing is asked for at all: the spool has no emitter, or our own books are broken."""
        self.started_at: float | None = None
        """When holds were first asked for, on the monotonic clock."""
        self.redis_ahead_micros: float | None = None
        """Redis' clock less the monotonic one; None until Redis was heard."""
        self.abandoned: deque[Abandoned] = deque()
        """Filled by finalizers, which may take no lock."""
        self.forks = 0
        """How many processes lie between the one that made the gate and this one."""
        self._primaries: dict[str, Primary] = {}
        self._suffixes = count(1)

    def start(self) -> None:
        """Holds are asked for from here on: until now nobody waited."""
        if self.started_at is None:
            self.started_at = self.monotonic()

    def primary_of(self, organization: str) -> Primary:
        """What is known of the primary that has this organization. GateUnavailable: none has."""
        return self.primary(self.functions.tag_of(organization))

    def primary(self, tag: str) -> Primary:
        """What is known of the primary with this tag."""
        found = self._primaries.get(tag)
        if found is None:
            # Of two threads at once both get the same one.
            found = self._primaries.setdefault(tag, Primary(tag, since=self.monotonic()))
        return found

    def primaries(self) -> list[Primary]:
        """All that were looked at."""
        return list(self._primaries.values())

    def redis_now(self) -> int | None:
        """Redis' clock in microseconds, about; None until it was heard."""
        ahead = self.redis_ahead_micros
        return None if ahead is None else int(ahead + self.monotonic() * MICROS)

    def begin(self, organization: str, request: Request) -> Kept | None:
        """Enter a hold that is about to be asked for; None while this emitter begins anew.

        Its id is issued by Redis' clock: ids that are an hour off by it are refused. GateUnavailable:
        too many are open. InvalidInput: the organization's id is too long to be part of one.
        """
        now, emitter = self.redis_now(), self.emitter
        if now is None or emitter is None:
            return None
        # Its parts keep their rules already; only together they may be too long.
        issued = f"{organization}/{emitter}/{now // 1_000}/{next(self._suffixes):x}"
        if len(issued) > MAX_ID_LENGTH:
            parse_hold_id(issued)
        kept = Kept(organization, emitter, request, issued)
        self.book.add(kept)
        if self.emitter != emitter:
            # Replaced meanwhile, and perhaps retired: nobody saw then that it has a hold.
            self.book.strike(kept)
            return None
        return kept

    def take(
        self, kept: Kept, grant: a.Granted, *, primary: Primary, epoch: int, sent_at: float
    ) -> bool:
        """Take a grant, unless it came after the lease or in another epoch than it was asked for."""
        with self.book.lock:
            waited_micros = (self.monotonic() - sent_at) * MICROS
            is_late = waited_micros >= grant.lease_until - grant.now
            if is_late or primary.epoch != epoch or kept.state not in ("asked", "open"):
                return False
            kept.state = "open"
            kept.granted_at = grant.granted_at
            kept.held_micros = max(kept.held_micros, grant.held_micros)
            return True

    def let_go(self, kept: Kept) -> None:
        """Nobody wants it any more. What Redis may have of it is released by a tick at the latest."""
        self.book.move(kept, "releasing", out_of=("asked", "open"))

    def settle(self, kept: Kept, usages: Sequence[Usage]) -> Future[None]:
        """Have its usage made durable. What the spool doesn't take is handed in again by each tick.

        InvalidUsage, raised or in the future: it can't be recorded at all, and the hold is as before.
        """
        before = kept.state
        kept.usages = tuple(usages)
        self.book.keep(kept)
        self.book.move(kept, "settling")
        try:
            return self.hand_in(kept)
        except TollkeeperError:
            self.book.move(kept, before)
            raise

    def hand_in(self, kept: Kept) -> Future[None]:
        """Its usage to the spool; it leaves the book when the disk has confirmed."""
        kept.handed_in = future = self.recorder.hand_in(kept.usages)
        future.add_done_callback(partial(self._handed_in, kept))
        return future

    def _handed_in(self, kept: Kept, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            self.counters.add("settled")
            self.book.strike(kept)
        elif isinstance(error, InvalidInput):
            self.book.move(kept, "open")
        else:
            self.counters.add("usage_not_accepted")

    def is_in_use(self, emitter: str) -> bool:
        """Whether holds of this emitter are open, or new ones may be asked for under its id."""
        return emitter == self.emitter or emitter in self.book.emitters()

    def leave_parent(self) -> None:
        """In a forked child: holds, locks, epochs and the emitter are the parent's."""
        self.forks += 1
        self.book.forget_all()
        self.counters.leave_parent()
        self.abandoned.clear()
        self.broken = None
        self.emitter = None
        self.started_at = None
        self._primaries = {}
