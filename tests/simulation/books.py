"""Reads the ledger's own tables, the way a sceptic would: from single charges, not from running totals."""

from __future__ import annotations

from collections import defaultdict

from simulation.truth import Totals
from sqlalchemy import Connection, func, select

from tollkeeper.ledger.tables import cap, charge, member, organization

NANOS_PER_MICRO = 1_000


def totals_in(connection: Connection, generation: int) -> dict[str, tuple[int, Totals]]:
    """Each organization's last offset and what Redis has to say of it there, by Redis' field names."""
    fields: dict[str, dict[str, str]] = defaultdict(dict)
    _put_spent(connection, generation, fields)
    _put_caps(connection, generation, fields)
    _put_members(connection, generation, fields)
    found = {}
    columns = organization.c
    for row in connection.execute(select(organization).where(columns.generation == generation)):
        of_it = fields[row.organization]
        of_it["purchased"] = str(row.purchased_nanos // NANOS_PER_MICRO)
        of_it["used"] = str(_up(row.used_nanos))
        found[row.organization] = (int(row.last_offset), Totals(of_it))
    return found


def charged_in(connection: Connection, generation: int) -> set[tuple[str, str]]:
    """Every charged event."""
    columns = charge.c
    rows = connection.execute(
        select(columns.organization, columns.event_id).where(columns.generation == generation)
    )
    return {(row[0], row[1]) for row in rows}


def _put_spent(connection: Connection, generation: int, fields: dict[str, dict[str, str]]) -> None:
    columns = charge.c
    keys = (columns.organization, columns.period_start, columns.member)
    rows = connection.execute(
        select(*keys, func.sum(columns.charge_nanos))
        .where(columns.generation == generation)
        .group_by(*keys)
    )
    all_of_it: dict[tuple[str, int], int] = defaultdict(int)
    for name, start, who, nanos in rows:
        all_of_it[name, start] += int(nanos)
        fields[name][f"spent {start} member/{who}"] = str(_up(int(nanos)))
    for (name, start), nanos in all_of_it.items():
        fields[name][f"spent {start} organization/{name}"] = str(_up(nanos))


def _put_caps(connection: Connection, generation: int, fields: dict[str, dict[str, str]]) -> None:
    names = connection.execute(
        select(organization.c.organization).where(organization.c.generation == generation)
    ).scalars()
    for name in names:
        fields[name] |= {"cap organization": "unlimited", "cap member": "unlimited"}
    for row in connection.execute(select(cap).where(cap.c.generation == generation)):
        if row.setting == "inherit":
            continue
        value = "unlimited" if row.setting == "unlimited" else str(row.cap_nanos // NANOS_PER_MICRO)
        scopes = {
            "organization": f"cap organization/{row.organization}",
            "member_default": "cap member",
            "member": f"cap member/{row.member}",
        }
        fields[row.organization][scopes[row.scope]] = value


def _put_members(
    connection: Connection, generation: int, fields: dict[str, dict[str, str]]
) -> None:
    of_now = (member.c.generation == generation, member.c.removed_at.is_(None))
    for row in connection.execute(select(member).where(*of_now)):
        fields[row.organization][f"member {row.member}"] = "1"


def _up(nanos: int) -> int:
    return -(-nanos // NANOS_PER_MICRO)
