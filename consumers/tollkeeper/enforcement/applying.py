"""Following a pipeline: Redis is told what was folded, after each commit at once, and later what couldn't be
told then. A primary that is away keeps nothing from the others.

Redis moves from one offset of an organization to the next by compare and set, or knows it no more; so it
does no harm when this is done twice, late, or by a zombie. What mustn't be is that something is left out
and counted as told: `applied` moves only over what Redis has answered.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Collection, Mapping

import msgspec
from sqlalchemy import Connection

from tollkeeper.enforcement.bounded import Deadline
from tollkeeper.enforcement.freeing import make_unknown
from tollkeeper.enforcement.listing import EmitterList
from tollkeeper.enforcement.means import Means
from tollkeeper.enforcement.patience import Patience
from tollkeeper.enforcement.telling import Teller
from tollkeeper.errors import Unavailable
from tollkeeper.ledger.effects import Effects, EpochRow
from tollkeeper.ledger.enforcing import (
    Emitters,
    emitters,
    read_epochs,
    retired_since,
    touched_since,
)
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.port import Position
from tollkeeper.logline import LogLine, failure
from tollkeeper.outbox.database import reading

logger = logging.getLogger(__name__)


class _Backlog(msgspec.Struct):
    """What Redis lacks of a partition up to a position; it shrinks as it is told."""

    position: int
    organizations: list[str]
    retired: tuple[str, ...]


class _Place(msgspec.Struct):
    """One owned partition. `position` is the fold's; Redis was told of everything before `applied`, and of
    the rounds of `chain`, from an offset to a next offset. `backlog` is what it is being told of now.
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


class Applier:
    """Follows one pipeline (`pipeline.following.Follower`); `tick` may run in another thread."""

    is_following = True

    def __init__(self, means: Means) -> None:
        self._means = means
        self._patience = Patience(means)
        self._teller = Teller(means, self._patience)
        self._lists: dict[str, EmitterList] = {}
        self._tags: tuple[str, ...] = ()
        """All primaries, as they were when somebody last had the time to look."""
        self._lock = threading.Lock()
        self._catching_up = threading.Lock()
        self._generation = 0
        self._places: dict[int, _Place] = {}

    def adopted(self, generation: int, positions: Mapping[int, Position]) -> None:
        """Follow these partitions from here on; what was folded after `applied_offset` is caught up with."""
        with self._lock:
            self._generation = generation
            self._places = {
                partition: _Place(position.next_offset, position.applied_offset or 0)
                for partition, position in positions.items()
            }

    def applied(self) -> dict[int, int]:
        """Up to where Redis was told of each partition, for the next transaction to store."""
        with self._lock:
            return {partition: place.applied for partition, place in self._places.items()}

    def behind(self) -> list[int]:
        """The partitions of which Redis lacks something."""
        with self._lock:
            return sorted(one for one, place in self._places.items() if not place.is_whole)

    def folded(self, effects: Effects) -> None:
        """Tell Redis what a committed round did.

        Begins nothing after `apply_within_s`, and raises nothing that is Unavailable.
        """
        with self._lock:
            places = self._move(effects)
        if places:
            try:
                tags = self._tags or self._look_at_the_cluster()
                told = self._teller.tell(effects, places, tags, self._means.deadline())
            except Unavailable as away:
                self._failed(away)
            else:
                with self._lock:
                    for partition in told:
                        place, first = places[partition]
                        place.round_told(first, effects.positions[partition])
        self._means.observer.behind(len(self.behind()))

    def tick(self) -> bool:
        """Catch up with some of what Redis lacks; whether it lacks nothing any more.

        What was touched meanwhile becomes unknown, since what `apply` would have said is gone.
        """
        # While a primary is left alone nothing could be finished, and SQL isn't read for it.
        if not all(map(self._patience.may_try, self._tags)) or not self._catching_up.acquire(
            blocking=False
        ):
            return False
        try:
            self._look_at_the_cluster()
            self._catch_up(self._means.deadline())
        except Unavailable as away:
            self._failed(away)
        finally:
            self._catching_up.release()
        behind = self.behind()
        self._means.observer.behind(len(behind))
        return not behind

    def _move(self, effects: Effects) -> dict[int, tuple[_Place, int]]:
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
            rows = read_epochs(connection)
            known = emitters(connection, generation)
            for partition, place in behind.items():
                place.backlog = place.backlog or _backlog(connection, generation, partition, place)
        there = self._list(rows, known)
        epochs = {tag: row.epoch for tag, row in rows.items()}
        for partition, place in behind.items():
            if place.backlog is not None and self._clear(
                partition, place.backlog, epochs, there, deadline
            ):
                with self._lock:
                    place.caught_up(place.backlog.position)
                    place.backlog = None

    def _look_at_the_cluster(self) -> tuple[str, ...]:
        self._tags = self._means.functions.tags()
        return self._tags

    def _list(self, rows: Mapping[str, EpochRow], known: Emitters) -> set[str]:
        """Tell every primary who may hold; those that answer."""
        there = set()
        for tag, row in rows.items():
            if not self._patience.may_try(tag):
                continue
            if tag not in self._lists:
                self._lists[tag] = EmitterList(self._means.functions, tag)
            try:
                if self._lists[tag].tell(row, started=known.started, retired=known.retired):
                    there.add(tag)
                else:
                    self._means.observer.not_applied("list")
            except Unavailable as away:
                self._teller.not_told(tag, away)
        return there

    def _clear(
        self,
        partition: int,
        backlog: _Backlog,
        epochs: Mapping[str, int],
        there: Collection[str],
        deadline: Deadline,
    ) -> bool:
        """Tell those that are there until the deadline; whether all primaries of now were told."""
        waiting: defaultdict[str, list[str]] = defaultdict(list)
        for name in backlog.organizations:
            waiting[self._means.functions.tag_of(name)].append(name)
        for tag in sorted(waiting.keys() & there):
            self._clear_at(tag, waiting, epochs, backlog.position, deadline)
        backlog.organizations = [name for names in waiting.values() for name in names]
        of_now = epochs.keys() & {*self._tags}  # one that the cluster has no more still has its row
        if backlog.organizations or not of_now or of_now - {*there}:
            return False
        return self._teller.free(
            partition, backlog.retired, epochs, backlog.position, deadline, tags=sorted(there)
        )

    def _clear_at(
        self,
        tag: str,
        waiting: Mapping[str, list[str]],
        epochs: Mapping[str, int],
        position: int,
        deadline: Deadline,
    ) -> None:
        """Take off this primary's list whom it knows no more."""
        names = waiting[tag]
        while names and not deadline.is_over():
            part = names[-self._means.settings.at_once :]
            try:
                if not make_unknown(self._means.functions, part, epochs, position=position):
                    return
            except Unavailable as away:
                self._teller.not_told(tag, away)
                return
            self._patience.answered(tag)
            del names[-len(part) :]
            self._means.observer.made_unknown(len(part), "behind")

    def _failed(self, away: Unavailable) -> None:
        self._means.observer.not_applied(type(away).__name__)
        logger.warning(LogLine("gate_not_told", **failure(away)))


def _backlog(
    connection: Connection, generation: int, partition: int, place: _Place
) -> _Backlog | None:
    """What was folded after what Redis was told, as this snapshot shows it."""
    position = positions(connection, generation).get(partition)
    if position is None:
        return None
    return _Backlog(
        position.next_offset,
        [*touched_since(connection, generation, partition, place.applied)],
        tuple(retired_since(connection, generation, partition, place.applied)),
    )
