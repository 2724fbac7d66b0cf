"""Sentences of the protocol that are taken out of the product, one at a time; the simulator has to notice.

What stands in the Lua is taken out in `gate/bugs.py`. Here is the rest: consumers, SDK, spool and fold.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import msgspec
from simulation.servers import SimulatedFunctions

from tollkeeper.enforcement import recovering
from tollkeeper.enforcement.applying import Applier
from tollkeeper.enforcement.telling import Teller
from tollkeeper.gate.answers import Granted
from tollkeeper.gate.sdk.book import Book, Kept
from tollkeeper.gate.sdk.holding import Holding
from tollkeeper.gate.sdk.session import Session
from tollkeeper.gate.sdk.upkeep import Upkeep
from tollkeeper.ledger import snapshots
from tollkeeper.ledger.port import Position
from tollkeeper.ledger.store import SqlTransaction
from tollkeeper.metering.sender import Sender

Bug = Callable[[], AbstractContextManager[object]]


class SeededBug(msgspec.Struct, frozen=True):
    """A bug, and a seed near which it shows."""

    make: Bug
    first_seed: int = 0

    @property
    def name(self) -> str:
        """What it leaves out."""
        return self.make.__name__


def grants_after_the_lease() -> AbstractContextManager[object]:
    """An SDK takes a grant only if the lease still holds when the answer arrives."""
    really = Session.take

    def take(session: Session, kept: Kept, grant: Granted, **more: Any) -> bool:
        eternal = msgspec.structs.replace(grant, lease_until=grant.now + 10**12)
        return really(session, kept, eternal, **more)

    return patch.object(Session, "take", take)


def new_connections_are_trusted() -> AbstractContextManager[object]:
    """Everyone checks on every new connection whether it is the server of the epoch key."""
    return patch.object(SimulatedFunctions, "checks_connections", False)


def nothing_is_reasserted() -> AbstractContextManager[object]:
    """Emitters re-assert all their open holds."""
    return patch.object(Kept, "is_open_for", lambda kept, emitter: False)


def opened_before_the_fold() -> AbstractContextManager[object]:
    """The row is opened once SQL has folded up to the ends that were read."""
    return patch.object(recovering, "folded_up_to", lambda connection, ends: True)


def applied_without_an_answer() -> AbstractContextManager[object]:
    """What Redis wasn't told is re-applied."""
    really = Teller.tell

    def tell(teller: Teller, told: Any, partitions: Any, *words: Any) -> set[int]:
        really(teller, told, partitions, *words)
        return set(partitions)

    return patch.object(Teller, "tell", tell)


def nothing_caught_up_with() -> AbstractContextManager[object]:
    """A new owner re-applies what was folded since the stored offset."""
    really = Applier.adopted

    def adopted(applier: Applier, generation: int, positions: dict[int, Position]) -> None:
        whole = {
            one: msgspec.structs.replace(position, applied_offset=position.next_offset)
            for one, position in positions.items()
        }
        really(applier, generation, whole)

    return patch.object(Applier, "adopted", adopted)


def retirement_frees_nothing() -> AbstractContextManager[object]:
    """After a retirement's fold every noted organization of the partition is made unknown."""
    return patch.object(Teller, "free", lambda *words, **more: True)


def snapshots_without_settled() -> AbstractContextManager[object]:
    """The snapshot says which of Redis' holds are settled."""
    return patch.object(snapshots, "_settled", lambda *words: {})


def snapshots_without_retired() -> AbstractContextManager[object]:
    """The snapshot says which emitters are retired."""
    really = snapshots.snapshots

    def without(*words: Any, **more: Any) -> Any:
        found = really(*words, **more)
        return {
            name: one and msgspec.structs.replace(one, retired=()) for name, one in found.items()
        }

    return patch("tollkeeper.enforcement.warming.snapshots", without)


def usage_is_sent_after_the_end() -> AbstractContextManager[object]:
    """A dead one's usage is sent, then its retirement is logged."""

    def end_first(sender: Sender, incarnation: Any) -> bool:
        if incarnation.is_announced and not getattr(incarnation, "was_ended", False):
            sender.outlet.tell_retired(incarnation.emitter, actor="early", reason="closed")
            incarnation.was_ended = True
        return really(sender, incarnation)

    really = Sender._send_own
    return patch.object(Sender, "_send_own", end_first)


def unfenced() -> AbstractContextManager[object]:
    """The positions are moved by compare and set."""
    really = SqlTransaction.advance

    def advance(transaction: SqlTransaction, generation: int, moves: Any) -> bool:
        really(transaction, generation, moves)
        return True

    return patch.object(SqlTransaction, "advance", advance)


def lost_holds_forgotten() -> AbstractContextManager[object]:
    """What may be held and isn't wanted is released."""

    def end(holding: Holding) -> None:
        kept, holding._kept = holding._kept, None
        if kept is not None:
            holding._session.book.strike(kept)

    return patch.object(Holding, "_end", end)


def releases_forgotten() -> AbstractContextManager[object]:
    """A release that wasn't answered is tried again."""
    return patch.object(Upkeep, "_release_owed", lambda upkeep: None)


def settled_in_memory_only() -> AbstractContextManager[object]:
    """A hold is open until its usage is durable, on the log and folded: `settle` frees nothing in Redis."""
    really = Session.settle

    def settle(session: Session, kept: Kept, usages: Any) -> Any:
        future = really(session, kept, usages)
        session.let_go(kept)
        session.book.keep(kept)
        return future

    return patch.object(Session, "settle", settle)


def usage_without_its_hold() -> AbstractContextManager[object]:
    """Held usage carries the hold's id."""
    really = Session.settle

    def settle(session: Session, kept: Kept, usages: Any) -> Any:
        plain = [msgspec.structs.replace(one, hold_id=None) for one in usages]
        return really(session, kept, plain)

    return patch.object(Session, "settle", settle)


def holds_unbooked() -> AbstractContextManager[object]:
    """The emitter keeps its open holds in memory."""
    return patch.object(Book, "having", lambda book, condition: [])


BUGS = (
    SeededBug(grants_after_the_lease, 2),
    SeededBug(snapshots_without_settled, 14),
    SeededBug(snapshots_without_retired, 8),
    SeededBug(usage_is_sent_after_the_end, 0),
    SeededBug(unfenced, 1),
    SeededBug(lost_holds_forgotten, 16),
    SeededBug(releases_forgotten, 0),
    SeededBug(settled_in_memory_only, 1),
    SeededBug(usage_without_its_hold, 8),
)
RARE = (
    SeededBug(new_connections_are_trusted),
    SeededBug(nothing_is_reasserted),
    SeededBug(opened_before_the_fold),
    SeededBug(applied_without_an_answer),
    SeededBug(nothing_caught_up_with),
    SeededBug(retirement_frees_nothing),
    SeededBug(holds_unbooked),
)
"""What a second rule mostly stands in for, so that only some run in hundreds or thousands shows it. Runs
constructed by hand show them at once: `test_bugs_by_hand`, `test_sdk_bugs_by_hand`, `gate/test_trusting`.
"""
