"""Telling one primary what was folded: each round at once, and later what couldn't be told then.

Redis moves from one offset of an organization to the next by compare and set, or knows it no more; so it
does no harm when this is done twice, late, or by a zombie. What mustn't be is that something is left out
and counted as told: `applied` moves only over what this primary has answered.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection

from tollkeeper.enforcement.bounded import Deadline
from tollkeeper.enforcement.freeing import make_unknown
from tollkeeper.enforcement.listing import EmitterList
from tollkeeper.enforcement.means import Means
from tollkeeper.enforcement.telling import Teller
from tollkeeper.errors import Unavailable
from tollkeeper.ledger.effects import Effects
from tollkeeper.ledger.enforcing import emitters, read_epochs, retired_since, touched_since
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.logline import LogLine, failure
from tollkeeper.outbox.database import reading

logger = logging.getLogger(__name__)

MOST_DOUBLED = 5
"""Then the fold waits for it once in half a minute."""


class _Backlog(msgspec.Struct):
    """What Redis lacks of a partition up to a position; it shrinks as it is told."""

    position: int
    organizations: list[str]
    retired: tuple[str, ...]


class Place(msgspec.Struct):
    """One owned partition. `position` is the fold's; the primary was told of everything before `applied`, and
    of the rounds of `chain`, from an offset to a next offset. `backlog` is what it is being told of now.
    """

    position: int
    applied: int
    chain: tuple[int, int] = (0, 0)
    backlog: _Backlog | None = None

    @property
    def is_whole(self) -> bool:
        return self.applied >= self.position

    def round_told(self, first: int, end: int) -> None:
        self.chain = (self.chain[0] if self.chain[1] == first else first, end)
        self.caught_up(self.applied)

    def caught_up(self, position: int) -> None:
        self.applied = max(self.applied, position)
        if self.chain[0] <= self.applied <= self.chain[1]:
            self.applied = self.chain[1]


class PrimaryApplier:
    """Follows for one primary; `tick` may run in another thread. Raises nothing that is Unavailable."""

    def __init__(self, means: Means, tag: str) -> None:
        self._means = means
        self._tag = tag
        self._teller = Teller(means)
        self._list = EmitterList(means.functions, tag)
        self._lock = threading.Lock()
        self._catching_up = threading.Lock()
        self._generation = 0
        self._places: dict[int, Place] = {}
        self._patience = _Patience(means)

    def adopted(self, generation: int, places: dict[int, Place]) -> None:
        """Follow these from here on."""
        with self._lock:
            self._generation = generation
            self._places = places

    def applied(self, partition: int) -> int:
        """Up to where this primary was told of it."""
        with self._lock:
            return self._places[partition].applied

    def behind(self) -> list[int]:
        """The partitions of which it lacks something."""
        with self._lock:
            return sorted(one for one, place in self._places.items() if not place.is_whole)

    def folded(self, effects: Effects) -> None:
        """Tell it what a committed round did to its organizations; begins nothing after `apply_within_s`."""
        with self._lock:
            places = self._move(effects)
        if not places or not self._patience.may_hold_up_the_fold():
            return
        try:
            told = self._teller.tell(effects, places, self._means.deadline())
        except Unavailable as away:
            self._failed(away)
            return
        self._patience.answered()
        with self._lock:
            for partition in told:
                place, first = places[partition]
                place.round_told(first, effects.positions[partition])

    def tick(self) -> None:
        """Catch up with some of what it lacks.

        What was touched meanwhile becomes unknown, since what `apply` would have said is gone.
        """
        if not self._patience.may_try() or not self._catching_up.acquire(blocking=False):
            return
        try:
            self._catch_up(self._means.deadline())
        except Unavailable as away:
            self._failed(away)
        finally:
            self._catching_up.release()

    def _move(self, effects: Effects) -> dict[int, tuple[Place, int]]:
        """Note how far was folded; each partition that is followed, and where the round began.

        Also of one that is behind Redis is told: what doesn't follow on what it has makes unknown.
        """
        places = {}
        for partition, position in effects.positions.items():
            place = self._places.get(partition)
            if place is not None and effects.generation == self._generation:
                places[partition] = place, place.position
                place.position = max(place.position, position)
        return places

    def _catch_up(self, deadline: Deadline) -> None:
        with self._lock:
            generation = self._generation
            behind = {one: place for one, place in self._places.items() if not place.is_whole}
        if not behind:
            return
        with reading(self._means.engine) as connection:
            if live_generation(connection) != generation:
                return  # its partitions are about to be adopted anew
            row = read_epochs(connection).get(self._tag)
            if row is None:
                return  # it has no epoch yet
            known = emitters(connection, generation)
            for partition, place in behind.items():
                place.backlog = place.backlog or self._backlog(connection, partition, place)
        epochs = {self._tag: row.epoch}
        if not self._list.tell(row.epoch, started=known.started, retired=known.retired):
            self._means.observer.not_applied("list")
            return
        self._patience.answered()
        for partition, place in behind.items():
            if place.backlog is not None:
                if not self._clear(partition, place.backlog, epochs, deadline):
                    return
                with self._lock:
                    place.caught_up(place.backlog.position)
                    place.backlog = None

    def _clear(
        self, partition: int, backlog: _Backlog, epochs: Mapping[str, int], deadline: Deadline
    ) -> bool:
        """Tell Redis of it until the deadline; whether all was told."""
        while backlog.organizations:
            part = backlog.organizations[-self._means.settings.at_once :]
            if deadline.is_over() or not make_unknown(
                self._means.functions, part, epochs, position=backlog.position
            ):
                return False
            del backlog.organizations[-len(part) :]
            self._means.observer.made_unknown(len(part), "behind")
        return self._teller.free(partition, backlog.retired, epochs, backlog.position, deadline)

    def _backlog(self, connection: Connection, partition: int, place: Place) -> _Backlog | None:
        """What was folded after what it was told, as this SQL snapshot shows it."""
        generation, tag_of = self._generation, self._means.functions.tag_of
        position = positions(connection, generation).get(partition)
        if position is None:
            return None
        touched = touched_since(connection, generation, partition, place.applied)
        return _Backlog(
            position.next_offset,
            [name for name in touched if tag_of(name) == self._tag],
            tuple(retired_since(connection, generation, partition, place.applied)),
        )

    def _failed(self, away: Unavailable) -> None:
        self._patience.failed()
        self._means.observer.not_applied(type(away).__name__)
        logger.warning(LogLine("gate_not_told", primary=self._tag, **failure(away)))


class _Patience:
    """For how long a primary that doesn't answer is left alone: by the fold ever longer."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._failures = 0
        self._again_at = self._fold_again_at = float("-inf")

    def may_try(self) -> bool:
        """Whether who has time may ask it."""
        return self._means.monotonic() >= self._again_at

    def may_hold_up_the_fold(self) -> bool:
        """Whether the fold may wait for its answer."""
        return self._means.monotonic() >= self._fold_again_at

    def answered(self) -> None:
        """Ask it as before."""
        self._failures = 0
        self._again_at = self._fold_again_at = float("-inf")

    def failed(self) -> None:
        """Leave it alone for a while."""
        now, retry_s = self._means.monotonic(), self._means.settings.retry_s
        self._again_at = now + retry_s
        self._fold_again_at = now + retry_s * 2 ** min(self._failures, MOST_DOUBLED)
        self._failures += 1
