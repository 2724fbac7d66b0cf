"""Drives model and Redis functions with the same commands, and compares every answer and all that is held.

Two organizations, two members, two emitters and whoever replaces them; stale and repeated calls are as
frequent as right ones. What SQL would know is in `books`.
"""

from __future__ import annotations

from typing import Any

from gate.side_by_side import MEMBERS, MOST, SideBySide, table_of
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from tollkeeper.gate import encoding
from tollkeeper.gate.answers import Granted, Stale, Unknown, Untrusted
from tollkeeper.gate.commands import Request
from tollkeeper.money.periods import period_at

MINUTE = 60_000_000


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


class GateMachine(SideBySide):
    """What a test may do to a gate."""

    @rule(step=st.sampled_from((1, 1, MINUTE, 40 * MINUTE, -MINUTE)))
    def time_goes_on(self, step: int) -> None:
        """A little, and now and then back: clocks are set."""
        self.set_clock(self.now + step)

    @rule(edge=edge, is_far=sometimes)
    def a_period_ends(self, edge: int, is_far: bool) -> None:
        """To just before, exactly at, or just after its end, or the next one's."""
        end = period_at(self.now).end_micros
        self.set_clock((period_at(end).end_micros if is_far else end) + edge)

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
        request = Request(self.amount_for(name, member, micros, limit, edge), member, "web", scopes)
        self.ids += 1
        old = {-11: -61 * MINUTE, -7: -60 * MINUTE, 7: 60 * MINUTE, 11: 61 * MINUTE}.get(age, 0)
        hold_id = f"{name}/{owner}/{(self.now + old) // 1000}/{self.ids}"
        self.issued[hold_id] = request
        asked_by = self.emitters[1 - emitter] if foreign else owner
        answer = self.hold_both(name, request, hold_id, asked_by, self.epoch + lag)
        self.mend(which, heals and isinstance(answer, Unknown | Untrusted | Stale))

    @rule(pick=some, lag=late, other=sometimes)
    def hold_again(self, pick: int, lag: int, other: bool) -> None:
        """An id that was used, with the same request or another."""
        if hold_id := self.picked(self.issued, pick):
            request = self.issued[hold_id]
            if other:
                other_micros = request.amount_micros % MOST + 1
                request = Request(other_micros, request.member, request.surface, request.scopes)
            name, emitter = hold_id.split("/")[:2]
            self.hold_both(name, request, hold_id, emitter, self.epoch + lag)

    @rule(pick=some, lag=late, micros=st.integers(-2, 12), limit=some, edge=edge)
    def extend(self, pick: int, lag: int, micros: int, limit: int, edge: int) -> None:
        """To a little more or less, or by what a limit has left."""
        if hold_id := self.picked(self.granted, pick):
            name, held = hold_id.split("/")[0], self.granted[hold_id].held_micros
            more = self.amount_for(name, self.granted[hold_id].request.member, micros, limit, edge)
            epoch = self.epoch + lag
            total = min(max(held + more, 0), MOST)
            call = encoding.extend(hold_id, total, epoch=epoch, tag=self.tag)
            answer = self.ask_both(call, self.model.extend, hold_id, total, epoch)
            if isinstance(answer, Granted):
                self.remember(hold_id, answer)

    @rule(pick=some, lag=late)
    def release(self, pick: int, lag: int) -> None:
        """Of an id that may have ended, or never have come."""
        if hold_id := self.picked(self.issued, pick):
            epoch = self.epoch + lag
            call = encoding.release(hold_id, epoch=epoch, tag=self.tag)
            self.ask_both(call, self.model.release, hold_id, epoch)

    @rule(which=whose, member=st.sampled_from(MEMBERS), micros=st.integers(0, 9), pick=some,
          settles=st.booleans(), is_applied=st.booleans(), change=some, late_usage=sometimes)  # fmt: skip
    def fold(self, which: int, member: str, micros: int, pick: int, settles: bool,
             is_applied: bool, change: int, late_usage: bool) -> None:  # fmt: skip
        """SQL folds a record: usage with or without a hold, sometimes another cap, credits or members."""
        books = self.books[which]
        period = period_at(self.now)
        if late_usage:
            period = period_at(period.start_micros - 1)
        changes: dict[str, Any] = self.change_for(change, member)
        hold_id = self.picked(self.granted, pick)
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
            answer = self.ask_both(call, self.model.apply, books.name, fold, epoch)
            self.mend(which, heals and isinstance(answer, Unknown | Stale))

    @rule(which=whose, lag=late, ahead=st.integers(0, 1), heals=heals)
    def make_unknown(self, which: int, lag: int, ahead: int, heals: bool) -> None:
        """At the position of the last fold or of one that is to come."""
        self.position += heals  # something else was folded in the partition
        name, position, epoch = self.names[which], self.position + ahead, self.epoch + lag
        call = encoding.make_unknown(name, position, epoch=epoch, tag=self.tag)
        self.ask_both(call, self.model.make_unknown, name, position, epoch)
        self.mend(which, heals)

    @rule(
        which=whose,
        back=st.sampled_from((0, 0, 0, 1, 2)),
        lag=late,
        is_early=sometimes,
        forgets=sometimes,
    )
    def warm(self, which: int, back: int, lag: int, is_early: bool, forgets: bool) -> None:
        """From a snapshot of now or before, read early or not, that was asked about all holds or not."""
        self.warm_both(which, back, lag=lag, is_early=is_early, forgets=forgets)

    @rule(is_renewed=st.booleans(), seldom=one_in(4), heals=heals, emitters=st.integers(0, 3))
    def new_epoch(self, is_renewed: bool, seldom: bool, heals: bool, emitters: int) -> None:
        """Begun, with all emitters listed and noted anew; recovering until it is opened."""
        if not seldom:
            return
        self.begin_epoch(self.model.epoch + 1)
        if is_renewed:
            self.renew_lease()
        if heals:
            for which, emitter in ((0, emitters % 2), (1, 0), (0, emitters // 2)):
                self.reassert(which, emitter, 0, False)
            self.mend(0, True)

    @rule()
    def open_epoch(self) -> None:
        """Every emitter has answered."""
        self.open_again()

    @rule(which=whose, emitter=st.integers(0, 1), lag=late, foreign=sometimes)
    def reassert(self, which: int, emitter: int, lag: int, foreign: bool) -> None:
        """What the emitter believes to be open, which may have ended."""
        name, owner = self.names[which], self.emitters[emitter]
        stem = f"{name}/{owner}/"
        holds = [one for one in self.granted.values() if one.hold_id.startswith(stem)][-5:]
        asked_by = self.emitters[1 - emitter] if foreign else owner
        epoch = self.epoch + lag
        call = encoding.reassert(name, holds, emitter=asked_by, epoch=epoch, tag=self.tag)
        self.ask_both(call, self.model.reassert, name, holds, asked_by, epoch)

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
            self.note_everywhere(new)

    @invariant()
    def redis_has_what_the_model_has(self) -> None:
        """The table of holds, what is known, and every limit of every member."""
        for name in self.names:
            org = self.model.all.get(name)
            table = self.server.gate.run(encoding.open_holds(name))
            assert table == table_of(org.holds if org else {})
            for one in MEMBERS:
                self.compare_status(name, org, one)
