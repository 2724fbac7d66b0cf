"""The ledger in SQL, the adapter of `ledger.port`: transactions, positions and generations.

SQLAlchemy Core; what differs between databases is behind `dialect`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from tollkeeper.errors import Misuse
from tollkeeper.failpoints import failpoint
from tollkeeper.ledger import barrier, loading, writing_changes
from tollkeeper.ledger.dialect import dialect_of
from tollkeeper.ledger.effects import EpochRow
from tollkeeper.ledger.epochs import read_epochs
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.loading_standings import SqlStandingReads
from tollkeeper.ledger.notifications import Notification
from tollkeeper.ledger.port import Move, Position
from tollkeeper.ledger.rows import ChargedBefore, LetterKey, Place, PlainRow
from tollkeeper.ledger.tables import PROJECTIONS, consumer_offset, generation, organization
from tollkeeper.ledger.view import Changes, View, Wanted
from tollkeeper.ledger.writing_notifications import write_notifications
from tollkeeper.log.port import Log
from tollkeeper.outbox.database import keep_writers_out, reading, writing


class SqlTransaction:
    """One transaction on one connection; see `port.LedgerTransaction`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def live_generation(self) -> int:
        """The generation that queries read."""
        return live_generation(self.connection)

    def positions(self, generation: int) -> dict[int, Position]:
        """The generation's position on each partition."""
        return positions(self.connection, generation)

    def advance(self, generation: int, moves: Sequence[Move]) -> bool:
        """Compare and set every position, in partition order."""
        ordered = sorted(moves, key=lambda move: move.partition)
        return dialect_of(self.connection).advance(self.connection, generation, ordered)

    def load(self, generation: int, wanted: Wanted) -> View:
        """The ledger's state at these keys."""
        return loading.load_view(self.connection, generation, wanted)

    def insert_charges(
        self, generation: int, rows: Sequence[PlainRow]
    ) -> Mapping[tuple[str, str], ChargedBefore]:
        """Insert those whose (organization, event id) is new."""
        return dialect_of(self.connection).insert_charges(self.connection, generation, rows)

    def open_letters(
        self, generation: int, keys: Collection[LetterKey]
    ) -> Mapping[LetterKey, Place]:
        """The open letters of these usage events, the first of each."""
        return loading.open_letters(self.connection, generation, keys)

    def standings(self, generation: int) -> SqlStandingReads:
        """How organizations stand."""
        return SqlStandingReads(self.connection, generation)

    def tell(self, notifications: Sequence[Notification]) -> int:
        """Write those that were never told, to be delivered; answers how many they were."""
        return write_notifications(self.connection, notifications)

    def epochs(self) -> Mapping[str, EpochRow]:
        """The epoch of each primary of the gate, as this transaction sees it."""
        return read_epochs(self.connection)

    def write(self, generation: int, changes: Changes, view: View) -> None:
        """Write everything of a settled batch but the charges."""
        writing_changes.write_changes(self.connection, generation, changes, view)


class SqlLedger:
    """The ledger on one engine; see `port.Ledger`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_server(self) -> bool:
        """Whether it works in a process of its own. SQLite works in ours, row by row: a thread that
        read meanwhile would take the interpreter's lock from it after each."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        """Commits at the end, rolls back on an exception."""
        with writing(self.engine) as connection:
            yield SqlTransaction(connection)

    def live_positions(self) -> tuple[int, dict[int, Position]]:
        """The live generation and how far it has folded, of one instant."""
        with reading(self.engine) as connection:
            number = live_generation(connection)
            return number, positions(connection, number)

    def note_applied(self, generation: int, applied: Mapping[int, int]) -> None:
        """How far the gate has what was folded: never beyond the fold, and never back."""
        offsets = consumer_offset.c
        with writing(self.engine) as connection:
            for partition, offset in sorted(applied.items()):
                connection.execute(
                    update(consumer_offset)
                    .where(
                        offsets.generation == generation,
                        offsets.log_partition == partition,
                        offsets.next_offset >= offset,
                        func.coalesce(offsets.applied_offset, -1) < offset,
                    )
                    .values(applied_offset=offset)
                )

    def raise_barriers(self, log: Log, group: str) -> dict[int, int]:
        """Keep commands waiting where this ledger was set back; see `ledger.barrier`."""
        return barrier.raise_barriers(self.engine, log, group)

    def begin_generation(self, created_at: int, *, partitions: int, log_identity: str) -> int:
        """A new, empty generation at offset 0 of this log; the first of all is live at once."""
        with writing(self.engine) as connection:
            keep_writers_out(connection, generation)
            newest = connection.execute(select(func.max(generation.c.generation))).scalar()
            number = 1 if newest is None else int(newest) + 1
            connection.execute(delete(generation).where(generation.c.status == "dropped"))
            status = "live" if newest is None else "building"
            connection.execute(
                insert(generation).values(generation=number, status=status, created_at=created_at)
            )
            connection.execute(
                insert(consumer_offset),
                [
                    {
                        "generation": number,
                        "log_partition": partition,
                        "next_offset": 0,
                        "log_identity": log_identity,
                    }
                    for partition in range(partitions)
                ],
            )
            return number

    def drop_generation(self, number: int) -> None:
        """Delete a generation that isn't live, with all its rows, an organization at a time.

        The newest leaves its number behind: a replay that was overtaken must never find its number in
        use by another.
        """
        with writing(self.engine) as connection:
            keep_writers_out(connection, generation)
            if number == live_generation(connection):
                raise Misuse(f"generation {number} is live and can't be dropped")
            connection.execute(
                delete(consumer_offset).where(consumer_offset.c.generation == number)
            )
            names = connection.execute(
                select(organization.c.organization).where(organization.c.generation == number)
            )
            organizations = [name for (name,) in names]
        for table in PROJECTIONS:
            failpoint("replay.in_drop")
            for name in organizations if "organization" in table.c else []:
                with writing(self.engine) as connection:
                    connection.execute(
                        delete(table).where(
                            table.c.generation == number, table.c.organization == name
                        )
                    )
            with writing(self.engine) as connection:
                connection.execute(delete(table).where(table.c.generation == number))
        with writing(self.engine) as connection:
            keep_writers_out(connection, generation)
            of_number = generation.c.generation == number
            if connection.execute(select(func.max(generation.c.generation))).scalar() == number:
                connection.execute(update(generation).where(of_number).values(status="dropped"))
            else:
                connection.execute(delete(generation).where(of_number))

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()
