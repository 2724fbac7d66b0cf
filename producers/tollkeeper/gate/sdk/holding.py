"""The life of a hold as steps: asked for, extended, released (ENFORCEMENT, "The life of a hold").

A hold is in the book before it is sent. Whatever ends the steps early, a cancellation among it, leaves it
there to be released: nobody knows then what Redis has of it. Must not know threads or asyncio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from tollkeeper.errors import BrokenInvariant, GateUnavailable
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import Request
from tollkeeper.gate.sdk.asks import Ask, priced_micros
from tollkeeper.gate.sdk.book import Kept
from tollkeeper.gate.sdk.obstacles import Obstacle, obstacle_of
from tollkeeper.gate.sdk.patience import Passing, Patience
from tollkeeper.gate.sdk.primary import Primary
from tollkeeper.gate.sdk.session import Session
from tollkeeper.gate.sdk.steps import Steps, Wait
from tollkeeper.logline import LogLine, failure
from tollkeeper.rating.card import Unpriced

logger = logging.getLogger(__name__)

NO_PRICES = "no prices were heard of yet"


class Stopped(msgspec.Struct, frozen=True):
    """The functions said no, with every reason."""

    answer: a.Refused
    requested_micros: int


class NotKnown(msgspec.Struct, frozen=True):
    """The gate doesn't know. `requested_micros` is None where the call couldn't be priced either."""

    cause: str
    obstacle: Obstacle
    requested_micros: int | None = None


HoldOutcome = Kept | Stopped | NotKnown | Unpriced


class Holding:
    """One call's way to its hold. `begin` enters it in the book under an id; the session's own by default."""

    def __init__(
        self,
        session: Session,
        asked: Ask,
        *,
        begin: Callable[[str, Request], Kept | None] | None = None,
    ) -> None:
        self._session = session
        self._asked = asked
        self._begin = begin or session.begin
        self._request: Request | None = None
        self._kept: Kept | None = None

    def steps(self) -> Steps[HoldOutcome]:
        """Ask until there is an answer, or until what stands in the way has had its time."""
        patience = Patience(self._session, self._asked.organization)
        try:
            while True:
                found = yield from self._attempt()
                if isinstance(found, Kept):
                    return found
                if not isinstance(found, Passing):
                    self._end()
                    return found
                pause = patience.next(found)
                if pause is None:
                    self._end()
                    request = self._request
                    micros = request.amount_micros if request else None
                    return NotKnown(found.cause, found.obstacle, micros)
                if found.is_ours:
                    self._session.wake()
                yield Wait(pause)
        except BaseException:
            self._end()
            raise

    def _attempt(self) -> Steps[Kept | Stopped | Unpriced | Passing]:
        session, organization = self._session, self._asked.organization
        # Priced first: a policy that lets it through has to know what it may cost.
        request = self._request or self._priced()
        if isinstance(request, Unpriced):
            return request
        if isinstance(request, Request):
            self._request = request
        primary = _ready(session, organization)
        if isinstance(primary, Passing):
            return primary
        if isinstance(request, Passing):
            return request
        if organization not in primary.noted:
            trouble = yield from self._note(primary)
            if trouble is not None:
                return trouble
        kept = self._begun(request)
        if isinstance(kept, Passing):
            return kept
        return (yield from self._send(kept, primary))

    def _begun(self, request: Request) -> Kept | Passing:
        """The same hold as before, under its id, unless that is another emitter's."""
        if self._kept is not None and self._kept.emitter == self._session.emitter:
            return self._kept
        self._end()
        try:
            self._kept = self._begin(self._asked.organization, request)
        except GateUnavailable as error:
            return Passing(str(error), "full", is_final=True)
        return self._kept or Passing("this emitter begins anew")

    def _priced(self) -> Request | Unpriced | Passing:
        prices, now = self._session.published.prices, self._session.redis_now()
        if prices is None or now is None:
            return Passing(NO_PRICES, "reading")
        asked = self._asked
        micros = priced_micros(asked, prices, now)
        if isinstance(micros, Unpriced):
            return micros
        return Request(micros, asked.member, asked.surface, asked.scopes)

    def _note(self, primary: Primary) -> Steps[Passing | None]:
        """Without the note nobody would find its holds there if it died."""
        session, organization, noted = self._session, self._asked.organization, primary.noted
        if session.emitter is None:
            return Passing("this emitter begins anew")
        call = encoding.note(primary.epoch, session.emitter, [organization], tag=primary.tag)
        for _ in range(session.settings.attempts):
            try:
                answer = yield call
            except GateUnavailable as error:
                lost = Passing(str(error), "away", is_final=True)
                continue
            if isinstance(answer, a.Done):
                noted.add(organization)
                return None
            cause = f"this emitter isn't noted: {answer.cause}"
            return Passing(cause, obstacle_of(answer.cause))
        return lost

    def _send(self, kept: Kept, primary: Primary) -> Steps[Kept | Stopped | Passing]:
        session, epoch = self._session, primary.epoch
        assert kept.hold_id is not None
        call = encoding.hold(
            *(kept.organization, kept.request),
            hold_id=kept.hold_id,
            emitter=kept.emitter,
            epoch=epoch,
            tag=primary.tag,
        )
        was_lost, kept.may_be_held = kept.may_be_held, True
        for _ in range(session.settings.attempts):
            sent_at = session.monotonic()
            try:
                answer = yield call
            except GateUnavailable as error:
                was_lost, trouble = True, Passing(str(error), "away", is_final=True)
                continue
            if not isinstance(answer, a.Granted):
                kept.may_be_held = was_lost
                return self._understood(answer, primary)
            if session.take(kept, answer, primary=primary, epoch=epoch, sent_at=sent_at):
                session.counters.add("granted")
                return kept
            session.counters.add("late_grants")
            yield from release_steps(session, kept)
            self._kept = None
            return Passing("the grant came too late to be taken")
        return trouble

    def _understood(self, answer: a.HoldAnswer, primary: Primary) -> Stopped | Passing:
        match answer:
            case a.Refused():
                return Stopped(answer, self._request.amount_micros if self._request else 0)
            case a.Unknown():
                return Passing("the organization isn't warm", "reading", is_ours=False)
            case a.EmitterRefused("unnoted"):
                primary.noted.discard(self._asked.organization)
                return Passing("this emitter isn't noted")
            case a.HoldIdRefused("age" | "used"):
                self._end()
                return Passing(f"the hold's id was refused: {answer.cause}")
            case a.Untrusted() | a.EmitterRefused():
                return Passing(f"the gate doesn't trust: {answer.cause}", obstacle_of(answer.cause))
            case a.Stale():
                return Passing("the gate is in another epoch")
            case _:
                raise BrokenInvariant(f"a hold was answered {answer}")

    def _end(self) -> None:
        """It isn't wanted any more, or never was: released where Redis may have it."""
        kept, self._kept = self._kept, None
        if kept is None:
            return
        if kept.may_be_held:
            self._session.let_go(kept)
        else:
            self._session.book.strike(kept)


def extend_steps(session: Session, kept: Kept, to_micros: int) -> Steps[Kept | Stopped | NotKnown]:
    """Have an open hold reserve so much in all."""
    patience = Patience(session, kept.organization)
    while kept.held_micros < to_micros:
        found = yield from _extend_once(session, kept, to_micros)
        if isinstance(found, Stopped):
            return found
        if found is None:
            continue
        pause = patience.next(found)
        if pause is None:
            return NotKnown(found.cause, found.obstacle, to_micros - kept.held_micros)
        session.wake()
        yield Wait(pause)
    return kept


def _extend_once(session: Session, kept: Kept, to_micros: int) -> Steps[Stopped | Passing | None]:
    primary = _ready(session, kept.organization)
    if isinstance(primary, Passing):
        return primary
    assert kept.hold_id is not None
    epoch = primary.epoch
    call = encoding.extend(kept.hold_id, to_micros, epoch=epoch, tag=primary.tag)
    for _ in range(session.settings.attempts):
        sent_at = session.monotonic()
        try:
            answer = yield call
        except GateUnavailable as error:
            trouble = Passing(str(error), "away", is_final=True)
            continue
        match answer:
            case a.Granted():
                if session.take(kept, answer, primary=primary, epoch=epoch, sent_at=sent_at):
                    return None
                return Passing("the grant came too late to be taken")
            case a.Refused():
                return Stopped(answer, to_micros - kept.held_micros)
            case a.Unknown() | a.Stale():
                return Passing("the organization isn't warm", "reading")
            case a.HoldIdRefused() | a.EmitterRefused():
                return Passing(f"the hold can't be extended: {answer.cause}", is_final=True)
            case _:
                return Passing(f"the gate doesn't trust: {answer.cause}", obstacle_of(answer.cause))
    return trouble


def release_steps(session: Session, kept: Kept) -> Steps[None]:
    """Free a hold now if that can be; otherwise a tick will."""
    session.let_go(kept)
    if kept.hold_id is None:
        session.book.strike(kept)
        return
    try:
        primary = session.primary_of(kept.organization)
        if primary.epoch:
            call = encoding.release(kept.hold_id, epoch=primary.epoch, tag=primary.tag)
            if isinstance((yield call), a.Released):
                session.counters.add("released")
                session.book.strike(kept)
                return
    except GateUnavailable as error:
        logger.info(LogLine("release_owed", hold=kept.hold_id, **failure(error)))
    session.wake()


def _ready(session: Session, organization: str) -> Primary | Passing:
    """The primary to ask, or why none is to be asked now."""
    if session.broken is not None:
        return Passing(session.broken, is_final=True)
    if session.trouble is not None:
        return Passing(session.trouble, "spool", is_final=True)
    if session.emitter is None:
        return Passing("this emitter begins")
    try:
        primary = session.primary_of(organization)
    except GateUnavailable as error:
        return Passing(str(error), "away", is_final=True)
    if primary.trouble is not None:
        is_final = primary.is_away and primary.was_ready
        return Passing(primary.trouble, primary.obstacle, is_final=is_final)
    return primary
