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

from tollkeeper.errors import BrokenInvariant, StoreUnavailable
from tollkeeper.ledger.dialect import dialect_of
from tollkeeper.ledger.gate_tables import admitted_call, gate_policy, usage_stop
from tollkeeper.ledger.rows import (
    AdmittedRow,
    CapRow,
    CreditRow,
    DecidedRow,
    EmitterRow,
    Letter,
    MemberRow,
    PolicyRow,
    PublicationRow,
    StopRow,
)
from tollkeeper.ledger.tables import (
    COUNT_COLUMNS,
    cap,
    credit,
    dead_letter,
    emitter,
    member,
    organization,
    price_publication,
    spent,
)
from tollkeeper.ledger.view import Changes, OrganizationTotals, View
from tollkeeper.outbox.tables import decided_event

MAX_LOST_RACES = 50

Key = TypeVar("Key", bound=tuple[object, ...])
RowValue = (
    MemberRow | CapRow | CreditRow | PublicationRow | EmitterRow | PolicyRow | StopRow | AdmittedRow
)


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
    upsert(emitter, _rows(changes.emitters))
    upsert(gate_policy, _rows(changes.policies))
    upsert(usage_stop, _rows(changes.stops))
    upsert(admitted_call, _rows(changes.admitted))
    _add_spend(connection, generation, changes)
    _set_spent(connection, generation, changes)
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


def _set_spent(connection: Connection, generation: int, changes: Changes) -> None:
    rows = [(generation, *key, nanos) for key, nanos in sorted(changes.spent.items())]
    if rows:
        dialect_of(connection).upsert(connection, spent, rows)


def _note_decided(connection: Connection, row: DecidedRow) -> None:
    """The log's own word on a decided event: it is acknowledged, and what comes first on the log wins.

    A row that waits for the log is marked; one that is lacking (SQL was restored) is inserted; one
    that was decided twice, since SQL was restored, becomes what the fold has taken.
    """
    if row.version is not None:
        _acknowledge(connection, row, row.version)
        return
    for _ in range(MAX_LOST_RACES):
        version, is_known = _version_in_stream(connection, row)
        if is_known:
            _acknowledge(connection, row, version)
            return
        # Asked for the row: SQLAlchemy doesn't know how many an INSERT brought on PostgreSQL.
        inserted = connection.execute(
            _decided(connection, row, version)
            .on_conflict_do_nothing(index_elements=["stream", "version"])
            .returning(decided_event.c.version)
        )
        if inserted.first() is not None:
            return  # else a command has just taken this version: the next one, then
    raise StoreUnavailable(
        f"{row.stream}: {MAX_LOST_RACES} commands were faster each time; try again"
    )


def _acknowledge(connection: Connection, row: DecidedRow, version: int) -> None:
    offset = decided_event.c.log_offset
    statement = _decided(connection, row, version)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["stream", "version"],
            set_={
                "value": statement.excluded.value,
                "command_id": statement.excluded.command_id,
                "log_offset": statement.excluded.log_offset,
            },
            where=or_(offset.is_(None), offset > statement.excluded.log_offset),
        )
    )


def _version_in_stream(connection: Connection, row: DecidedRow) -> tuple[int, bool]:
    """The version under which the write side knows this event, or else the next one, and which it is."""
    columns = decided_event.c
    known = connection.execute(
        select(columns.version).where(columns.stream == row.stream, columns.value == row.value)
    ).scalar()
    if known is not None:
        return int(known), True
    newest = connection.execute(
        select(func.max(columns.version)).where(columns.stream == row.stream)
    ).scalar()
    return (1 if newest is None else int(newest) + 1), False


def _decided(
    connection: Connection, row: DecidedRow, version: int
) -> sqlite.Insert | postgresql.Insert:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    values = {**msgspec.structs.asdict(row), "version": version}
    return insert(decided_event).values(values)


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
        "cap_percents": totals.cap_percents,
        "credits_low_percent": totals.credits_low_percent,
        "cap_scopes": totals.cap_scopes,
        "last_purchase_nanos": totals.last_purchase_nanos,
        "credits_version": totals.credits_version,
        "stopped_since": totals.stopped_since,
    }


def _letter_row(letter: Letter) -> dict[str, object]:
    row = msgspec.structs.asdict(letter)
    counts = row.pop("counts")
    row["cause"] = str(letter.cause)
    row.update(zip(COUNT_COLUMNS, counts or [None] * len(COUNT_COLUMNS), strict=True))
    return row
