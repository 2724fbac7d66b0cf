"""Comparing two generations row by row in the database, and naming the first difference of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec
from sqlalchemy import Connection, Row, Select, Table, and_, func, or_, select

from tollkeeper.ledger.columns import NOT_FOLDED
from tollkeeper.ledger.tables import (
    NANOS_COLUMNS,
    PROJECTIONS,
    charge,
    organization,
    spend,
)

MAX_DIFFERENCES = 100
"""How many differing organizations a report names; the report says when there may be more."""

AnyRow: TypeAlias = Row[tuple[object, ...]]


class Difference(msgspec.Struct, frozen=True):
    """The first row in which two generations disagree about an organization.

    `organization` is None for rows that belong to none (positions, prices, undecodable records).
    `column` is None when the row stands in only one of the two: then one of the values is None.
    """

    organization: str | None
    table: str
    key: dict[str, str | int]
    column: str | None
    live: str | None
    replayed: str | None

    def describe(self) -> str:
        """One line for people."""
        where = ", ".join(f"{name}={value}" for name, value in self.key.items())
        place = f"{self.organization or 'no organization'}: {self.table} ({where})"
        if self.column is None:
            side = "live ledger" if self.replayed is None else "replay"
            return f"{place}: this row stands only in the {side}"
        return f"{place}: {self.column} is {self.live} live and {self.replayed} replayed"


def differences(connection: Connection, live: int, replayed: int) -> list[Difference]:
    """The first difference of each organization, in the order of tables and keys; empty: they agree.

    Compares every column that is made of the log alone, of every projection, so no change by hand can
    hide in equal sums.
    """
    found: dict[str | None, Difference] = {}
    for table in PROJECTIONS:
        for difference in _table_differences(connection, table, live, replayed):
            found.setdefault(difference.organization, difference)
            if len(found) >= MAX_DIFFERENCES:
                return list(found.values())
    return list(found.values())


def untied(connection: Connection, generation: int) -> list[str]:
    """Organizations whose charges, spend and totals don't give the same sum (RULES R31)."""
    parts = sum((spend.c[name] for name in NANOS_COLUMNS[1:]), spend.c[NANOS_COLUMNS[0]])
    by_charge = _sums(connection, charge, charge.c.charge_nanos, generation)
    by_spend = _sums(connection, spend, parts, generation)
    totals = _sums(connection, organization, organization.c.charged_nanos, generation)
    return [
        f"{name}: charges {by_charge.get(name, 0)}, spend {by_spend.get(name, 0)}, total {total}"
        for name, total in sorted(totals.items())
        if not by_charge.get(name, 0) == by_spend.get(name, 0) == total
    ]


def _sums(connection: Connection, table: Table, amount: object, generation: int) -> dict[str, int]:
    rows = connection.execute(
        select(table.c.organization, func.sum(amount))
        .where(table.c.generation == generation)
        .group_by(table.c.organization)
    )
    return {row[0]: int(row[1]) for row in rows}


def _table_differences(
    connection: Connection, table: Table, live: int, replayed: int
) -> Iterator[Difference]:
    """Rows that differ, by key, then rows of one side only; the caller stops when it has enough."""
    # SQLAlchemy's names are a kind of str that JSON encoders don't know.
    keys = [str(column.name) for column in table.primary_key if column.name != "generation"]
    values = [
        str(column.name)
        for column in table.columns
        if not column.primary_key and NOT_FOLDED not in column.info
    ]
    for row in connection.execute(_changed_rows(table, keys, values, live, replayed)):
        mapping = row._mapping
        name = next(name for name in values if mapping[f"a_{name}"] != mapping[f"b_{name}"])
        yield Difference(
            _organization(row),
            str(table.name),
            {key: mapping[f"a_{key}"] for key in keys},
            name,
            _shown(mapping[f"a_{name}"]),
            _shown(mapping[f"b_{name}"]),
        )
    for one, other in ((live, replayed), (replayed, live)):
        for row in connection.execute(_rows_of_one_side(table, keys, one, other)):
            is_live = one == live
            yield Difference(
                _organization(row),
                str(table.name),
                {key: row._mapping[f"a_{key}"] for key in keys},
                None,
                "present" if is_live else None,
                None if is_live else "present",
            )


def _changed_rows(
    table: Table, keys: list[str], values: list[str], live: int, replayed: int
) -> Select[tuple[object, ...]]:
    a, b = table.alias("a"), table.alias("b")
    return (
        select(
            *(a.c[name].label(f"a_{name}") for name in [*keys, *values]),
            *(b.c[name].label(f"b_{name}") for name in values),
        )
        .where(
            a.c.generation == live,
            b.c.generation == replayed,
            *(a.c[key] == b.c[key] for key in keys),
            or_(*(a.c[name].is_distinct_from(b.c[name]) for name in values)),
        )
        .order_by(*(a.c[key] for key in keys))
    )


def _rows_of_one_side(
    table: Table, keys: list[str], generation: int, other: int
) -> Select[tuple[object, ...]]:
    a, b = table.alias("a"), table.alias("b")
    shown = [
        *keys,
        *(["organization"] if "organization" in table.c and "organization" not in keys else []),
    ]
    twin = and_(b.c.generation == other, *(a.c[key] == b.c[key] for key in keys))
    return (
        select(*(a.c[name].label(f"a_{name}") for name in shown))
        .select_from(a.outerjoin(b, twin))
        .where(a.c.generation == generation, b.c.generation.is_(None))
        .order_by(*(a.c[key] for key in keys))
    )


def _organization(row: AnyRow) -> str | None:
    """Whose row it is by the replay, where both sides have one: the log is right."""
    found = row._mapping.get("b_organization", row._mapping.get("a_organization"))
    return None if found is None else str(found)


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
