"""Writing a settled batch to SQL: upserts in sorted key order, so that two folds can't deadlock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import add
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

from tollkeeper.errors import BrokenInvariant
from tollkeeper.ledger.rows import (
    CapRow,
    CreditRow,
    DecidedRow,
    Letter,
    MemberRow,
    PublicationRow,
)
from tollkeeper.ledger.tables import (
    COUNT_COLUMNS,
    NANOS_COLUMNS,
    cap,
    credit,
    dead_letter,
    member,
    organization,
    price_publication,
)
from tollkeeper.ledger.view import Changes, OrganizationTotals, View
from tollkeeper.outbox.tables import decided_event

Key = TypeVar("Key", bound=tuple[object, ...])
RowValue = MemberRow | CapRow | CreditRow | PublicationRow

_SPEND_KEY = ("organization", "period_start", "day", "member", "surface", "model")
_SPEND_SUMS = ("events", *COUNT_COLUMNS, *NANOS_COLUMNS)
# There may be a row an event, so they go to the driver as they are, as charges do.
_ADD_SPEND = (
    "INSERT INTO spend (generation, " + ", ".join((*_SPEND_KEY, *_SPEND_SUMS)) + ") VALUES (",
    ", ?" * len((*_SPEND_KEY, *_SPEND_SUMS))
    + ") ON CONFLICT (generation, "
    + ", ".join(_SPEND_KEY)
    + ") DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _SPEND_SUMS),
)


def write_changes(connection: Connection, generation: int, changes: Changes, view: View) -> None:
    """Write everything but the charges, which are there already."""
    totals = [view.organizations[name] for name in sorted(changes.organizations)]
    _upsert(connection, organization, generation, map(_organization_row, totals))
    _upsert(connection, member, generation, _rows(changes.members))
    _upsert(connection, cap, generation, _rows(changes.caps))
    _upsert(connection, credit, generation, _rows(changes.credits))
    _upsert(connection, dead_letter, generation, map(_letter_row, _sorted(changes.letters)))
    _upsert(connection, price_publication, generation, _rows(changes.publications))
    _add_spend(connection, generation, changes)
    for row in changes.decided:
        _note_decided(connection, row)


def _upsert(
    connection: Connection, table: Table, generation: int, rows: Iterable[dict[str, object]]
) -> None:
    values = [{"generation": generation, **row} for row in rows]
    if not values:
        return
    statement = _insert(connection, table)
    keys = [column.name for column in table.primary_key]
    updated = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in keys
    }
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=updated), values)


def _add_spend(connection: Connection, generation: int, changes: Changes) -> None:
    if not changes.spend:
        return
    rows = sorted(map(add, changes.spend.keys(), changes.spend.values()))
    try:
        connection.exec_driver_sql(f"{_ADD_SPEND[0]}{generation:d}{_ADD_SPEND[1]}", rows)
    except (IntegrityError, DataError) as refused:  # SQLite and PostgreSQL check each sum
        raise BrokenInvariant(
            f"a sum of spend leaves the range of 64 bits: {refused.orig}"
        ) from refused


def _note_decided(connection: Connection, row: DecidedRow) -> None:
    """The log's own word on a decided event: it is acknowledged, and the log's content wins.

    A row that waits for the log is marked; one that is lacking (SQL was restored) is inserted.
    """
    table = decided_event
    version = row.version
    if version is None:
        version = _version_in_stream(connection, row)
    statement = _insert(connection, table).values(
        stream=row.stream,
        version=version,
        log_partition=row.log_partition,
        record_key=row.record_key,
        value=row.value,
        command_id=row.command_id,
        decided_at=row.decided_at,
        log_offset=row.log_offset,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["stream", "version"],
            set_={
                "value": statement.excluded.value,
                "command_id": statement.excluded.command_id,
                "log_offset": statement.excluded.log_offset,
            },
            where=table.c.log_offset.is_(None),
        )
    )


def _version_in_stream(connection: Connection, row: DecidedRow) -> int:
    columns = decided_event.c
    known = connection.execute(
        select(columns.version).where(columns.stream == row.stream, columns.value == row.value)
    ).scalar()
    if known is not None:
        return int(known)
    newest = connection.execute(
        select(func.max(columns.version)).where(columns.stream == row.stream)
    ).scalar()
    return 1 if newest is None else int(newest) + 1


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _sorted(rows: dict[tuple[int, int], Letter]) -> list[Letter]:
    return [rows[key] for key in sorted(rows)]


def _rows(rows: Mapping[Key, RowValue]) -> list[dict[str, object]]:
    return [msgspec.structs.asdict(rows[key]) for key in sorted(rows)]


def _organization_row(totals: OrganizationTotals) -> dict[str, object]:
    return {
        "organization": totals.organization,
        "plan": totals.plan,
        "channel": totals.channel,
        "primary_owner": totals.primary_owner,
        "opened_at": totals.opened_at,
        "version": totals.version,
        "log_partition": totals.log_partition,
        "last_offset": totals.last_offset,
        "fingerprint": totals.fingerprint.to_bytes(16),
        "charged_events": totals.charged_events,
        "charged_nanos": totals.charged_nanos,
        "duplicate_events": totals.duplicate_events,
        "purchased_nanos": totals.purchased_nanos,
        "used_nanos": totals.used_nanos,
    }


def _letter_row(letter: Letter) -> dict[str, object]:
    row = msgspec.structs.asdict(letter)
    counts = row.pop("counts")
    row["cause"] = str(letter.cause)
    row.update(zip(COUNT_COLUMNS, counts or [None] * len(COUNT_COLUMNS), strict=True))
    return row
