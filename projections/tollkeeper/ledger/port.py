"""The ledger port: what the fold needs of its storage. Every adapter passes one suite.

All effects of a batch, its position on the log included, happen in one transaction or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from tollkeeper.ledger.effects import EpochRow
from tollkeeper.ledger.fold_notifying import StandingReads
from tollkeeper.ledger.notifications import Notification
from tollkeeper.ledger.rows import ChargedBefore, LetterKey, Place, PlainRow
from tollkeeper.ledger.view import Changes, View, Wanted
from tollkeeper.log.port import Log


class Position(msgspec.Struct, frozen=True):
    """How far a generation has folded one partition, and of which log."""

    next_offset: int
    log_identity: str
    last_record_hash: bytes | None = None
    last_appended_at: int | None = None
    applied_offset: int | None = None
    """How far the gate has what this generation folded; None when it was never told anything."""


class Move(msgspec.Struct, frozen=True):
    """One partition's step: from the position where the fold stood to the one behind its batch.

    Where `to` has no applied offset, the one that is there stays.
    """

    partition: int
    first_offset: int
    to: Position


class LedgerTransaction(Protocol):
    """One transaction that may write. Nothing is visible to others before it is committed."""

    def live_generation(self) -> int:
        """The generation that queries read. Raises BrokenInvariant when there is none."""
        ...

    def positions(self, generation: int) -> dict[int, Position]:
        """The generation's position on each partition; a generation without rows was retired."""
        ...

    def advance(self, generation: int, moves: Sequence[Move]) -> bool:
        """Compare and set every position, in partition order; False when another fold moved one.

        Call it first: it is the fence against zombies. On False nothing else may be written.
        """
        ...

    def load(self, generation: int, wanted: Wanted) -> View:
        """The ledger's state at these keys."""
        ...

    def insert_charges(
        self, generation: int, rows: Sequence[PlainRow]
    ) -> Mapping[tuple[str, str], ChargedBefore]:
        """Insert those whose (organization, event id) is new; of equal ids the first in `rows` wins.

        Answers nothing when all were new, else what now stands under the ids of `rows`: a row was
        inserted exactly when its own place stands there.
        """
        ...

    def open_letters(
        self, generation: int, keys: Collection[LetterKey]
    ) -> Mapping[LetterKey, Place]:
        """The open letters of these usage events, the first of each."""
        ...

    def standings(self, generation: int) -> StandingReads:
        """How organizations stand; to be asked before anything of a batch is written."""
        ...

    def tell(self, notifications: Sequence[Notification]) -> int:
        """Write those that were never told, to be delivered; answers how many they were."""
        ...

    def epochs(self) -> Mapping[str, EpochRow]:
        """The epoch of each primary of the gate, as this transaction sees it."""
        ...

    def write(self, generation: int, changes: Changes, view: View) -> None:
        """Write everything of a settled batch but the charges, which are there already."""
        ...


class Ledger(Protocol):
    """The ledger as a whole."""

    @property
    def is_server(self) -> bool:
        """Whether it works in a process of its own: then the next batch is read meanwhile."""
        ...

    def transaction(self) -> AbstractContextManager[LedgerTransaction]:
        """Commits at the end, rolls back on an exception. Raises StoreUnavailable."""
        ...

    def live_positions(self) -> tuple[int, dict[int, Position]]:
        """The live generation and how far it has folded, of one instant."""
        ...

    def note_applied(self, generation: int, applied: Mapping[int, int]) -> None:
        """How far the gate has what was folded, as a next offset of each partition.

        Rounds write that by themselves: this is for who folds no further, so that the next owner
        doesn't take the last round for one that the gate was never told of.
        """
        ...

    def raise_barriers(self, log: Log, group: str) -> dict[int, int]:
        """See `ledger.barrier`: keep commands waiting where this ledger was set back."""
        ...

    def begin_generation(self, created_at: int, *, partitions: int, log_identity: str) -> int:
        """A new, empty generation at offset 0 of this log; the first of all is live at once."""
        ...

    def drop_generation(self, generation: int) -> None:
        """Delete a generation that isn't live, with all its rows."""
        ...

    def close(self) -> None:
        """Give back every connection."""
        ...
