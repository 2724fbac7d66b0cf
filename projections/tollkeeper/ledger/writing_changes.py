"""Writing a settled batch to SQL: upserts in sorted key order, so that two folds can't deadlock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from operator import add
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, Table, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

from tollkeeper.errors import BrokenInvariant
from tollkeeper.ledger.dialect import dialect_of
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
    cap,
    credit,
    dead_letter,
    member,
    organization,
    price_publication,
)
from tollkeeper.ledger.view import Changes, OrganizationTotals, View
from tollkeeper.outbox.database import keep_writers_out
from tollkeeper.outbox.tables import decided_event

Key = TypeVar("Key", bound=tuple[object, ...])
RowValue = MemberRow | CapRow | CreditRow | PublicationRow


def write_changes(connection: Connection, generation: int, changes: Changes, view: View) -> None:
    """Write everything but the charges, which are there already."""
    totals = [view.organizations[name] for name in sorted(changes.organizations)]
    upsert = partial(_upsert, connection, generation)
    upsert(organization, map(_organization_row, totals))
    upsert(member, _rows(changes.members))
    upsert(cap, _rows(changes.caps))
    upsert(credit, _rows(changes.credits))
    upsert(dead_letter, map(_letter_row, _sorted(changes.letters)))
    upsert(price_publication, _rows(changes.publications))
    _add_spend(connection, generation, changes)
    # By stream, as the relay goes through them: two writers in two orders could block each other.
    for row in sorted(changes.decided, key=lambda row: row.stream):
        _note_decided(connection, row)


def _upsert(
    connection: Connection, generation: int, table: Table, rows: Iterable[dict[str, object]]
) -> None:
    names = [column.name for column in table.columns]
    values = [tuple({"generation": generation, **row}[name] for name in names) for row in rows]
    if values:
        dialect_of(connection).upsert(connection, table, values)


def _add_spend(connection: Connection, generation: int, changes: Changes) -> None:
    if not changes.spend:
        return
    rows = sorted(map(add, changes.spend.keys(), changes.spend.values()))
    try:
        dialect_of(connection).add_spend(connection, generation, rows)
    except (IntegrityError, DataError) as refused:  # SQLite and PostgreSQL check each sum
        raise BrokenInvariant(
            f"a sum of spend leaves the range of 64 bits: {refused.orig}"
        ) from refused


def _note_decided(connection: Connection, row: DecidedRow) -> None:
    """The log's own word on a decided event: it is acknowledged, and what comes first on the log wins.

    A row that waits for the log is marked; one that is lacking (SQL was restored) is inserted; one
    that was decided twice, since SQL was restored, becomes what the fold has taken.
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
            where=or_(
                table.c.log_offset.is_(None),
                table.c.log_offset > statement.excluded.log_offset,
            ),
        )
    )


def _version_in_stream(connection: Connection, row: DecidedRow) -> int:
    """The version under which the write side knows it, or else the next one. Only few are unknown."""
    columns = decided_event.c
    is_same = (columns.stream == row.stream) & (columns.value == row.value)
    known = connection.execute(select(columns.version).where(is_same)).scalar()
    if known is not None:
        return int(known)
    keep_writers_out(connection, decided_event)  # a command could take the version that comes next
    known = connection.execute(select(columns.version).where(is_same)).scalar()
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
