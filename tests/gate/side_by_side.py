"""Model and functions side by side: each call is made to both, and both have to answer the same.

Knows how to make calls and how to mend what they broke; what happens in which order is the machine's.
"""

from __future__ import annotations

from typing import Any, ClassVar

from gate.books import Account, Books
from gate.model import Model, No, period
from gate.servers import LEASE_MICROS, Server, open_gate
from hypothesis.stateful import RuleBasedStateMachine

from tollkeeper.errors import InvalidInput
from tollkeeper.gate import encoding
from tollkeeper.gate.answers import Granted, OpenHold, Status
from tollkeeper.gate.commands import HeldCall, Request
from tollkeeper.gate.encoding import Call
from tollkeeper.money.periods import Period

BEGIN = 1_793_500_000_000_000  # 2026-11-01T02:26:40Z
MOST = 2**53
MEMBERS = ("ann", "bob")


class SideBySide(RuleBasedStateMachine):
    """Both, with two organizations known and two emitters listed; the test sets `server`."""

    server: ClassVar[Server]
    examples: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        cls = type(self)
        cls.examples += 1
        self.tag = f"{self.server.token}-{cls.examples}"
        self.names = [f"{self.tag}-{letter}" for letter in "ab"]
        self.emitters = ["em-1", "em-2"]
        self.now, self.ids, self.epoch = BEGIN, 0, 1
        self.issued: dict[str, Request] = {}
        self.granted: dict[str, HeldCall] = {}
        self.position = 10
        self.model = Model(BEGIN)
        self.books = [self._new_books(name) for name in self.names]
        self.set_clock(BEGIN)
        open_gate(
            self.server.gate, self.tag, emitters=("em-1", "em-2"), organizations=(*self.names,)
        )
        self.model.epoch, self.model.phase, self.model.lease = 1, "open", BEGIN + LEASE_MICROS
        self.model.emitters = dict.fromkeys(self.emitters, "answered")
        self.model.notes = {(emitter, name) for emitter in self.emitters for name in self.names}
        self.warm_both(0, 0)

    def begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        gate, tag = self.server.gate, self.tag
        gate.run(encoding.begin_epoch(self.epoch, self.server.here, tag=tag))
        started = [one for one in self.emitters if self.model.emitters.get(one) != "retired"]
        gate.run(encoding.list_emitters(self.epoch, started=started, tag=tag))
        self.model.epoch, self.model.phase, self.model.lease = self.epoch, "recovering", 0
        self.model.emitters, self.model.notes = dict.fromkeys(started, "started"), set()
        for emitter in started:
            self.note_everywhere(emitter)

    def open_again(self) -> None:
        gate, tag = self.server.gate, self.tag
        for owner, standing in self.model.emitters.items():
            if standing == "started":
                gate.run(encoding.answer(self.epoch, owner, tag=tag))
                self.model.emitters[owner] = "answered"
        gate.run(encoding.open_epoch(self.model.epoch, tag=tag))
        self.model.phase, self.epoch = "open", self.model.epoch
        self.renew_lease()

    def compare_status(self, name: str, org: Any, one: str) -> None:
        request = Request(1, one, "-", ("project/p-1",))
        status = self.server.gate.run(encoding.status(name, member=one, scopes=request.scopes))
        if not isinstance(status, Status):
            assert org is None or org.epoch < 0
            return
        heads = (status.epoch, status.offset, status.position, status.floor)
        assert heads == (org.epoch, org.offset, org.position, org.floor)
        period = period_of(org, self.now)
        assert (status.is_known, status.period) == (period is not None, period)
        if period is not None:
            limits = self.model.limits(org, request, period)
            found = [
                (row.name, row.scope, row.cap_micros, row.spent_micros, row.held_micros)
                for row in status.limits
            ]
            assert found == [
                (*row[:2], None if row[2] == "unlimited" else row[2], *row[3:]) for row in limits
            ]
            assert status.is_member == (one in org.members)

    def mend(self, which: int, is_wanted: bool) -> None:
        if not is_wanted:
            return
        newest = max((org.epoch for org in self.model.all.values()), default=0)
        if newest > self.model.epoch:
            self.begin_epoch(newest)
        if self.model.phase != "open" or self.model.lease <= self.now:
            self.open_again()
        self.warm_both(which, 0)

    def hold_both(self, name: str, request: Request, hold_id: str, emitter: str, epoch: int) -> Any:
        call = encoding.hold(
            name, request, hold_id=hold_id, emitter=emitter, epoch=epoch, tag=self.tag
        )
        answer = self.ask_both(call, self.model.hold, name, request, hold_id, emitter, epoch)
        if isinstance(answer, Granted):
            self.remember(hold_id, answer)
        return answer

    def remember(self, hold_id: str, answer: Granted) -> None:
        request = self.issued[hold_id]
        self.granted[hold_id] = HeldCall(hold_id, answer.granted_at, answer.held_micros, request)

    def ask_both(self, call: Call[Any], model: Any, *arguments: Any) -> Any:
        """The answer, which has to be the model's."""
        try:
            words: tuple[Any, ...] = model(*arguments)
        except No as no:
            words = no.args
        try:
            answer = self.server.gate.run(call)
        except InvalidInput as error:
            assert words == ("invalid", error.field), words
            return error
        assert words[0] != "invalid", answer
        assert answer == call.decode([*words]), call.function
        return answer

    def warm_both(
        self, which: int, back: int, *, lag: int = 0, is_early: bool = False, forgets: bool = False
    ) -> None:
        books, gate = self.books[which], self.server.gate
        held = tuple(one.hold_id for one in gate.run(encoding.open_holds(books.name)))
        back = min(back, len(books.states) - 1)
        snapshot = books.snapshot(
            books.states[-1 - back],
            epoch=self.epoch + lag,
            now=self.now,
            held=held[1:] if forgets else held,
            phase="recovering" if is_early else "open",
            position=None if back else self.position,
        )
        self.ask_both(
            encoding.warm(books.name, snapshot, tag=self.tag), self.model.warm, books.name, snapshot
        )

    def amount_for(self, name: str, member: str, micros: int, limit: int, edge: int) -> int:
        """A few, or what one of the limits has left, by -1, 0 or 1."""
        org = self.model.all.get(name)
        period = period_of(org, self.now)
        if limit > 2 or period is None:
            return max(micros, 1) if limit < 7 else MOST + min(edge, 0)
        rows = [
            row
            for row in self.model.limits(org, Request(1, member, "-", ("project/p-1",)), period)
            if row[2] != "unlimited"
        ]
        lefts = [row[2] - row[3] - row[4] for row in rows] or [micros]
        left: int = lefts[limit % len(lefts)]
        return min(max(left + edge, 1), MOST)

    def change_for(self, change: int, member: str) -> dict[str, Any]:
        match change:
            case 0:
                return {"bought": 20}
            case 1:
                return {"caps": {"organization": 70}}
            case 2:
                return {"caps": {f"member/{member}": 45}}
            case 3:
                return {"caps": {f"member/{member}": "inherit", "member": "unlimited"}}
            case 4:
                return {"members": {"bob": False, "eve": True}}
            case _:
                return {}

    def note_everywhere(self, emitter: str) -> None:
        self.server.gate.run(encoding.note(self.model.epoch, emitter, self.names, tag=self.tag))
        self.model.notes |= {(emitter, name) for name in self.names}

    def renew_lease(self) -> None:
        asked_at = self.now
        call = encoding.renew(
            self.model.epoch,
            self.server.here,
            asked_at=asked_at,
            lease_micros=LEASE_MICROS,
            tag=self.tag,
        )
        self.server.gate.run(call)
        self.model.lease = max(self.model.lease, asked_at + LEASE_MICROS)

    def set_clock(self, micros: int) -> None:
        self.now = self.model.now = micros
        self.server.set_clock(micros)

    def picked(self, ids: dict[str, Any], pick: int) -> str | None:
        """One of the newest, so that the chance of an open one is good."""
        return [*ids][-1 - pick % min(len(ids), 8)] if ids else None

    def _new_books(self, name: str) -> Books:
        """The second organization has a third level, which only data makes."""
        caps: dict[str, Any] = {"organization": 50, "member": 30}
        account = Account(offset=3, position=9, spent={}, caps=caps)
        if name == self.names[1]:
            caps["project"] = 20
            account.levels = ("project", *account.levels)
        return Books(name, account)


def period_of(org: Any, now: int) -> Period | None:
    return period(org.shot, now) if org and org.known else None


def table_of(holds: dict[str, Any]) -> tuple[OpenHold, ...]:
    return tuple(
        OpenHold(
            name, one.epoch, one.granted_at, one.held, one.request.amount_micros, one.request.member
        )
        for name, one in sorted(holds.items())
    )
