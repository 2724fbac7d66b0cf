"""After a restore of SQL: how far the fold must read before commands may be decided again.

SQL commits before the log's group does, so a fold that stands below its group's committed offset was
set back. Events that owners were told of may then stand on the log and nowhere else; deciding without
them could sell the same seat or credit twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects import postgresql, sqlite

from tollkeeper.errors import LogDiverged
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.tables import restore_barrier
from tollkeeper.ledger.unfolded import UnfoldedFacts
from tollkeeper.log.port import Log
from tollkeeper.outbox.database import reading, writing


def check_log(engine: Engine, log: Log) -> None:
    """Raises LogDiverged when this database was set up on another log.

    Asked before anything is brought to a log: what is sent to a wrong one is acknowledged there, and
    lost to the ledger.
    """
    with reading(engine) as connection:
        known = positions(connection, live_generation(connection))
    others = {position.log_identity for position in known.values()} - {log.identity}
    if others:
        raise LogDiverged(
            f"this database belongs to the log {', '.join(sorted(others))}, and this is the log "
            f"{log.identity}: name the right one in TOLLKEEPER_LOG and TOLLKEEPER_TOPIC, or another "
            "database in TOLLKEEPER_SQL"
        )


class CommandBarrier:
    """Asked before each command; made once a process, since it remembers what it has looked through."""

    def __init__(self, engine: Engine, log: Log, group: str) -> None:
        self._engine = engine
        self._log = log
        self._group = group
        self._facts = UnfoldedFacts(engine, log)

    def __call__(self, partition: int) -> int:
        """How many records the fold must still read before commands of this partition; 0: go ahead."""
        if behind := records_behind(self._engine, self._log, self._group, partition):
            return behind
        next_offset = _next_offset(self._engine, partition)
        if self._facts.is_lacking(partition, next_offset):
            return self._log.end_offsets()[partition] - next_offset
        return 0


def raise_barriers(engine: Engine, log: Log, group: str) -> dict[int, int]:
    """Record a barrier at the log's end for each partition that was set back; answers those."""
    # In this order: a fold that goes on meanwhile commits to SQL first, so it is never taken for set back.
    committed = log.committed(group)
    with writing(engine) as connection:
        known = positions(connection, live_generation(connection))
        set_back = {
            partition
            for partition, position in known.items()
            if position.next_offset < committed.get(partition, 0)
        }
        if not set_back:
            return {}
        ends = log.end_offsets()
        barriers = {partition: ends[partition] for partition in sorted(set_back)}
        _write(connection, barriers)
        return barriers


def records_behind(engine: Engine, log: Log, group: str, partition: int) -> int:
    """How many records the fold must still read to be where it, or the log's end, once was."""
    committed = log.committed(group).get(partition, 0)  # before SQL is read, see above
    with reading(engine) as connection:
        position = positions(connection, live_generation(connection)).get(partition)
        barrier = connection.execute(
            select(restore_barrier.c.end_offset).where(restore_barrier.c.log_partition == partition)
        ).scalar()
    next_offset = 0 if position is None else position.next_offset
    needed = 0 if barrier is None else int(barrier)
    if next_offset < committed:
        needed = max(needed, log.end_offsets()[partition])
    return max(0, needed - next_offset)


def _next_offset(engine: Engine, partition: int) -> int:
    with reading(engine) as connection:
        position = positions(connection, live_generation(connection)).get(partition)
    return 0 if position is None else position.next_offset


def _write(connection: Connection, barriers: Mapping[int, int]) -> None:
    is_postgresql = connection.dialect.name == "postgresql"
    for partition, end_offset in barriers.items():
        statement = (postgresql if is_postgresql else sqlite).insert(restore_barrier)
        connection.execute(
            statement.values(log_partition=partition, end_offset=end_offset).on_conflict_do_update(
                index_elements=["log_partition"], set_={"end_offset": end_offset}
            )
        )
