"""Loading from SQL how organizations stood before a batch, for what may have to be told of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from sqlalchemy import ColumnElement, Connection, Table, select

from tollkeeper.ledger import loading
from tollkeeper.ledger.dialect import AnyRow, dialect_of
from tollkeeper.ledger.gate_tables import usage_stop
from tollkeeper.ledger.rows import CapRow, CreditRow, StopRow
from tollkeeper.ledger.standing import TOLD
from tollkeeper.ledger.tables import cap, credit, member, spent
from tollkeeper.ledger.thresholds import CapKey
from tollkeeper.ledger.view import OrganizationTotals, SpentKey


class SqlStandingReads:
    """See `fold_notifying.StandingReads`; one generation inside the fold's transaction."""

    def __init__(self, connection: Connection, generation: int) -> None:
        self._connection = connection
        self._generation = generation

    def organizations(self, names: Collection[str]) -> Mapping[str, OrganizationTotals]:
        """Those that were open."""
        return loading.load_organizations(self._connection, self._generation, names)

    def caps(self, keys: Collection[CapKey]) -> Mapping[CapKey, CapRow]:
        """These settings."""
        rows = dialect_of(self._connection).by_keys(
            self._connection, cap, ("organization", "scope", "member"), keys, self._generation
        )
        return _by_scope(rows)

    def caps_of(self, names: Collection[str]) -> Mapping[CapKey, CapRow]:
        """Every setting of these organizations."""
        return _by_scope(self._of(cap, names))

    def spent(self, keys: Collection[SpentKey]) -> Mapping[SpentKey, int]:
        """What these scopes had spent, nano-USD."""
        return loading.spent_before(self._connection, self._generation, keys)

    def spent_in(self, periods: Collection[tuple[str, int]]) -> Mapping[SpentKey, int]:
        """What every scope of these organizations had spent in these periods."""
        rows = dialect_of(self._connection).by_keys(
            self._connection, spent, ("organization", "period_start"), periods, self._generation
        )
        return {(row.organization, row.period_start, row.member): row.charge_nanos for row in rows}

    def open_stops(self, names: Collection[str]) -> Iterator[StopRow]:
        """Where usage of these organizations stopped and didn't resume."""
        for row in self._of(usage_stop, names, usage_stop.c.resumed_offset.is_(None)):
            yield loading.value_of(StopRow, row)

    def purchases(self, names: Collection[str]) -> Iterator[CreditRow]:
        """The purchases of these organizations that weren't voided."""
        for row in self._of(credit, names, credit.c.voided_at.is_(None)):
            yield loading.value_of(CreditRow, row)

    def told(self, names: Collection[str]) -> Iterator[tuple[str, str]]:
        """(organization, member) of those who receive every notification of it."""
        is_told = (member.c.role.in_(sorted(TOLD)), member.c.removed_at.is_(None))
        for row in self._of(member, names, *is_told):
            yield row.organization, row.member

    def _of(
        self, table: Table, names: Collection[str], *conditions: ColumnElement[bool]
    ) -> Iterator[AnyRow]:
        """A table's rows of these organizations, which are few: each is looked up."""
        for name in sorted(names):
            yield from self._connection.execute(
                select(table).where(
                    table.c.generation == self._generation,
                    table.c.organization == name,
                    *conditions,
                )
            )


def _by_scope(rows: Iterator[AnyRow]) -> Mapping[CapKey, CapRow]:
    return {
        (row.organization, row.scope, row.member): loading.value_of(CapRow, row) for row in rows
    }
