"""The gate's policies as the ledger has them, for whoever publishes them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, select

from tollkeeper.ledger.gate_tables import gate_policy
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.rows import EVERYBODY


class GatePolicyRow(msgspec.Struct, frozen=True):
    """`organization` is EVERYBODY for the default. Nano-USD; `until` in microseconds, None: no end.

    After `until` the default holds, and after the default's end, or without one, `closed`.
    """

    organization: str
    policy: str
    ceiling_nanos: int | None
    until: int | None


def gate_policies(connection: Connection) -> tuple[int, tuple[GatePolicyRow, ...]]:
    """A version that grows with every change, and the policies by organization, the default first.

    The version is the sum of all that were ever taken, so an older state of SQL has a smaller one.
    Organizations that inherit the default aren't in the answer; those whose time is over are.
    """
    columns = gate_policy.c
    rows = connection.execute(
        select(gate_policy)
        .where(columns.generation == live_generation(connection))
        .order_by(columns.organization, columns.version)
    )
    newest = {row.organization: row for row in rows}  # the default: of all partitions' the newest
    version = sum(row.version for row in newest.values())
    return version, tuple(
        GatePolicyRow(name, row.policy, row.ceiling_nanos, row.until)
        for name, row in sorted(newest.items(), key=lambda item: (item[0] != EVERYBODY, item[0]))
        if row.policy != "inherit"
    )


def policy_in_force(
    rows: Iterable[GatePolicyRow], organization: str, now: int
) -> GatePolicyRow | None:
    """The organization's own before the default, each before its end; None: `closed`, since none holds."""
    found = {row.organization: row for row in rows if row.until is None or now < row.until}
    return found.get(organization, found.get(EVERYBODY))
