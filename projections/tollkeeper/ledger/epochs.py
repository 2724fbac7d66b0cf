"""The epochs of the gate's primaries in SQL: what the folds read, and raising and opening them.

A row changes by compare and set only, so that of several consumers which see a new incarnation one wins.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select

from tollkeeper.ledger.effects import EpochRow
from tollkeeper.ledger.tables import gate_epoch


def read_epochs(connection: Connection) -> Mapping[str, EpochRow]:
    """The epoch of each primary that ever had one, by its tag."""
    return {row.tag: EpochRow(*row) for row in connection.execute(select(gate_epoch))}
