"""Reads the ledger's own tables, the way a sceptic would: from single charges, not from running totals."""

from __future__ import annotations

from collections import defaultdict

from simulation.truth import Totals
from sqlalchemy import BindParameter, Connection, bindparam, func, select

from tollkeeper.ledger.tables import cap, charge, member, organization

NANOS_PER_MICRO = 1_000
_NUMBER: BindParameter[int] = bindparam("generation")
_ORGANIZATIONS = select(organization).where(organization.c.generation == _NUMBER)
_CAPS = select(cap).where(cap.c.generation == _NUMBER)
_MEMBERS = select(member).where(member.c.generation == _NUMBER, member.c.removed_at.is_(None))
_SPENDERS = (charge.c.organization, charge.c.period_start, charge.c.member)
_SPENT = (
    select(*_SPENDERS, func.sum(charge.c.charge_nanos))
    .where(charge.c.generation == _NUMBER)
    .group_by(*_SPENDERS)
)


def totals_in(connection: Connection, generation: int) -> dict[str, tuple[int, Totals]]:
    """Each organization's last offset and what Redis has to say of it there, by Redis' field names."""
    fields: dict[str, dict[str, str]] = defaultdict(dict)
    _put_spent(connection, generation, fields)
    _put_caps(connection, generation, fields)
    _put_members(connection, generation, fields)
    found = {}
    for row in connection.execute(_ORGANIZATIONS, {"generation": generation}):
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
    rows = connection.execute(_SPENT, {"generation": generation})
    all_of_it: dict[tuple[str, int], int] = defaultdict(int)
    for name, start, who, nanos in rows:
        all_of_it[name, start] += int(nanos)
        fields[name][f"spent {start} member/{who}"] = str(_up(int(nanos)))
    for (name, start), nanos in all_of_it.items():
        fields[name][f"spent {start} organization/{name}"] = str(_up(nanos))


def _put_caps(connection: Connection, generation: int, fields: dict[str, dict[str, str]]) -> None:
    for one in connection.execute(_ORGANIZATIONS, {"generation": generation}):
        fields[one.organization] |= {"cap organization": "unlimited", "cap member": "unlimited"}
    for row in connection.execute(_CAPS, {"generation": generation}):
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
    for row in connection.execute(_MEMBERS, {"generation": generation}):
        fields[row.organization][f"member {row.member}"] = "1"


def _up(nanos: int) -> int:
    return -(-nanos // NANOS_PER_MICRO)
