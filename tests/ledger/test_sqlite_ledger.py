"""The ledger's contract on SQLite, and what is SQLite's own."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from ledger.contract import LedgerContract

from tollkeeper.ledger.migrate import HEAD, is_current, migrate, newest_script
from tollkeeper.ledger.rows import ChargeRow
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.ledger.tables import charge
from tollkeeper.outbox.database import open_engine, reading
from tollkeeper.outbox.tables import metadata


def open_ledger(folder: Path) -> SqlLedger:
    engine = open_engine(f"sqlite:///{folder}/ledger.sqlite")
    migrate(engine)
    return SqlLedger(engine)


class TestSqliteLedger(LedgerContract):
    def make_ledger(self, folder: object) -> SqlLedger:
        assert isinstance(folder, Path)
        return open_ledger(folder)


def test_the_migrations_make_exactly_the_tables_of_the_code(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    migrate(ledger.engine)  # a second time changes nothing
    assert is_current(ledger.engine)
    with reading(ledger.engine) as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
    ledger.close()


def test_a_new_database_is_not_current(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/empty.sqlite")
    assert not is_current(engine)
    engine.dispose()


def test_a_charge_row_has_the_columns_of_its_table_in_their_order() -> None:
    assert ("generation", *ChargeRow._fields) == tuple(charge.columns.keys())


def test_the_database_is_durable_and_strict(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    with reading(ledger.engine) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        tables = connection.exec_driver_sql("PRAGMA table_list").all()
    strict = {row[1]: row[5] for row in tables if row[1] in metadata.tables}
    assert strict == dict.fromkeys(metadata.tables, 1)
    ledger.close()


def test_the_head_that_the_code_names_is_the_newest_script() -> None:
    assert newest_script() == HEAD
