"""`replay verify`: any row changed by hand is found."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from replay.histories import ENDING_AT, EVENTS, replayed, tables
from sqlalchemy import Connection, Integer, LargeBinary, Table, select, update
from support import homes
from support.events import usage
from support.stores import Store

from tollkeeper.app.wiring import App
from tollkeeper.errors import LogDiverged, LogGap
from tollkeeper.events.codec import encode
from tollkeeper.ledger.columns import NOT_FOLDED
from tollkeeper.ledger.tables import PROJECTIONS, consumer_offset
from tollkeeper.log.partitioner import partition_for
from tollkeeper.outbox.database import reading
from tollkeeper.replay.comparing import differences
from tollkeeper.replay.folding import fold_up_to

COLUMNS = [
    (table, column.name)
    for table in PROJECTIONS
    for column in table.columns
    if not column.primary_key
    # A position that is changed by hand is another position: tested one by one below.
    and not (table is consumer_offset and column.name in ("next_offset", "log_identity"))
    and NOT_FOLDED not in column.info
]
KEYS = [
    (table, column.name)
    for table in PROJECTIONS[1:]
    for column in table.primary_key
    if column.name != "generation"
]


def test_an_untouched_ledger_agrees_and_nothing_is_left_behind(app: App) -> None:
    before = tables(app)
    assert replayed(app).agrees
    assert tables(app) == before


@pytest.mark.parametrize("table", PROJECTIONS[1:], ids=lambda table: table.name)
def test_a_value_changed_by_hand_is_found_and_named(app: App, table: Table) -> None:
    column = next(column for shown, column in COLUMNS if shown is table)
    with app.engine.begin() as connection:
        row = change(connection, table, column)
    report = replayed(app)
    assert not report.agrees
    (difference,) = report.differences
    assert (difference.table, difference.column) == (table.name, column)
    assert difference.organization == row.get("organization")
    assert difference.organization is None or difference.organization in difference.describe()


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=lambda one: str(one))
def test_a_change_of_any_column_is_found(both: App, table: Table, column: str) -> None:
    with rolled_back(both) as connection:
        row = change(connection, table, column)
        (difference,) = differences(connection, 1, 2)
    assert (difference.table, difference.column) == (table.name, column)
    assert difference.organization == row.get("organization")
    assert difference.live != difference.replayed


@pytest.mark.parametrize(("table", "column"), KEYS, ids=lambda one: str(one))
def test_a_key_changed_by_hand_is_a_row_too_many_and_one_too_few(
    both: App, table: Table, column: str
) -> None:
    with rolled_back(both) as connection:
        row = change(connection, table, column)
        found = differences(connection, 1, 2)
    assert {one.table for one in found} == {table.name}
    assert {one.column for one in found} == {None}
    assert row.get("organization") in {one.organization for one in found}
    assert any("stands only in the" in one.describe() for one in found)


def test_how_far_the_gate_has_taken_a_fold_is_no_difference(both: App) -> None:
    with rolled_back(both) as connection:
        connection.execute(
            update(consumer_offset)
            .where(consumer_offset.c.generation == 1)
            .values(applied_offset=consumer_offset.c.next_offset)
        )
        assert differences(connection, 1, 2) == []


def test_two_equal_folds_have_no_difference(both: App) -> None:
    """Else the tests above would find what was there before."""
    with reading(both.engine) as connection:
        assert differences(connection, 1, 2) == []


@pytest.fixture(scope="module")
def both(
    filled: Path, either_store: Store, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[App]:
    """The live generation, and a second fold of the same log that stays beside it."""
    home = either_store.copied(filled, tmp_path_factory.mktemp("both") / "home")
    with homes.opened_app(home) as app:
        second = app.ledger.begin_generation(
            app.clock(), partitions=app.log.partition_count, log_identity=app.log.identity
        )
        assert second == 2
        ends = app.log.end_offsets()
        fold_up_to(app.log, app.ledger, second, ends, progress=lambda _records: None)
        yield app


@contextmanager
def rolled_back(app: App) -> Iterator[Connection]:
    with app.engine.connect() as connection:
        yield connection
        connection.rollback()


def change(connection: Connection, table: Table, column: str) -> Mapping[str, Any]:
    """Change one value of the live generation's first row; answers the row as it was."""
    found = select(table).where(table.c.generation == 1).limit(1)
    row: Mapping[str, Any] = dict(connection.execute(found).one()._mapping)
    key = [item == row[item.name] for item in table.primary_key]
    kind = table.c[column].type
    value: object = "changed"
    if isinstance(kind, LargeBinary):
        value = b"changed"
    elif isinstance(kind, Integer) or str(kind) == "INTEGER":
        value = (row[column] or 0) + 4_711
    connection.execute(update(table).where(*key).values({column: value}))
    return row


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
            f"UPDATE consumer_offset SET next_offset = next_offset - 1 WHERE log_partition = {partition}"
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


def on_log(app: App, sql: str, *values: object) -> None:
    """Tamper with the embedded log's file behind everybody's back."""
    with closing(sqlite3.connect(app.settings.log_path)) as connection, connection:
        assert connection.execute(sql, values).rowcount == 1
