"""All that SQL answers to the gate's enforcement: epochs, snapshots, emitters, and how far the fold is."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select

from tollkeeper.ledger.effects import EpochRow
from tollkeeper.ledger.emitters import Emitters, emitters, retired_since
from tollkeeper.ledger.epochs import open_epoch, raise_epoch, read_epochs
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.snapshots import snapshots
from tollkeeper.ledger.tables import organization

__all__ = [
    "Emitters",
    "EpochRow",
    "emitters",
    "folded_up_to",
    "open_epoch",
    "raise_epoch",
    "read_epochs",
    "retired_since",
    "snapshots",
    "touched_since",
]


def touched_since(
    connection: Connection, generation: int, partition: int, offset: int
) -> tuple[str, ...]:
    """The partition's organizations of which a record at `offset` or after it was folded.

    Reads through all organizations: it is asked when a partition changes hands.
    """
    columns = organization.c
    return tuple(
        connection.execute(
            select(columns.organization)
            .where(
                columns.generation == generation,
                columns.log_partition == partition,
                columns.last_offset >= offset,
            )
            .order_by(columns.organization)
        ).scalars()
    )


def folded_up_to(connection: Connection, ends: Mapping[int, int]) -> bool:
    """Whether the live generation has folded each partition up to this next offset."""
    places = positions(connection, live_generation(connection))
    return all(places[partition].next_offset >= end for partition, end in ends.items())
