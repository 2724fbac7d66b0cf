"""Keeping one primary's epoch: its lease while all is well, a new epoch when its server isn't the same.

Any number of consumers do this at once, and each may die anywhere: what is done is decided anew at every
tick, from Redis and SQL. Only timers are remembered, and they begin again with who looks next.
"""

from __future__ import annotations

import msgspec

from tollkeeper.enforcement.means import Means
from tollkeeper.enforcement.observing import EpochState
from tollkeeper.enforcement.recovering import Recovery
from tollkeeper.enforcement.stepping import Knowledge, Seen, Verdict, incarnation_of, next_step
from tollkeeper.errors import BrokenInvariant, GateUnavailable
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import Incarnation
from tollkeeper.gate.keys import SINGLE
from tollkeeper.ledger.enforcing import EpochRow, raise_epoch, read_epochs
from tollkeeper.outbox.database import reading, writing

STEPS_A_TICK = 6
"""From a new server to an open epoch it takes raise, begin, recover and keep."""


class PrimaryState(msgspec.Struct, frozen=True):
    """Where a primary is after a tick, and what is waited for."""

    tag: str
    epoch: int
    state: EpochState
    waits_for: str = ""


class EpochKeeper:
    """One primary, kept by one consumer; not for several threads. Raises Unavailable from `tick`."""

    def __init__(self, means: Means, tag: str = SINGLE, *, library: str | None = None) -> None:
        """`library` is this process's own version; what is asked follows the one that decides."""
        self.tag = tag
        self._own = library or means.functions.library
        self._means = means
        self._functions = means.functions
        self._settings = means.settings
        self._observer = means.observer
        self._recovery = Recovery(means, tag)
        self._server: Incarnation | None = None
        self._looked_at: Incarnation | None = None
        self._begun = 0
        self._row_since = (0, 0.0)
        self._has_looked = False

    def tick(self) -> PrimaryState:
        """Take the steps that are due now, and renew the lease; never waits but for answers.

        Call it a few times within a lease.
        """
        state = PrimaryState(self.tag, 0, "unknown")
        for _ in range(STEPS_A_TICK):
            state, goes_on = self._step()
            if not goes_on:
                break
        self._observer.epoch(self.tag, state.epoch, state.state)
        return state

    def _step(self) -> tuple[PrimaryState, bool]:
        """One step; and whether another one may be due at once."""
        try:
            seen = self._look()
        except GateUnavailable:
            # A new server has not the version that was followed, and only our own can be loaded.
            self._functions.follow(self._own)
            raise
        verdict = next_step(seen, self._knowledge(seen))
        self._follow(seen, verdict)
        if seen.row is None or verdict.step == "raise":
            self._raise(seen, verdict.cause)
            return self._state(seen, "raised"), True
        return self._take(verdict, seen, seen.row)

    def _take(self, verdict: Verdict, seen: Seen, row: EpochRow) -> tuple[PrimaryState, bool]:
        match verdict.step:
            case "begin":
                return self._begin(seen, row)
            case "take_over":
                answer = self._functions.run(encoding.take_over(row.epoch, tag=self.tag))
                self._has_looked = isinstance(answer, a.Done)
                return self._state(seen, "superseded"), self._has_looked
            case "recover":
                self._renew(seen, row)
                waits_for = self._recovery.advance(row)
                return self._state(seen, "recovering", waits_for), not waits_for
            case "keep":
                self._renew(seen, row)
                return self._state(seen, "open"), False
            case "elsewhere":
                self._functions.reconnect()
                return self._state(seen, "elsewhere"), False
            case "superseded":
                return self._state(seen, "superseded"), False
        raise BrokenInvariant(f"no such step: {verdict.step}")

    def _follow(self, seen: Seen, verdict: Verdict) -> None:
        """Ask the version that decides, so that folds arrive while versions are mixed; our own begins."""
        if seen.key is None or verdict.step in ("raise", "begin", "take_over"):
            self._functions.follow(self._own)
        else:
            self._functions.follow(seen.key.library)

    def _look(self) -> Seen:
        seen = self._look_once()
        if self._looked_at not in (None, seen.server):
            # Some connections may still lead to a server that was replaced: what is decided now is
            # about the one to which the address leads.
            self._functions.reconnect()
            seen = self._look_once()
        self._looked_at = seen.server
        return seen

    def _look_once(self) -> Seen:
        # The key first: its `now` is what the lease counts from, and must be asked before SQL's row.
        key = self._functions.run(encoding.read_epoch(tag=self.tag))
        server = self._functions.incarnation(tag=self.tag)
        with reading(self._means.engine) as connection:
            row = read_epochs(connection).get(self.tag)
        known = key if isinstance(key, a.EpochKey) else None
        return Seen(known, server, row, self._own)

    def _knowledge(self, seen: Seen) -> Knowledge:
        key, row = seen.key, seen.row
        epoch = row.epoch if row is not None else 0
        if self._row_since[0] != epoch:
            self._row_since = (epoch, self._means.monotonic())
        if key is not None and key.epoch == epoch:
            self._begun = epoch
        is_mine = row is not None and incarnation_of(row) == self._server
        if row is not None and incarnation_of(row) == seen.server:
            self._server = seen.server
        is_idle = key is None or key.lease_until <= key.now
        is_new = not self._has_looked
        if key is not None and key.library == self._own:
            self._has_looked = True
        return Knowledge(
            begun=self._begun,
            is_ours_to_mend=is_mine or self._row_age_s() >= self._settings.elsewhere_s,
            may_take_over=is_new or is_idle,
        )

    def _row_age_s(self) -> float:
        """For how long SQL's row was seen at its epoch."""
        return self._means.monotonic() - self._row_since[1]

    def _raise(self, seen: Seen, cause: str) -> None:
        """Above the row and above the key, which may be of a time that SQL has forgotten."""
        expected = seen.row.epoch if seen.row is not None else 0
        above = seen.key.epoch if seen.key is not None else 0
        with writing(self._means.engine) as connection:
            epoch = raise_epoch(
                connection,
                self.tag,
                expected=expected,
                above=above,
                incarnation=seen.server,
                now_micros=self._means.clock(),
            )
        if epoch is not None:
            self._server = seen.server
            self._observer.raised(self.tag, epoch, cause)

    def _begin(self, seen: Seen, row: EpochRow) -> tuple[PrimaryState, bool]:
        """Write the new key, once no server may grant under an older one."""
        # Nothing was ever leased before the first epoch.
        is_first = row.epoch == 1 and seen.key is None
        if not is_first and self._row_age_s() < self._settings.leases_over_after_s:
            return self._state(seen, "raised", "old leases"), False
        call = encoding.begin_epoch(row.epoch, incarnation_of(row), tag=self.tag)
        answer = self._functions.run(call)
        return self._state(seen, "raised"), isinstance(answer, a.Done)

    def _renew(self, seen: Seen, row: EpochRow) -> None:
        if seen.key is None:
            return
        answer = self._functions.run(
            encoding.renew(
                row.epoch,
                seen.server,
                asked_at=seen.key.now,
                lease_micros=self._settings.lease_micros,
                tag=self.tag,
            )
        )
        if isinstance(answer, a.Renewed):
            self._observer.leased(self.tag, answer.lease_until)
        else:
            self._observer.not_applied(answer.cause)

    def _state(self, seen: Seen, state: EpochState, waits_for: str = "") -> PrimaryState:
        epoch = seen.row.epoch if seen.row is not None else 0
        return PrimaryState(self.tag, epoch, state, waits_for)
