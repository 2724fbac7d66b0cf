"""Spend of a billing period, broken down; every breakdown adds up to the same total."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, func, select

from tollkeeper.events.usage import TOKEN_TYPES
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import COUNT_COLUMNS, NANOS_COLUMNS, spend
from tollkeeper.log.port import Log
from tollkeeper.money.periods import Period, format_day
from tollkeeper.reports.documents import money
from tollkeeper.reports.freshness import Freshness, freshness
from tollkeeper.reports.organizations import find_organization

Breakdown = Literal["member", "model", "surface", "token_type", "day"]


class SpendRow(msgspec.Struct, frozen=True):
    """One line of a breakdown. `counts` has the tokens by name; for a token type only its own.

    `events` of a token type are those that used it, so they may add up to more than the total.
    """

    key: str
    charge_nanos: int
    events: int
    counts: dict[str, int]

    def as_document(self) -> dict[str, object]:
        """The keys that the command line promises."""
        return {
            "key": self.key,
            **money("charge", self.charge_nanos),
            "events": self.events,
            **self.counts,
        }


class Spend(msgspec.Struct, frozen=True):
    """Nano-USD of one organization and billing period."""

    organization: str
    period: Period
    breakdown: str | None
    total_nanos: int
    events: int
    rows: tuple[SpendRow, ...]
    freshness: Freshness

    def as_document(self) -> dict[str, object]:
        """The keys that the command line promises."""
        return {
            "organization": self.organization,
            "period": self.period.label,
            "by": self.breakdown,
            **money("total", self.total_nanos),
            "events": self.events,
            "rows": [row.as_document() for row in self.rows],
            "freshness": self.freshness.as_document(),
        }


def spend_of(
    connection: Connection,
    log: Log,
    name: str,
    *,
    period: Period,
    by: Breakdown | None,
    now: int,
) -> Spend:
    """The organization's spend in a period: rows by charge, the dearest first; days in order."""
    found = find_organization(connection, name)
    number = live_generation(connection)
    total = _rows(connection, number, name, period, None)[0]
    if by is None:
        rows: Sequence[SpendRow] = ()
    elif by == "token_type":
        rows = _by_token_type(connection, number, name, period)
    else:
        rows = _rows(connection, number, name, period, by)
    if by != "day":
        rows = sorted(rows, key=lambda row: (-row.charge_nanos, row.key))
    return Spend(
        name,
        period,
        by,
        total.charge_nanos,
        total.events,
        tuple(rows),
        freshness(connection, log, now=now, partitions=[found.log_partition]),
    )


def _rows(
    connection: Connection, number: int, name: str, period: Period, by: str | None
) -> list[SpendRow]:
    sums = [_sum(column) for column in ("events", *COUNT_COLUMNS, *NANOS_COLUMNS)]
    statement: Select[*tuple[Any, ...]] = select(*sums)
    if by is not None:
        statement = select(spend.c[by], *sums).group_by(spend.c[by]).order_by(spend.c[by])
    found = connection.execute(_of(statement, number, name, period))
    rows = []
    for row in found:
        key, *values = row if by is not None else ("total", *row)
        events, *rest = (int(str(value)) for value in values)
        counts, nanos = rest[: len(COUNT_COLUMNS)], rest[len(COUNT_COLUMNS) :]
        shown = format_day(int(str(key))) if by == "day" else str(key)
        rows.append(
            SpendRow(shown, sum(nanos), events, dict(zip(COUNT_COLUMNS, counts, strict=True)))
        )
    return rows


def _by_token_type(
    connection: Connection, number: int, name: str, period: Period
) -> list[SpendRow]:
    rows = []
    for token_type, count, nanos in zip(TOKEN_TYPES, COUNT_COLUMNS, NANOS_COLUMNS, strict=True):
        statement: Select[*tuple[Any, ...]] = select(
            _sum("events"), _sum(count), _sum(nanos)
        ).where(spend.c[count] > 0)
        row = connection.execute(_of(statement, number, name, period)).one()
        events, quantity, charged = (int(str(value)) for value in row)
        if quantity:
            rows.append(SpendRow(token_type, charged, events, {"quantity": quantity}))
    return rows


def _sum(column: str) -> ColumnElement[int]:
    return func.coalesce(func.sum(spend.c[column]), 0)


def _of(statement: Select[*tuple[Any, ...]], number: int, name: str, period: Period) -> Select[Any]:
    return statement.where(
        spend.c.generation == number,
        spend.c.organization == name,
        spend.c.period_start == period.start_micros,
    )
