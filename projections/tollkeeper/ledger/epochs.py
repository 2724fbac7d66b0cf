"""The epochs of the gate's primaries in SQL: read by folds and snapshots, raised, and opened.

Rows change by compare and set only: of several consumers that see a new server, one wins.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tollkeeper.gate.commands import Incarnation
from tollkeeper.ledger.effects import EpochRow
from tollkeeper.ledger.tables import gate_epoch

_epoch = gate_epoch.c.epoch
_ALL = select(gate_epoch)


def read_epochs(connection: Connection) -> Mapping[str, EpochRow]:
    """The epoch of each primary that ever had one, by its tag."""
    return {row.tag: EpochRow(*row) for row in connection.execute(_ALL)}


def raise_epoch(
    connection: Connection,
    tag: str,
    *,
    expected: int,
    incarnation: Incarnation,
    now_micros: int,
    above: int = 0,
) -> int | None:
    """Trust this server under a new number, as recovering; answers the number.

    None when the row isn't at `expected` any more (0: there is none): another consumer was faster.
    `above` is the number that the server itself knows, which a database that was set back may lack.
    """
    epoch = max(expected, above) + 1
    row = {
        "epoch": epoch,
        "phase": "recovering",
        "run_id": incarnation.run_id,
        "replication_id": incarnation.replication_id,
        "begun_at": now_micros,
    }
    if expected:
        statement = update(gate_epoch).where(gate_epoch.c.tag == tag, _epoch == expected)
        raised = connection.execute(statement.values(row).returning(_epoch))
    else:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        new = dialect.insert(gate_epoch).values(tag=tag, **row).on_conflict_do_nothing()
        raised = connection.execute(new.returning(_epoch))
    return raised.scalar()


def raise_every_epoch(connection: Connection, now_micros: int) -> None:
    """As a swap of generations does: what any server knows is of the other fold."""
    connection.execute(
        update(gate_epoch).values(epoch=_epoch + 1, phase="recovering", begun_at=now_micros)
    )


def open_epoch(connection: Connection, tag: str, epoch: int) -> bool:
    """End the recovery of this epoch; False when it isn't the primary's any more."""
    opened = connection.execute(
        update(gate_epoch).where(gate_epoch.c.tag == tag, _epoch == epoch).values(phase="open")
    )
    return bool(opened.rowcount)
