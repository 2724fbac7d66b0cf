"""What `warm` brings to Redis: organizations as one SQL snapshot shows them, many at a time.

A handful of queries, each by whole keys, however many organizations there are. The caller's connection
must read one snapshot (`outbox.database.reading`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import msgspec
from sqlalchemy import Connection, Table

from tollkeeper.gate.amounts import purchased_micros, spent_micros
from tollkeeper.gate.commands import Cap, Phase, Snapshot, Spent
from tollkeeper.gate.hold_ids import parse_hold_id
from tollkeeper.ledger import loading
from tollkeeper.ledger.dialect import AnyRow, dialect_of
from tollkeeper.ledger.effects import LEVELS, MEMBER, ORGANIZATION, cap_of, scope_of
from tollkeeper.ledger.emitters import retired_among, retired_from
from tollkeeper.ledger.epochs import read_epochs
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.port import Position
from tollkeeper.ledger.rows import CapRow
from tollkeeper.ledger.tables import (
    CHARGES_BY_HOLD,
    LETTERS_BY_HOLD,
    cap,
    charge,
    dead_letter,
    member,
    organization,
    spent,
)
from tollkeeper.money.periods import Period, period_at

SEATS = "every_member"
"""Until seats are sold every member counts as seated."""

Holds = Mapping[str, tuple[str, ...]]
"""By organization, the ids of the holds that Redis was seen to have."""
Periods = tuple[Period, Period, Period]


class _Books(msgspec.Struct, frozen=True):
    """All that was read; every mapping but the first two is by organization."""

    places: Mapping[int, Position]
    retired: Mapping[int, frozenset[str]]
    periods: Periods
    members: Mapping[str, list[AnyRow]]
    caps: Mapping[str, list[AnyRow]]
    spent: Mapping[str, list[AnyRow]]
    settled: Mapping[str, set[str]]


def snapshots(
    connection: Connection,
    wanted: Holds,
    *,
    now_micros: int,
    tag_of: Callable[[str], str],
) -> dict[str, Snapshot | None]:
    """The live generation's view of these organizations; None for one that isn't open.

    The periods are the one of `now_micros`, the one before and the one after. A primary without an
    epoch row is as one that recovers: Redis warms nothing of it. Of emitters a snapshot names those whose
    holds were asked about, and those of whose retirement Redis may not have heard.
    """
    number = live_generation(connection)
    epochs = read_epochs(connection)
    rows = {row.organization: row for row in _of_names(connection, number, organization, wanted)}
    books = _read(connection, number, wanted, rows, now_micros)
    found: dict[str, Snapshot | None] = dict.fromkeys(wanted)
    for name, row in rows.items():
        epoch = epochs.get(tag_of(name))
        phase: Phase = "recovering" if epoch is None else epoch.phase
        found[name] = _snapshot(
            row, wanted[name], books, 0 if epoch is None else epoch.epoch, phase
        )
    return found


def _read(
    connection: Connection, number: int, wanted: Holds, rows: Mapping[str, AnyRow], now_micros: int
) -> _Books:
    now = period_at(now_micros)
    periods = (period_at(now.start_micros - 1), now, period_at(now.end_micros))
    places = positions(connection, number)
    unheard = {
        row.log_partition: places[row.log_partition].applied_offset or 0 for row in rows.values()
    }
    holders = {
        (rows[name].log_partition, parse_hold_id(hold).emitter)
        for name, holds in wanted.items()
        if name in rows
        for hold in holds
    }
    retired = retired_among(connection, number, holders)
    for partition, names in retired_from(connection, number, unheard).items():
        retired[partition] |= names
    spent_keys = [(name, one.start_micros) for name in rows for one in periods]
    by_keys = dialect_of(connection).by_keys
    return _Books(
        places,
        {one: frozenset(names) for one, names in retired.items()},
        periods,
        _grouped(_of_names(connection, number, member, rows)),
        _grouped(_of_names(connection, number, cap, rows)),
        _grouped(by_keys(connection, spent, ("organization", "period_start"), spent_keys, number)),
        _settled(connection, number, wanted, rows),
    )


def _settled(
    connection: Connection, number: int, wanted: Holds, rows: Mapping[str, AnyRow]
) -> Mapping[str, set[str]]:
    """The holds whose usage was folded: charged, or quarantined where its organization is at home."""
    keys = [(name, hold) for name in rows for hold in wanted[name]]
    key = ("organization", "hold_id")
    by_keys = dialect_of(connection).by_keys
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in by_keys(connection, charge, key, keys, number, CHARGES_BY_HOLD):
        found[row.organization].add(row.hold_id)
    for row in by_keys(connection, dead_letter, key, keys, number, LETTERS_BY_HOLD):
        if row.log_partition == rows[row.organization].log_partition:
            found[row.organization].add(row.hold_id)
    return found


def _snapshot(
    row: AnyRow, holds: tuple[str, ...], books: _Books, epoch: int, phase: Phase
) -> Snapshot:
    name = row.organization
    settled = books.settled.get(name, set())
    funding: Literal["prepaid", "arrears"] = "prepaid" if row.channel == "self_serve" else "arrears"
    return Snapshot(
        epoch=epoch,
        phase=phase,
        offset=row.last_offset,
        position=books.places[row.log_partition].next_offset,
        periods=books.periods,
        funding=funding,
        seats=SEATS,
        levels=LEVELS,
        caps=_caps(books.caps.get(name, ())),
        spent=_spent(books.spent.get(name, ())),
        used_micros=spent_micros(row.used_nanos),
        purchased_micros=purchased_micros(row.purchased_nanos),
        members=tuple(
            sorted(one.member for one in books.members.get(name, ()) if one.removed_at is None)
        ),
        retired=tuple(sorted(books.retired.get(row.log_partition, ()))),
        settled=tuple(hold for hold in holds if hold in settled),
        still_open=tuple(hold for hold in holds if hold not in settled),
    )


def _caps(rows: Iterable[AnyRow]) -> tuple[Cap, ...]:
    """A default for each level, unlimited unless one was set, and every scope's own."""
    found = {level: Cap(level, "unlimited") for level in (ORGANIZATION, MEMBER)}
    for row in sorted(rows, key=lambda row: (row.scope, row.member)):
        one = cap_of(loading.value_of(CapRow, row))
        if one.cap != "inherit":
            found[one.scope] = one
    return tuple(found.values())


def _spent(rows: Iterable[AnyRow]) -> tuple[Spent, ...]:
    return tuple(
        Spent(
            period_at(row.period_start),
            scope_of(row.organization, row.member),
            spent_micros(row.charge_nanos),
        )
        for row in sorted(rows, key=lambda row: (row.period_start, row.member))
    )


def _of_names(
    connection: Connection, number: int, table: Table, names: Iterable[str]
) -> Iterator[AnyRow]:
    keys = [(name,) for name in names]
    return dialect_of(connection).by_keys(connection, table, ("organization",), keys, number)


def _grouped(rows: Iterable[AnyRow]) -> Mapping[str, list[AnyRow]]:
    found: defaultdict[str, list[AnyRow]] = defaultdict(list)
    for row in rows:
        found[row.organization].append(row)
    return found
