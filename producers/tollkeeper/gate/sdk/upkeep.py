"""What a session has to do beside the calls, as one round that never waits: `tick`.

It tells every primary that this emitter lives, and learns epoch, phase and lease; re-asserts all open
holds to a recovering server; begins anew after a retirement; reads prices and policies when there are
others; and delivers releases, usage and reports that could not be delivered at once. What can't be asked
is left to the next round.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from tollkeeper.errors import (
    BrokenInvariant,
    GateUnavailable,
    InvalidInput,
    TollkeeperError,
    Unavailable,
)
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.sdk.book import Kept
from tollkeeper.gate.sdk.obstacles import obstacle_of
from tollkeeper.gate.sdk.primary import Primary
from tollkeeper.gate.sdk.recovery import reassert_all, say_answered
from tollkeeper.gate.sdk.reports import Reports
from tollkeeper.gate.sdk.session import MICROS, Ending, Session
from tollkeeper.logline import LogLine, failure

logger = logging.getLogger(__name__)


class Upkeep:
    """One a session."""

    def __init__(self, session: Session, reports: Reports) -> None:
        self._session = session
        self._reports = reports
        self._ticking = threading.Lock()
        self._identifying: Future[str] | None = None
        self._retired: set[str] = set()
        self._marks: dict[tuple[str, str, int], Callable[[], bool]] = {}
        """By primary, emitter and epoch: whether all is on the log that had ended when it recovered."""
        self._said: dict[tuple[str, ...], str] = {}
        """What is away, and the last cause that was logged of it."""
        self._reconnected_at = -math.inf

    def tick(self) -> None:
        """One round, by one thread at a time. What it raises is a bug, or a newer release's doing.

        Nothing is granted from then on, until a whole round has succeeded: any part may be done again.
        """
        session = self._session
        with self._ticking:
            session.counters.add("ticks")
            try:
                self._identify()
                self.take_back_abandoned()
                for primary in self._looked_at():
                    self._follow(primary)
                self._hand_in_owed()
                self._release_owed()
                self._reports.deliver()
            except Exception as error:
                # Without its upkeep this process would miss the next epoch.
                session.broken = f"the gate's upkeep broke: {error}"
                raise
            session.broken = None

    def leave_parent(self) -> None:
        """In a forked child: the lock may be held by a thread that isn't here."""
        self._ticking = threading.Lock()
        self._identifying = None
        self._marks = {}
        self._retired = set()

    def _identify(self) -> None:
        session = self._session
        future = self._identifying
        if future is None:
            future = self._identifying = session.recorder.identity()
            if not future.done():
                future.add_done_callback(lambda _: session.wake())
        if not future.done():
            return
        self._identifying = None
        try:
            # What is known of primaries is about the one before: whoever asks meanwhile is told to wait.
            session.emitter = future.result()
            session.trouble = None
            self._is_back("spool_away")
        except Unavailable as error:
            self._failed("spool_away", error)
            session.trouble = f"usage couldn't be reported: {error}"

    def _looked_at(self) -> list[Primary]:
        session = self._session
        try:
            tags = session.functions.tags()
        except GateUnavailable as error:
            self._failed("gate_has_no_shape", error)
            for primary in session.primaries():
                primary.fail(str(error), now=session.monotonic(), lease_s=session.settings.lease_s)
            return []
        self._is_back("gate_has_no_shape")
        return [session.primary(tag) for tag in tags]

    def _follow(self, primary: Primary) -> None:
        """Be seen there, also as the emitters before this one that have open holds."""
        session = self._session
        current = () if session.emitter is None else (session.emitter,)
        former = session.book.emitters() - self._retired - {*current}
        for emitter in (*current, *sorted(former)):
            asked_at = session.monotonic()
            try:
                answer = session.functions.run(encoding.touch(emitter, tag=primary.tag))
                self._hear(primary, answer, emitter=emitter, asked_at=asked_at)
                self._is_back("gate_away", primary=primary.tag)
            except GateUnavailable as error:
                self._failed("gate_away", error, primary=primary.tag)
                primary.fail(str(error), now=session.monotonic(), lease_s=session.settings.lease_s)
                self._reconnect()
                return
            if not _is_kept(answer):
                self._reconnect()

    def _hear(
        self, primary: Primary, answer: a.TouchAnswer, *, emitter: str, asked_at: float
    ) -> None:
        session = self._session
        if isinstance(answer, a.Untrusted):
            cause = f"the gate doesn't trust: {answer.cause}"
            primary.distrust(cause, obstacle_of(answer.cause), now=asked_at)
            return
        if isinstance(answer, a.Touched) and not session.follow(answer.library):
            primary.distrust(f"version {answer.library} decides: upgrade this", now=asked_at)
            return
        if emitter == session.emitter:
            session.redis_ahead_micros = answer.now - session.monotonic() * MICROS
            with session.book.lock:
                primary.hear(answer, emitter=emitter, asked_at=asked_at)
            if isinstance(answer, a.Touched):
                session.published.read(session.functions, answer, tag=primary.tag)
        if isinstance(answer, a.NoEpoch):
            return
        with session.book.lock:
            primary.see_epoch(answer.epoch)
        if answer.standing == "retired":
            self._begin_anew(emitter)
        elif answer.epoch == primary.epoch and _owes_answer(answer):
            self._answer_recovering(primary, emitter, answer.epoch)

    def _reconnect(self) -> None:
        """Not at each of the ticks that waiting callers ask for."""
        session = self._session
        now = session.monotonic()
        if now - self._reconnected_at >= session.settings.tick_s:
            self._reconnected_at = now
            session.reconnect()

    def _begin_anew(self, emitter: str) -> None:
        session = self._session
        self._retired.add(emitter)
        if emitter != session.emitter:
            return
        session.counters.add("began_anew")
        logger.warning(LogLine("emitter_was_retired", emitter=emitter))
        session.emitter = None
        session.recorder.begin_anew(emitter)
        session.wake()

    def _answer_recovering(self, primary: Primary, emitter: str, epoch: int) -> None:
        session = self._session
        tag_of = session.functions.tag_of
        holds = [
            kept.as_held_call()
            for kept in session.book.having(lambda one: one.is_open_for(emitter))
            if tag_of(kept.organization) == primary.tag
        ]
        if not reassert_all(
            session.functions, holds, emitter=emitter, epoch=epoch, tag=primary.tag
        ):
            session.wake()
            return
        # After the list: what isn't on it any more is durable by now.
        key = (primary.tag, emitter, epoch)
        if key not in self._marks:
            self._marks[key] = session.recorder.mark()
        if self._marks[key]() and say_answered(
            session.functions, emitter=emitter, epoch=epoch, tag=primary.tag
        ):
            self._marks = {one: mark for one, mark in self._marks.items() if one[2] >= epoch}
            session.counters.add("reasserted", len(holds))
            logger.info(LogLine("holds_reasserted", emitter=emitter, epoch=epoch, holds=len(holds)))
            session.wake()

    def take_back_abandoned(self) -> None:
        """End the holds that nobody will end any more."""
        session = self._session
        while session.abandoned:
            kept, ending = session.abandoned.popleft()
            if ending is not None and self._settle_abandoned(kept, ending):
                continue
            if session.book.has(kept) and kept.state == "open":
                session.counters.add("abandoned")
                logger.warning(LogLine("hold_abandoned", hold=kept.hold_id))
                session.let_go(kept)

    def _settle_abandoned(self, kept: Kept, ending: Ending) -> bool:
        """Whether there is usage, which is on its way then."""
        invalid: InvalidInput | None = None
        for _ in range(2):
            usages = ending(invalid)
            if usages is None:
                return False
            try:
                self._session.settle(kept, usages)
                return True
            except InvalidInput as error:
                invalid = error
            except Unavailable as error:  # handed in again by each tick
                self._failed("spool_away", error)
                return True
        return False

    def _hand_in_owed(self) -> None:
        """Usage that the spool didn't accept, or that a closing loop withdrew."""
        for kept in self._session.book.owed("settling"):
            future = kept.handed_in
            if future is not None and future.done() and not self._was_accepted(future):
                self._session.hand_in(kept)

    def _was_accepted(self, future: Future[Any]) -> bool:
        return not future.cancelled() and future.exception() is None

    def _release_owed(self) -> None:
        session = self._session
        calls, asked = [], []
        for kept in session.book.owed("releasing"):
            if kept.hold_id is None:
                session.book.strike(kept)
                continue
            try:
                primary = session.primary_of(kept.organization)
            except GateUnavailable:
                continue  # its primary is being replaced: the next round
            if primary.epoch:
                asked.append(kept)
                calls.append(encoding.release(kept.hold_id, epoch=primary.epoch, tag=primary.tag))
        for kept, answer in zip(asked, self._answers(calls), strict=True):
            if isinstance(answer, a.Released):
                session.counters.add("released")
                session.book.strike(kept)
            elif isinstance(answer, a.HoldIdRefused):
                raise BrokenInvariant(f"the release of {kept.hold_id} was refused: {answer.cause}")

    def _answers(self, calls: Sequence[encoding.Call[Any]]) -> list[Any]:
        return self._session.functions.run_many(calls) if calls else []

    def _failed(self, event: str, error: TollkeeperError, **where: str) -> None:
        """Counted each time, and said once: there are many rounds in an outage."""
        self._session.counters.add("ticks_failed")
        key = (event, *where.values())
        if self._said.get(key) != str(error):
            self._said[key] = str(error)
            logger.warning(LogLine(event, **where, **failure(error)))

    def _is_back(self, event: str, **where: str) -> None:
        if self._said.pop((event, *where.values()), None) is not None:
            logger.info(LogLine(f"{event}_no_more", **where))


def _owes_answer(answer: a.Touched) -> bool:
    return answer.phase == "recovering" and answer.standing == "started"


def _is_kept(answer: a.TouchAnswer) -> bool:
    """Whether it is the server that consumers keep; it may have been replaced, and not know it."""
    return isinstance(answer, a.Touched) and answer.lease_until > answer.now
