"""Making organizations known that are asked for: from one SQL snapshot each, at a primary that is open.

Whatever speaks against a snapshot, the request stays on Redis' list and another snapshot is read.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import msgspec

from tollkeeper.enforcement.asking import run_all
from tollkeeper.enforcement.means import Means
from tollkeeper.enforcement.observing import Outcome
from tollkeeper.errors import TollkeeperError
from tollkeeper.failpoints import failpoint
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import Snapshot
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.keys import SINGLE
from tollkeeper.ledger.enforcing import EpochRow, read_epochs, snapshots
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.logline import LogLine, failure
from tollkeeper.outbox.database import reading

logger = logging.getLogger(__name__)

TRIES = 3
"""Snapshots of one organization in one tick, when holds or folds come in between."""
_DONE: frozenset[Outcome] = frozenset(("warmed", "known", "nobody"))
_AGAIN: frozenset[Outcome] = frozenset(("unexamined", "below_floor"))


class _Books(msgspec.Struct, frozen=True):
    """What one SQL snapshot shows: the organizations, and what to say where there is none."""

    organizations: dict[str, Snapshot | None]
    epoch: EpochRow | None
    positions: dict[int, int]


class Warmer:
    """Warms for one primary; several may do so at once. Raises Unavailable from `tick`."""

    def __init__(self, means: Means, tag: str = SINGLE) -> None:
        self._means = means
        self._functions = means.functions
        self._tag = tag

    def tick(self) -> int:
        """Warm up to `warm_at_once` of those that wait longest; how many need no more warming.

        As long as that isn't 0 there may be more to do at once.
        """
        key = self._functions.run(encoding.read_epoch(tag=self._tag))
        if not isinstance(key, a.EpochKey) or key.phase != "open":
            return 0
        most = self._means.settings.warm_at_once
        asked = self._functions.run(encoding.asked_to_warm(most=most, tag=self._tag))
        return self.warm(asked, now=key.now) if asked else 0

    def warm(self, organizations: Sequence[str], *, now: int) -> int:
        """Warm these, asked for or not; `now` is Redis' clock. How many are known now, or don't exist."""
        done = 0
        for _ in range(TRIES):
            outcomes = self._try(organizations, now)
            for outcome, count in Counter(outcomes.values()).items():
                self._means.observer.warmed(outcome, count)
            done += sum(one in _DONE for one in outcomes.values())
            organizations = [name for name, one in outcomes.items() if one in _AGAIN]
            if not organizations:
                break
        return done

    def _try(self, organizations: Sequence[str], now: int) -> dict[str, Outcome]:
        """From one snapshot, of all that Redis has open now."""
        listed = run_all(self._functions, [*map(encoding.open_holds, organizations)])
        wanted: dict[str, tuple[str, ...]] = {}
        outcomes: dict[str, Outcome] = {}
        for name, held in zip(organizations, listed, strict=True):
            if isinstance(held, TollkeeperError):
                outcomes[name] = _refused(name, held)
            else:
                wanted[name] = tuple(one.hold_id for one in held)
        failpoint("enforcement.before_snapshot")
        books = self._read(wanted, now)
        failpoint("enforcement.after_snapshot")
        calls = {name: call for name in wanted if (call := self._call(name, books)) is not None}
        answers = run_all(self._functions, [*calls.values()])
        for name, answer in zip(calls, answers, strict=True):
            outcomes[name] = _outcome(name, answer)
        return outcomes

    def _read(self, wanted: dict[str, tuple[str, ...]], now: int) -> _Books:
        with reading(self._means.engine) as connection:
            places = positions(connection, live_generation(connection))
            return _Books(
                snapshots(connection, wanted, now_micros=now, tag_of=self._functions.tag_of),
                read_epochs(connection).get(self._tag),
                {partition: place.next_offset for partition, place in places.items()},
            )

    def _call(self, name: str, books: _Books) -> Call[a.WarmAnswer | a.DenyAnswer] | None:
        snapshot, row = books.organizations[name], books.epoch
        if snapshot is not None:
            return encoding.warm(name, snapshot, tag=self._tag)
        if row is None:
            return None
        return encoding.deny(
            name,
            epoch=row.epoch,
            phase=row.phase,
            position=books.positions[self._means.partition_of(name)],
            for_micros=round(self._means.settings.nobody_s * 1_000_000),
            tag=self._tag,
        )


def _outcome(name: str, answer: a.WarmAnswer | a.DenyAnswer | TollkeeperError) -> Outcome:
    match answer:
        case a.Warmed():
            return "warmed"
        case a.AlreadyKnown():
            return "known"
        case a.Denied():
            return "nobody"
        case a.BelowFloor():
            return "below_floor"
        case a.ReadTooEarly() | a.Untrusted() | a.Stale():
            return "not_open"
        case a.Unexamined():
            return "unexamined"
        case a.Elsewhere():
            return "elsewhere"
        case TollkeeperError():
            return _refused(name, answer)


def _refused(name: str, error: TollkeeperError) -> Outcome:
    """The organization stays unknown, and so closed, until somebody has looked."""
    logger.error(LogLine("not_warmed", organization=name, **failure(error)))
    return "refused"
