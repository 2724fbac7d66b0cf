"""`replay verify` and `rebuild`: any row changed by hand is found; only equal folds are swapped."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Integer, LargeBinary, Table, select, update
from support import homes
from support.events import usage
from support.waiting import eventually

from tollkeeper.app.wiring import App
from tollkeeper.errors import LogDiverged, LogGap
from tollkeeper.events.codec import encode
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import PROJECTIONS, consumer_offset, generation
from tollkeeper.log.partitioner import partition_for
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    OpenOrganization,
    RemoveMember,
    SetCap,
    VoidCredits,
)
from tollkeeper.outbox.database import reading
from tollkeeper.replay.verify import ReplayReport, rebuild, verify
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

ENDING_AT = 1_793_880_000_000_000
EVENTS = 400
COLUMNS = [
    (table, column.name)
    for table in PROJECTIONS
    for column in table.columns
    if not column.primary_key
    # A position that is changed by hand is another position: tested one by one below.
    and not (table is consumer_offset and column.name in ("next_offset", "log_identity"))
]
KEYS = [
    (table, column.name)
    for table in PROJECTIONS[1:]
    for column in table.primary_key
    if column.name != "generation"
]


def load(events: int = EVENTS, seed: int = 5) -> list[Usage]:
    return list(synthetic(SyntheticLoad(seed=seed, events=events, ending_at=ENDING_AT)))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which every projection table has rows, all folded."""
    home = tmp_path_factory.mktemp("filled")
    with homes.opened_app(home) as app:
        fill(app)
    return home


def fill(app: App) -> None:
    for number in range(1, 4):
        name = f"org-{number:03d}"
        homes.handle(
            app,
            OpenOrganization(organization=name, plan="enterprise_self_serve", owner="owner"),
            BuyCredits(organization=name, credit_nanos=10**12),
            AddMember(organization=name, member="gone", role="member"),
            RemoveMember(organization=name, member="gone"),
            SetCap(organization=name, scope="organization", setting="capped", cap_nanos=10**12),
        )
    homes.handle(
        app, VoidCredits(organization="org-002", purchase_id="purchase-2", reason="by mistake")
    )
    homes.emit(app, load())
    homes.emit(
        app,
        [
            Usage(
                organization="org-001",
                member="m",
                surface="web",
                model="unpriced",
                input_tokens=5,
                occurred_at=ENDING_AT,
            )
        ],
    )
    homes.fold(app)


@pytest.fixture
def app(filled: Path, tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(homes.copied(filled, tmp_path / "home")) as opened:
        yield opened


def replayed(app: App) -> ReplayReport:
    return verify(app.log, app.ledger, now=app.clock(), progress=lambda _records: None)


def test_an_untouched_ledger_agrees_and_nothing_is_left_behind(app: App) -> None:
    before = tables(app)
    assert replayed(app).agrees
    assert tables(app) == before


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=lambda one: str(one))
def test_a_value_changed_by_hand_is_found_and_named(app: App, table: Table, column: str) -> None:
    with app.engine.begin() as connection:
        row = connection.execute(select(table).limit(1)).one()._mapping
        key = [item == row[item.name] for item in table.primary_key]
        changed = table.c[column]
        value: object = "changed"
        if isinstance(changed.type, LargeBinary):
            value = b"changed"
        elif isinstance(changed.type, Integer) or str(changed.type) == "INTEGER":
            value = (row[column] or 0) + 7
        connection.execute(update(table).where(*key).values({column: value}))
    report = replayed(app)
    assert not report.agrees
    (difference,) = report.differences
    assert (difference.table, difference.column) == (table.name, column)
    assert difference.organization == row.get("organization")
    assert difference.organization is None or difference.organization in difference.describe()


@pytest.mark.parametrize(("table", "column"), KEYS, ids=lambda one: str(one))
def test_a_key_changed_by_hand_is_a_row_too_many_and_one_too_few(
    app: App, table: Table, column: str
) -> None:
    with app.engine.begin() as connection:
        row = connection.execute(select(table).limit(1)).one()._mapping
        key = [item == row[item.name] for item in table.primary_key]
        value = 4_711 if isinstance(row[column], int) else "changed"
        connection.execute(update(table).where(*key).values({column: value}))
    found = replayed(app).differences
    assert {one.table for one in found} == {table.name}
    assert {one.column for one in found} == {None}
    assert row.get("organization") in {one.organization for one in found}
    assert any("stands only in the" in one.describe() for one in found)


def test_a_position_of_another_log_is_named(app: App) -> None:
    with app.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE consumer_offset SET log_identity = 'other' WHERE log_partition = 3"
        )
    (difference,) = replayed(app).differences
    assert (difference.table, difference.column) == ("consumer_offset", "log_identity")
    assert difference.key == {"log_partition": 3}


def test_a_position_set_back_by_hand_leaves_rows_that_no_replay_has(app: App) -> None:
    partition = partition_for("org-001", app.log.partition_count)
    with app.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE consumer_offset SET next_offset = next_offset - 1 WHERE log_partition = ?",
            (partition,),
        )
    report = replayed(app)
    assert not report.agrees
    assert report.differences[0].table == "consumer_offset"
    assert report.differences[0].key == {"log_partition": partition}
    assert "org-001" in [one.organization for one in report.differences]


def test_a_position_set_ahead_of_the_log_by_hand_is_named(app: App) -> None:
    with app.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE consumer_offset SET next_offset = next_offset + 1 WHERE log_partition = 3"
        )
    with pytest.raises(LogGap, match="partition 3: the log ends at"):
        replayed(app)


@pytest.mark.parametrize("table", PROJECTIONS[1:], ids=lambda table: table.name)
def test_a_row_that_was_deleted_is_found(app: App, table: Table) -> None:
    with app.engine.begin() as connection:
        row = connection.execute(select(table).limit(1)).one()._mapping
        connection.execute(
            table.delete().where(*[item == row[item.name] for item in table.primary_key])
        )
    report = replayed(app)
    assert not report.agrees
    assert "stands only in the replay" in report.differences[0].describe()
    assert report.differences[0].organization == row.get("organization")


def test_every_projection_table_is_filled_here(app: App) -> None:
    """Else the tests above would prove nothing about the empty ones."""
    assert all(rows for rows in tables(app).values())


def test_one_wrong_row_in_each_of_two_organizations_names_both(app: App) -> None:
    with app.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE organization SET used_nanos = 1 WHERE organization > 'org-001'"
        )
    report = replayed(app)
    assert [one.organization for one in report.differences] == ["org-002", "org-003"]
    assert not report.swapped


def test_a_rebuild_swaps_when_both_agree(app: App) -> None:
    before = tables(app)
    report = swapped(app)
    assert (report.agrees, report.swapped) == (True, True)
    with reading(app.engine) as connection:
        assert live_generation(connection) == report.replayed_generation != report.live_generation
        assert connection.execute(select(generation.c.generation)).scalars().all() == [
            report.replayed_generation
        ]
    assert tables(app) == before
    homes.emit(app, load(200, seed=6))
    assert homes.fold(app).counts.charged == 200
    assert replayed(app).agrees


def test_a_rebuild_that_differs_swaps_nothing(app: App) -> None:
    with app.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE spend SET output_nanos = output_nanos + 1")
    before = tables(app)
    report = swapped(app)
    assert (report.agrees, report.swapped) == (False, False)
    assert {one.organization for one in report.differences} == {"org-001", "org-002", "org-003"}
    assert report.untied == ()
    assert tables(app) == before


def test_a_live_consumer_goes_on_in_the_swapped_generation(filled: Path, tmp_path: Path) -> None:
    """It folds while the history is folded beside it, finds its fence lost, and takes up the new one."""
    home = homes.copied(filled, tmp_path / "home")
    more = load(4_000, seed=8)
    consumer = homes.start(home, "run", "--only", "consume")
    try:
        with homes.opened_app(home) as app:
            homes.emit(app, more[:2_000])
            writer = threading.Thread(target=homes.emit, args=(app, more[2_000:]))
            writer.start()
            reports = [swapped(app) for _ in range(3)]
            writer.join(60)
            assert all(report.swapped for report in reports)
            eventually(lambda: homes.charged(app) == EVENTS + 4_000, 60, what="all is charged")
            assert replayed(app).agrees
        consumer.send_signal(signal.SIGTERM)
        _, errors = consumer.communicate(timeout=30)
        assert consumer.returncode == 0, errors
    finally:
        consumer.kill()
        consumer.communicate()


@pytest.mark.parametrize(
    ("failpoint", "live_after"),
    [
        ("pipeline.after_fold=kill@3", 1),
        ("replay.before_swap_commit=kill", 1),
        ("replay.before_drop=kill", 2),
        ("replay.in_drop=kill@4", 2),
    ],
)
def test_a_rebuild_that_is_killed_leaves_one_live_ledger(
    filled: Path, tmp_path: Path, failpoint: str, live_after: int
) -> None:
    home = homes.copied(filled, tmp_path / "home")
    killed = homes.run(home, "rebuild", "--swap", failpoints=failpoint)
    assert killed.returncode == homes.KILLED, killed.stderr
    with homes.opened_app(home) as app:
        with reading(app.engine) as connection:
            assert live_generation(connection) == live_after
        assert homes.charged(app) == EVENTS
    again = homes.run(home, "rebuild", "--swap", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["swapped"]
    with homes.opened_app(home) as app:
        with reading(app.engine) as connection:
            assert len(connection.execute(select(generation.c.generation)).all()) == 1
            for table in PROJECTIONS:
                found = connection.execute(select(table.c.generation).distinct())
                assert found.scalars().all() == [live_generation(connection)]
        assert replayed(app).agrees


def test_the_command_swaps_nothing_and_names_the_organization_when_they_differ(app: App) -> None:
    with app.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE credit SET credit_nanos = 5 WHERE organization = 'org-002'"
        )
    before = tables(app)
    ended = homes.run(app.settings.home, "rebuild", "--swap", "--json")
    assert ended.returncode == 1, ended.stderr
    (difference,) = json.loads(ended.stdout)["differences"]
    assert (difference["organization"], difference["table"]) == ("org-002", "credit")
    shown = homes.run(app.settings.home, "rebuild", "--swap")
    assert shown.returncode == 1
    assert "org-002" in shown.stdout
    with reading(app.engine) as connection:
        assert live_generation(connection) == 1
    assert tables(app) == before


def test_a_history_that_begins_too_late_cannot_prove_anything(app: App) -> None:
    on_log(app, 'DELETE FROM partition_3 WHERE "offset" = 0')
    with pytest.raises((LogGap, LogDiverged), match="partition 3"):
        replayed(app)
    assert homes.charged(app) == EVENTS


def test_a_hole_in_history_is_named(app: App) -> None:
    on_log(app, 'DELETE FROM partition_3 WHERE "offset" = 3')
    with pytest.raises(LogGap, match="partition 3: offset 3 is missing"):
        replayed(app)
    assert homes.charged(app) == EVENTS


def test_a_record_rewritten_on_the_log_is_a_difference(app: App) -> None:
    """The ledger was right once; whoever rewrites history is found out as well."""
    forged = encode(usage(event_id="forged", organization="org-001", occurred_at=ENDING_AT))
    partition = partition_for("org-001", app.log.partition_count)
    on_log(app, f'UPDATE partition_{partition} SET value = ? WHERE "offset" = 9', forged)
    report = replayed(app)
    assert not report.agrees
    assert {one.organization for one in report.differences} >= {"org-001"}


def swapped(app: App) -> ReplayReport:
    return rebuild(app.log, app.ledger, swap=True, now=app.clock(), progress=lambda _records: None)


def on_log(app: App, sql: str, *values: object) -> None:
    """Tamper with the embedded log's file behind everybody's back."""
    with closing(sqlite3.connect(app.settings.log_path)) as connection, connection:
        assert connection.execute(sql, values).rowcount == 1


def tables(app: App) -> dict[str, list[tuple[object, ...]]]:
    with reading(app.engine) as connection:
        live = live_generation(connection)
        return {
            table.name: [
                tuple(value for name, value in row._mapping.items() if name != "generation")
                for row in connection.execute(
                    select(table)
                    .where(table.c.generation == live)
                    .order_by(*table.primary_key.columns)
                )
            ]
            for table in PROJECTIONS
        }
