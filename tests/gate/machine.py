"""Drives model and Redis functions with the same commands, and compares every answer and all that is held.

Two organizations, two members, two emitters and whoever replaces them; stale and repeated calls are as
frequent as right ones. What SQL would know is in `books`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from gate.books import Account, Books
from gate.model import Model, No, period
from gate.servers import HERE, LEASE_MICROS, Server, open_gate
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tollkeeper.errors import InvalidInput
from tollkeeper.gate import encoding
from tollkeeper.gate.answers import Granted, OpenHold, Stale, Status, Unknown, Untrusted
from tollkeeper.gate.commands import HeldCall, Request
from tollkeeper.gate.encoding import Call
from tollkeeper.money.periods import Period, period_at

BEGIN = 1_793_500_000_000_000  # 2026-11-01T02:26:40Z
MINUTE, MOST = 60_000_000, 2**53
MEMBERS = ("ann", "bob")


def one_in(count: int) -> st.SearchStrategy[bool]:
    """Whether something happens that would be in the way if it happened more often."""
    # The middle, since ends of a range are drawn more often.
    return st.integers(1, count).map(lambda drawn: drawn == (count + 1) // 2)


sometimes = one_in(8)
whose = one_in(5).map(int)
late = st.integers(1, 40).map(lambda drawn: {13: -1, 27: 1}.get(drawn, 0))
"""Which epoch a call carries: almost always the current one."""
member = st.sampled_from((*MEMBERS, *MEMBERS, *MEMBERS, "eve"))
heals = st.integers(1, 10).map(lambda drawn: drawn not in (4, 7))
"""Whether what went wrong is mended at once, so that the next steps aren't all about that."""
edge = st.sampled_from((-1, 0, 0, 1))
"""Just below, exactly at, just above."""
some = st.integers(0, 7)


class GateMachine(RuleBasedStateMachine):
    """What a test may do to a gate; `server` is set by the test that runs it."""

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
        self._set_clock(BEGIN)
        open_gate(
            self.server.gate, self.tag, emitters=("em-1", "em-2"), organizations=(*self.names,)
        )
        self.model.epoch, self.model.phase, self.model.lease = 1, "open", BEGIN + LEASE_MICROS
        self.model.emitters = dict.fromkeys(self.emitters, "answered")
        self.model.notes = {(emitter, name) for emitter in self.emitters for name in self.names}
        self._warm(0, 0)

    @rule(step=st.sampled_from((1, 1, MINUTE, 40 * MINUTE, -MINUTE)))
    def time_goes_on(self, step: int) -> None:
        """A little, and now and then back: clocks are set."""
        self._set_clock(self.now + step)

    @rule(edge=edge, is_far=sometimes)
    def a_period_ends(self, edge: int, is_far: bool) -> None:
        """To just before, exactly at, or just after its end, or the next one's."""
        end = period_at(self.now).end_micros
        self._set_clock((period_at(end).end_micros if is_far else end) + edge)

    @rule(
        which=whose, member=member, lag=late, micros=st.integers(1, 12), edge=edge, limit=some,
        emitter=st.integers(0, 1), foreign=one_in(25), scoped=sometimes, age=st.integers(-15, 15),
        heals=heals,
    )  # fmt: skip
    def hold(self, which: int, member: str, lag: int, micros: int, edge: int, limit: int,
             emitter: int, foreign: bool, scoped: bool, age: int, heals: bool) -> None:  # fmt: skip
        """A new hold, of a few micro-dollars or of what one of the limits has left."""
        name, owner = self.names[which], self.emitters[emitter]
        scopes = ("project/p-1",) if scoped or which else ()
        request = Request(self._amount(name, member, micros, limit, edge), member, "web", scopes)
        self.ids += 1
        old = {-11: -61 * MINUTE, -7: -60 * MINUTE, 7: 60 * MINUTE, 11: 61 * MINUTE}.get(age, 0)
        hold_id = f"{name}/{owner}/{(self.now + old) // 1000}/{self.ids}"
        self.issued[hold_id] = request
        asked_by = self.emitters[1 - emitter] if foreign else owner
        answer = self._hold(name, request, hold_id, asked_by, self.epoch + lag)
        self._mend(which, heals and isinstance(answer, Unknown | Untrusted | Stale))

    @rule(pick=some, lag=late, other=sometimes)
    def hold_again(self, pick: int, lag: int, other: bool) -> None:
        """An id that was used, with the same request or another."""
        if hold_id := self._picked(self.issued, pick):
            request = self.issued[hold_id]
            if other:
                other_micros = request.amount_micros % MOST + 1
                request = Request(other_micros, request.member, request.surface, request.scopes)
            name, emitter = hold_id.split("/")[:2]
            self._hold(name, request, hold_id, emitter, self.epoch + lag)

    @rule(pick=some, lag=late, micros=st.integers(-2, 12), limit=some, edge=edge)
    def extend(self, pick: int, lag: int, micros: int, limit: int, edge: int) -> None:
        """To a little more or less, or by what a limit has left."""
        if hold_id := self._picked(self.granted, pick):
            name, held = hold_id.split("/")[0], self.granted[hold_id].held_micros
            more = self._amount(name, self.granted[hold_id].request.member, micros, limit, edge)
            epoch = self.epoch + lag
            total = min(max(held + more, 0), MOST)
            call = encoding.extend(hold_id, total, epoch=epoch, tag=self.tag)
            answer = self._same(call, self.model.extend, hold_id, total, epoch)
            if isinstance(answer, Granted):
                self._remember(hold_id, answer)

    @rule(pick=some, lag=late)
    def release(self, pick: int, lag: int) -> None:
        """Of an id that may have ended, or never have come."""
        if hold_id := self._picked(self.issued, pick):
            epoch = self.epoch + lag
            call = encoding.release(hold_id, epoch=epoch, tag=self.tag)
            self._same(call, self.model.release, hold_id, epoch)

    @rule(which=whose, member=st.sampled_from(MEMBERS), micros=st.integers(0, 9), pick=some,
          settles=st.booleans(), is_applied=st.booleans(), change=some, late_usage=sometimes)  # fmt: skip
    def fold(self, which: int, member: str, micros: int, pick: int, settles: bool,
             is_applied: bool, change: int, late_usage: bool) -> None:  # fmt: skip
        """SQL folds a record: usage with or without a hold, sometimes another cap, credits or members."""
        books = self.books[which]
        period = period_at(self.now)
        if late_usage:
            period = period_at(period.start_micros - 1)
        changes: dict[str, Any] = self._change(change, member)
        hold_id = self._picked(self.granted, pick)
        if (
            settles
            and hold_id
            and hold_id.startswith(books.name)
            and hold_id not in books.now.settled
        ):
            changes["settled"] = (hold_id,)
        self.position += 1
        charges = {(period, member): micros} if micros else {}
        books.fold(position=self.position, charges=charges, **changes)
        if is_applied:
            self.apply(which, 0, 0)

    @rule(which=whose, back=st.sampled_from((0, 0, 0, 1, 2)), lag=late, heals=heals)
    def apply(self, which: int, back: int, lag: int, heals: bool = True) -> None:
        """Of the last fold or one before it, once more or for the first time."""
        books = self.books[which]
        if len(books.folds) > back:
            fold, epoch = books.folds[-1 - back], self.epoch + lag
            call = encoding.apply(books.name, fold, epoch=epoch, tag=self.tag)
            answer = self._same(call, self.model.apply, books.name, fold, epoch)
            self._mend(which, heals and isinstance(answer, Unknown | Stale))

    @rule(which=whose, lag=late, ahead=st.integers(0, 1), heals=heals)
    def make_unknown(self, which: int, lag: int, ahead: int, heals: bool) -> None:
        """At the position of the last fold or of one that is to come."""
        self.position += heals  # something else was folded in the partition
        name, position, epoch = self.names[which], self.position + ahead, self.epoch + lag
        call = encoding.make_unknown(name, position, epoch=epoch, tag=self.tag)
        self._same(call, self.model.make_unknown, name, position, epoch)
        self._mend(which, heals)

    @rule(
        which=whose,
        back=st.sampled_from((0, 0, 0, 1, 2)),
        lag=late,
        is_early=sometimes,
        forgets=sometimes,
    )
    def warm(self, which: int, back: int, lag: int, is_early: bool, forgets: bool) -> None:
        """From a snapshot of now or before, read early or not, that was asked about all holds or not."""
        self._warm(which, back, lag=lag, is_early=is_early, forgets=forgets)

    @rule(is_renewed=st.booleans(), seldom=one_in(4), heals=heals, emitters=st.integers(0, 3))
    def new_epoch(self, is_renewed: bool, seldom: bool, heals: bool, emitters: int) -> None:
        """Begun, with all emitters listed and noted anew; recovering until it is opened."""
        if not seldom:
            return
        self._begin(self.model.epoch + 1)
        if is_renewed:
            self._renew()
        if heals:
            for which, emitter in ((0, emitters % 2), (1, 0), (0, emitters // 2)):
                self.reassert(which, emitter, 0, False)
            self._mend(0, True)

    def _begin(self, epoch: int) -> None:
        self.epoch = epoch
        gate, tag = self.server.gate, self.tag
        gate.run(encoding.begin_epoch(self.epoch, HERE, tag=tag))
        started = [one for one in self.emitters if self.model.emitters.get(one) != "retired"]
        gate.run(encoding.list_emitters(self.epoch, started=started, tag=tag))
        self.model.epoch, self.model.phase, self.model.lease = self.epoch, "recovering", 0
        self.model.emitters, self.model.notes = dict.fromkeys(started, "started"), set()
        for emitter in started:
            self._note(emitter)

    @rule()
    def open_epoch(self) -> None:
        """Every emitter has answered."""
        gate, tag = self.server.gate, self.tag
        for owner, standing in self.model.emitters.items():
            if standing == "started":
                gate.run(encoding.answer(self.epoch, owner, tag=tag))
                self.model.emitters[owner] = "answered"
        gate.run(encoding.open_epoch(self.model.epoch, tag=tag))
        self.model.phase, self.epoch = "open", self.model.epoch
        self._renew()

    @rule(which=whose, emitter=st.integers(0, 1), lag=late, foreign=sometimes)
    def reassert(self, which: int, emitter: int, lag: int, foreign: bool) -> None:
        """What the emitter believes to be open, which may have ended."""
        name, owner = self.names[which], self.emitters[emitter]
        stem = f"{name}/{owner}/"
        holds = [one for one in self.granted.values() if one.hold_id.startswith(stem)][-5:]
        asked_by = self.emitters[1 - emitter] if foreign else owner
        epoch = self.epoch + lag
        call = encoding.reassert(name, holds, emitter=asked_by, epoch=epoch, tag=self.tag)
        self._same(call, self.model.reassert, name, holds, asked_by, epoch)

    @rule(emitter=st.integers(0, 1), is_replaced=heals, is_folded=st.booleans(), seldom=one_in(3))
    def retire(self, emitter: int, is_replaced: bool, is_folded: bool, seldom: bool) -> None:
        """An emitter is struck off the list, and in SQL, and perhaps another one starts in its place."""
        if not seldom:
            return
        gone = self.emitters[emitter]
        if is_folded:
            for books in self.books:
                books.now.retired.add(gone)
        self.server.gate.run(encoding.list_emitters(self.model.epoch, retired=[gone], tag=self.tag))
        self.model.emitters[gone] = "retired"
        if is_replaced:
            self.ids += 1
            new = self.emitters[emitter] = f"em-{emitter}-{self.ids}"
            self.server.gate.run(
                encoding.list_emitters(self.model.epoch, started=[new], tag=self.tag)
            )
            self.model.emitters[new] = "started"
            self._note(new)

    @invariant()
    def redis_has_what_the_model_has(self) -> None:
        """The table of holds, what is known, and every limit of every member."""
        for name in self.names:
            org = self.model.all.get(name)
            table = self.server.gate.run(encoding.open_holds(name))
            assert table == _table(org.holds if org else {})
            for one in MEMBERS:
                self._compare_status(name, org, one)

    def _compare_status(self, name: str, org: Any, one: str) -> None:
        request = Request(1, one, "-", ("project/p-1",))
        status = self.server.gate.run(encoding.status(name, member=one, scopes=request.scopes))
        if not isinstance(status, Status):
            assert org is None or org.epoch < 0
            return
        heads = (status.epoch, status.offset, status.position, status.floor)
        assert heads == (org.epoch, org.offset, org.position, org.floor)
        period = _period(org, self.now)
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

    def _mend(self, which: int, is_wanted: bool) -> None:
        if not is_wanted:
            return
        newest = max((org.epoch for org in self.model.all.values()), default=0)
        if newest > self.model.epoch:
            self._begin(newest)
        if self.model.phase != "open" or self.model.lease <= self.now:
            self.open_epoch()
        self._warm(which, 0)

    def _hold(self, name: str, request: Request, hold_id: str, emitter: str, epoch: int) -> Any:
        call = encoding.hold(
            name, request, hold_id=hold_id, emitter=emitter, epoch=epoch, tag=self.tag
        )
        answer = self._same(call, self.model.hold, name, request, hold_id, emitter, epoch)
        if isinstance(answer, Granted):
            self._remember(hold_id, answer)
        return answer

    def _remember(self, hold_id: str, answer: Granted) -> None:
        request = self.issued[hold_id]
        self.granted[hold_id] = HeldCall(hold_id, answer.granted_at, answer.held_micros, request)

    def _same(self, call: Call[Any], model: Any, *arguments: Any) -> Any:
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

    def _warm(
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
        self._same(
            encoding.warm(books.name, snapshot, tag=self.tag), self.model.warm, books.name, snapshot
        )

    def _amount(self, name: str, member: str, micros: int, limit: int, edge: int) -> int:
        """A few, or what one of the limits has left, by -1, 0 or 1."""
        org = self.model.all.get(name)
        period = _period(org, self.now)
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

    def _change(self, change: int, member: str) -> dict[str, Any]:
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

    def _note(self, emitter: str) -> None:
        self.server.gate.run(encoding.note(self.model.epoch, emitter, self.names, tag=self.tag))
        self.model.notes |= {(emitter, name) for name in self.names}

    def _renew(self) -> None:
        asked_at = self.now
        call = encoding.renew(
            self.model.epoch, HERE, asked_at=asked_at, lease_micros=LEASE_MICROS, tag=self.tag
        )
        self.server.gate.run(call)
        self.model.lease = max(self.model.lease, asked_at + LEASE_MICROS)

    def _set_clock(self, micros: int) -> None:
        self.now = self.model.now = micros
        self.server.set_clock(micros)

    def _picked(self, ids: dict[str, Any], pick: int) -> str | None:
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


def _period(org: Any, now: int) -> Period | None:
    return period(org.shot, now) if org and org.known else None


def _table(holds: dict[str, Any]) -> tuple[OpenHold, ...]:
    return tuple(
        OpenHold(
            name, one.epoch, one.granted_at, one.held, one.request.amount_micros, one.request.member
        )
        for name, one in sorted(holds.items())
    )
