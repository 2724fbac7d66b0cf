"""Cold start of the gate: a Redis that knows nobody, and a ledger with many organizations on PostgreSQL.

First some organizations are asked for one by one, as their first calls would; then all of them at once.
"""

from __future__ import annotations

import subprocess
import threading
from statistics import quantiles
from time import perf_counter

from bench.gate_ground import CALL, OWNER, Installation, epoch_of, installation
from sqlalchemy import Connection, Table, text
from support import homes

from tollkeeper.events.ids import now_micros
from tollkeeper.gate import encoding
from tollkeeper.gate.answers import Done, Status, Unknown
from tollkeeper.gate.commands import Request
from tollkeeper.gate.sdk import Gate
from tollkeeper.ledger.tables import cap, member, organization, spent
from tollkeeper.log.partitioner import partition_for
from tollkeeper.money.periods import period_at
from tollkeeper.organizations.commands import BuyCredits

FIRST_HOLDS = 200
AT_ONCE = 1_000
WARM_WITHIN_S = 600.0
LOOK_EVERY_S = 0.05
MEMBERS = 5
USD = 1_000_000_000
LIKE = "org-001"
"""Who is copied: opened by a command, and folded."""


def run(organizations: int) -> dict[str, float]:
    """Milliseconds of a first hold, and seconds until all were warm that were asked for."""
    with installation(1_000) as made:
        made.done(BuyCredits(organization=LIKE, credit_nanos=1_000 * USD))
        subprocess.run(
            homes.command("consume", "--until-caught-up"),
            env=made.environment,
            check=True,
            capture_output=True,
        )
        names = [f"cold-{number:06d}" for number in range(organizations)]
        with made.app.engine.begin() as connection:
            _store(connection, names, partitions=made.app.log.partition_count)
        with made.app.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
            plain.execute(text("VACUUM ANALYZE"))
        with made.kept(), made.gate() as gate:
            apart = organizations // min(organizations, FIRST_HOLDS)
            first_s = [_first_hold(gate, name) for name in names[::apart]]
            all_s = _warm_all(made, gate, names)
            found = made.functions.run_many(
                [encoding.status(name, member=OWNER) for name in names[::97]]
            )
            assert all(isinstance(one, Status) and one.is_known for one in found)
    cuts = quantiles(first_s, n=100)
    return {
        "organizations": organizations,
        "members_each": MEMBERS + 1,
        "first_holds": len(first_s),
        "first_hold_p50_ms": round(cuts[49] * 1_000, 1),
        "first_hold_p99_ms": round(cuts[98] * 1_000, 1),
        "all_warm_s": round(all_s, 1),
        "organizations_per_s": round(organizations / all_s),
    }


def _first_hold(gate: Gate, name: str) -> float:
    began = perf_counter()
    gate.hold(organization=name, max_cost_usd="0.01", **CALL).release()
    return perf_counter() - began


def _warm_all(made: Installation, gate: Gate, names: list[str]) -> float:
    """Have each asked for by a hold; until nobody waits any more."""
    emitter, epoch = gate.core.session.emitter, epoch_of(made.functions)
    assert emitter is not None
    began, pause = perf_counter(), threading.Event()
    for first in range(0, len(names), AT_ONCE):
        part = names[first : first + AT_ONCE]
        assert isinstance(made.functions.run(encoding.note(epoch, emitter, part)), Done)
        millis = now_micros() // 1_000
        calls = [
            encoding.hold(
                name,
                Request(100, OWNER, "web"),
                hold_id=f"{name}/{emitter}/{millis}/cold",
                emitter=emitter,
                epoch=epoch,
            )
            for name in part
        ]
        asked = made.functions.run_many(calls)
        assert first == 0 or any(isinstance(one, Unknown) for one in asked)
    while made.functions.run(encoding.asked_to_warm(most=1)):
        assert perf_counter() - began < WARM_WITHIN_S
        pause.wait(LOOK_EVERY_S)
    return perf_counter() - began


def _store(connection: Connection, names: list[str], *, partitions: int) -> None:
    """Organizations like one that was opened, each with members, caps, and what was spent this month."""
    connection.execute(text("CREATE TEMPORARY TABLE cold (name text, log_partition bigint)"))
    connection.execute(
        text("INSERT INTO cold VALUES (:name, :place)"),
        [{"name": name, "place": partition_for(name, partitions)} for name in names],
    )
    start = period_at(now_micros()).start_micros
    _copy(connection, organization, {"log_partition": "cold.log_partition", "last_offset": "0"})
    _copy(connection, member, {})
    number = f"generate_series(1, {MEMBERS}) AS n"
    _copy(connection, member, {"member": "'member-' || n", "role": "'member'"}, number)
    common = f"1, cold.name, 'organization', '', 'capped', {1_000 * USD}, 1, {start}"
    default = f"1, cold.name, 'member_default', '', 'capped', {100 * USD}, 1, {start}"
    columns = "generation, organization, scope, member, setting, cap_nanos, version, set_at"
    for values in (common, default):
        connection.execute(text(f"INSERT INTO {cap.name} ({columns}) SELECT {values} FROM cold"))
    connection.execute(
        text(
            f"INSERT INTO {spent.name} (generation, organization, period_start, member, charge_nanos) "
            f"SELECT 1, cold.name, {start}, CASE n WHEN 0 THEN '' ELSE 'member-' || n END, 1000 * n "
            f"FROM cold, generate_series(0, {MEMBERS}) AS n"
        )
    )


def _copy(
    connection: Connection, table: Table, instead: dict[str, str], further: str = "(SELECT) AS no"
) -> None:
    """The rows of LIKE again for everybody, some columns otherwise."""
    values = {"organization": "cold.name", **instead}
    columns = ", ".join(column.name for column in table.columns)
    taken = ", ".join(values.get(one.name, f"{table.name}.{one.name}") for one in table.columns)
    connection.execute(
        text(
            f"INSERT INTO {table.name} ({columns}) SELECT {taken} FROM {table.name}, cold, {further} "
            f"WHERE {table.name}.organization = '{LIKE}'"
        )
    )
