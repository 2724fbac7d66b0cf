"""Following a pipeline: each primary is told what was folded of its organizations, on its own, so that one
that is away keeps nothing from the others.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping

import msgspec

from tollkeeper.enforcement.means import Means
from tollkeeper.enforcement.primary_applying import Place, PrimaryApplier
from tollkeeper.errors import Unavailable
from tollkeeper.ledger.effects import Effects, OrganizationEffect
from tollkeeper.ledger.port import Position
from tollkeeper.logline import LogLine, failure

logger = logging.getLogger(__name__)


class _Owned(msgspec.Struct):
    """One owned partition: the fold's position, and what a primary that turns up now was told of."""

    position: int
    applied: int


class Applier:
    """Follows one pipeline (`pipeline.following.Follower`); `tick` may run in another thread."""

    is_following = True

    def __init__(self, means: Means) -> None:
        self._means = means
        self._lock = threading.Lock()
        self._generation = 0
        self._owned: dict[int, _Owned] = {}
        self._primaries: dict[str, PrimaryApplier] = {}

    def adopted(self, generation: int, positions: Mapping[int, Position]) -> None:
        """Follow these partitions from here on; what was folded after `applied_offset` is caught up with."""
        with self._lock:
            self._generation = generation
            self._owned = {
                partition: _Owned(position.next_offset, position.applied_offset or 0)
                for partition, position in positions.items()
            }
            for primary in self._primaries.values():
                primary.adopted(generation, self._places())

    def applied(self) -> dict[int, int]:
        """Up to where every primary was told of each partition, for the next transaction to store."""
        with self._lock:
            return self._applied()

    def behind(self) -> list[int]:
        """The partitions of which a primary lacks something."""
        with self._lock:
            if not self._primaries:
                return sorted(
                    one for one, owned in self._owned.items() if owned.applied < owned.position
                )
            return sorted({one for primary in self._primaries.values() for one in primary.behind()})

    def folded(self, effects: Effects) -> None:
        """Tell Redis what a committed round did. Raises nothing that is Unavailable."""
        if effects.generation != self._generation:
            return
        try:
            shares = self._shares(effects)
        except Unavailable as away:  # a cluster that is being changed
            logger.warning(LogLine("gate_not_told", **failure(away)))
            self._begin_again(effects)
            return
        self._move(effects)
        for primary, share in shares:
            primary.folded(share)
        self._means.observer.behind(len(self.behind()))

    def tick(self) -> bool:
        """Catch up with some of what Redis lacks; whether it lacks nothing any more."""
        if self.behind():
            try:
                tags = self._means.functions.tags()
            except Unavailable as away:
                logger.warning(LogLine("gate_not_told", **failure(away)))
                return False
            with self._lock:
                primaries = [self._primary(tag) for tag in sorted({*tags, *self._primaries})]
            for primary in primaries:
                primary.tick()
        behind = self.behind()
        self._means.observer.behind(len(behind))
        return not behind

    def _shares(self, effects: Effects) -> list[tuple[PrimaryApplier, Effects]]:
        """What each primary is told: its own organizations, and what is said to all of them."""
        organizations: dict[str, list[OrganizationEffect]] = defaultdict(list)
        for one in effects.organizations:
            organizations[self._means.functions.tag_of(one.organization)].append(one)
        with self._lock:
            tags = {*self._primaries, *effects.epochs, *organizations}
            return [
                (
                    self._primary(tag),
                    msgspec.structs.replace(
                        effects,
                        organizations=tuple(organizations[tag]),
                        epochs={tag: effects.epochs[tag]} if tag in effects.epochs else {},
                    ),
                )
                for tag in sorted(tags)
            ]

    def _move(self, effects: Effects) -> None:
        with self._lock:
            for partition, position in effects.positions.items():
                if (owned := self._owned.get(partition)) is not None:
                    owned.position = max(owned.position, position)

    def _begin_again(self, effects: Effects) -> None:
        """Nobody knows whose this round was: whichever primaries turn up, none was told of it."""
        with self._lock:
            for partition, applied in self._applied().items():
                self._owned[partition].applied = applied
            self._primaries = {}
        self._move(effects)

    def _applied(self) -> dict[int, int]:
        primaries = self._primaries.values()
        return {
            partition: min(
                (primary.applied(partition) for primary in primaries), default=owned.applied
            )
            for partition, owned in self._owned.items()
        }

    def _primary(self, tag: str) -> PrimaryApplier:
        if tag not in self._primaries:
            self._primaries[tag] = primary = PrimaryApplier(self._means, tag)
            primary.adopted(self._generation, self._places())
        return self._primaries[tag]

    def _places(self) -> dict[int, Place]:
        return {one: Place(owned.position, owned.applied) for one, owned in self._owned.items()}
