"""Who is told what a round changed, once it is committed: the gate's enforcement, or nobody.

Must not know Redis: what becomes of the effects, and what is done when they can't be brought, is the
follower's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tollkeeper.ledger.effects import Effects
from tollkeeper.ledger.port import Position


class Follower(Protocol):
    """Called by the thread that folds. It mustn't raise because something is away: the fold goes on."""

    @property
    def is_following(self) -> bool:
        """Whether it wants to be told; asked before each round, whose effects are only then made."""
        ...

    def adopted(self, generation: int, positions: Mapping[int, Position]) -> None:
        """These partitions, and no others, are folded from here on, at these positions.

        What was committed from a position's `applied_offset` on (None: from the beginning) may never have
        been told to anybody. That is so after each change of hands, after an offset race that was lost, and
        after a commit whose answer got lost: what was told of before may come again.
        """
        ...

    def folded(self, effects: Effects) -> None:
        """A round was committed. Rounds come in the order of their commits."""
        ...

    def applied(self) -> Mapping[int, int]:
        """How far, as a next offset of each partition, all that was told has arrived.

        Written with the next round that moves the partition.
        """
        ...


class Unfollowed:
    """Nobody is told."""

    is_following = False

    def adopted(self, generation: int, positions: Mapping[int, Position]) -> None:
        """See Follower."""

    def folded(self, effects: Effects) -> None:
        """See Follower."""

    def applied(self) -> Mapping[int, int]:
        """See Follower."""
        return {}
