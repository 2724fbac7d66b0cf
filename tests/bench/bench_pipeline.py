"""How fast the fold charges, beside the bare work on the same records, rows and disk.

The floors do nothing but what can't be left out: decode each record with fastavro, and write the very
same rows in the very same order, one transaction a batch, through Python's `sqlite3`.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from bench.measuring import events_per_s
from bench.stages import micros_an_event
from fastavro import schemaless_reader
from sqlalchemy import event
from support import homes

from tollkeeper.app.wiring import App
from tollkeeper.events.codec import encode
from tollkeeper.events.registry import registry
from tollkeeper.ledger.collector import paused_collector
from tollkeeper.ledger.migrate import migrate
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Log, Outgoing
from tollkeeper.metering.usage import Prepared, Usage, recorded
from tollkeeper.organizations.commands import OpenOrganization
from tollkeeper.outbox.database import open_engine
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

BATCH = 5_000
ORGANIZATIONS = 20
ENDING_AT = 1_793_880_000_000_000
Statement = tuple[str, list[tuple[Any, ...]]]


def run(events: int) -> dict[str, float]:
    """Events per second of the fold and of its floors; `ratio…` is ours over the floor."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with homes.opened_app(root / "home") as app:
            fill(app, events)
            total = sum(app.log.end_offsets().values())
            bare = Bare(app.log, captured(root, app.log, total), root)
            rates = events_per_s(
                total,
                {
                    "pipeline_events_per_s": lambda: _ours(root, app.log, total),
                    "bare_decoding_events_per_s": bare.decode_only,
                    "bare_transactions_events_per_s": bare.write_only,
                    "bare_loop_events_per_s": bare.loop,
                },
            )
            stages = micros_an_event(total, lambda: _ours(root, app.log, total))
    return {
        "events": total,
        **rates,
        "ratio_to_bare_loop": round(
            rates["pipeline_events_per_s"] / rates["bare_loop_events_per_s"], 3
        ),
        **{f"micros an event: {stage}": micros for stage, micros in stages.items()},
    }


def fill(app: App, events: int, *, seed: int = 1) -> None:
    """Open the organizations and put synthetic usage straight onto the log."""
    open_organizations(app)
    put_on_log(app, usage_of(events, seed=seed))


def open_organizations(app: App) -> None:
    """Those of the load."""
    for number in range(1, ORGANIZATIONS + 1):
        name = f"org-{number:03d}"
        homes.handle(
            app, OpenOrganization(organization=name, plan="enterprise_self_serve", owner="owner")
        )


def usage_of(events: int, *, seed: int = 1, ending_at: int = ENDING_AT) -> Iterator[Usage]:
    """Synthetic usage of those organizations."""
    load = SyntheticLoad(seed=seed, events=events, organizations=ORGANIZATIONS, ending_at=ending_at)
    return synthetic(load)


def put_on_log(app: App, usages: Iterable[Usage]) -> None:
    """Past any emitter."""
    waiting: list[Outgoing] = []
    for number, usage in enumerate(usages):
        assert usage.event_id is not None
        assert isinstance(usage.occurred_at, int)
        event = recorded(
            Prepared(usage, usage.event_id, usage.occurred_at), emitter="bench", sequence=number + 1
        )
        partition = partition_for(usage.organization, app.log.partition_count)
        waiting.append(Outgoing(partition, usage.organization.encode(), encode(event)))
        if len(waiting) == BATCH:
            app.log.append(waiting)
            waiting = []
    if waiting:
        app.log.append(waiting)


@contextmanager
def fresh_ledger(root: Path, log: Log) -> Iterator[SqlLedger]:
    """A ledger that has folded nothing."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        engine = open_engine(f"sqlite:///{folder}/ledger.sqlite")
        migrate(engine)
        ledger = SqlLedger(engine)
        ledger.begin_generation(0, partitions=log.partition_count, log_identity=log.identity)
        try:
            yield ledger
        finally:
            ledger.close()


def _ours(root: Path, log: Log, total: int) -> float:
    with fresh_ledger(root, log) as ledger:
        pipeline = Pipeline(log, ledger, monotonic=monotonic)
        try:
            pipeline.step()  # joins the group and takes up the positions
            began = perf_counter()
            while pipeline.totals.records < total:
                pipeline.step()
            took = perf_counter() - began
        finally:
            pipeline.close()
        assert pipeline.totals.records == total
    return took


class Captured:
    """What one fold of the log wrote: the rows of each of its transactions."""

    def __init__(self) -> None:
        self.schema: list[str] = []
        self.batches: list[list[Statement]] = []


def captured(root: Path, log: Log, total: int) -> Captured:
    """Fold once, and take down what the driver was asked to write."""
    found = Captured()
    with fresh_ledger(root, log) as ledger:
        pipeline = Pipeline(log, ledger, monotonic=monotonic)
        try:
            pipeline.step()
            with ledger.engine.connect() as connection:
                rows = connection.exec_driver_sql(
                    "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'sqlite_sequence'"
                )
                found.schema = [sql for (sql,) in rows]
                offsets = connection.exec_driver_sql("SELECT * FROM consumer_offset").all()
            found.batches.append([_insert("consumer_offset", [tuple(row) for row in offsets])])
            with _taking_down(ledger, found.batches):
                while pipeline.totals.records < total:
                    pipeline.step()
        finally:
            pipeline.close()
    return found


@contextmanager
def _taking_down(ledger: SqlLedger, batches: list[list[Statement]]) -> Iterator[None]:
    def begin(_connection: object) -> None:
        batches.append([])

    def execute(
        _connection: object,
        _cursor: object,
        sql: str,
        parameters: Any,
        _context: object,
        many: bool,
    ) -> None:
        if sql.startswith(("INSERT", "UPDATE")):
            batches[-1].append((sql, [tuple(row) for row in parameters] if many else [parameters]))

    event.listen(ledger.engine, "begin", begin)
    event.listen(ledger.engine, "before_cursor_execute", execute)
    try:
        yield
    finally:
        event.remove(ledger.engine, "begin", begin)
        event.remove(ledger.engine, "before_cursor_execute", execute)


def _insert(table: str, rows: list[tuple[Any, ...]]) -> Statement:
    return f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows


class Bare:
    """The floors: what any fold of this log into these rows has to do."""

    def __init__(self, log: Log, written: Captured, root: Path) -> None:
        self._written = written
        self._root = root
        self._values = [
            record.value
            for partition in range(log.partition_count)
            for record in log.read(partition, 0, max_records=log.end_offsets()[partition])
        ]
        self._schemas = {
            schema.schema_id.to_bytes(4): schema.parsed for schema in registry().by_id.values()
        }

    def decode_only(self) -> float:
        """Decode every record."""
        with paused_collector():
            began = perf_counter()
            for first in range(0, len(self._values), BATCH):
                self._decode(self._values[first : first + BATCH])
            return perf_counter() - began

    def write_only(self) -> float:
        """Write every batch, one transaction each."""
        with self._database() as connection, paused_collector():
            began = perf_counter()
            for batch in self._written.batches[1:]:
                self._write(connection, batch)
            return perf_counter() - began

    def loop(self) -> float:
        """Both in turn, batch by batch."""
        batches = self._written.batches[1:]
        size = -(-len(self._values) // len(batches))
        with self._database() as connection, paused_collector():
            began = perf_counter()
            for number, batch in enumerate(batches):
                decoded = self._decode(self._values[number * size : (number + 1) * size])
                self._write(connection, batch)
                del decoded  # a loop needs what it decoded until it has written it
            return perf_counter() - began

    def _decode(self, values: list[bytes]) -> list[object]:
        schemas = self._schemas
        return [
            schemaless_reader(BytesIO(value[5:]), schemas[value[1:5]], None) for value in values
        ]

    def _write(self, connection: sqlite3.Connection, batch: list[Statement]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for sql, rows in batch:
            connection.executemany(sql, rows)
        connection.execute("COMMIT")

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with tempfile.TemporaryDirectory(dir=self._root) as folder:
            path = f"{folder}/bare.sqlite"
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=FULL"):
                    connection.execute(f"PRAGMA {pragma}")
                connection.execute("PRAGMA cache_size=-65536")
                for sql in self._written.schema:
                    connection.execute(sql)
                self._write(connection, self._written.batches[0])
                yield connection
