"""The ledger's contract on PostgreSQL, and what is PostgreSQL's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from ledger.contract import GENERATION, LOG, LedgerContract, charge_row, move
from sqlalchemy import event, text
from support.events import NOON
from support.waiting import eventually

from tollkeeper.errors import StoreUnavailable
from tollkeeper.ledger import dialect_postgresql
from tollkeeper.ledger.migrate import is_current, migrate
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.outbox.database import open_engine, reading
from tollkeeper.outbox.tables import metadata


def open_ledger(url: str) -> SqlLedger:
    engine = open_engine(url)
    migrate(engine)
    return SqlLedger(engine)


class TestPostgresqlLedger(LedgerContract):
    url: str

    @pytest.fixture(autouse=True)
    def database(self, postgresql_url: str) -> None:
        self.url = postgresql_url

    def make_ledger(self, _folder: object) -> SqlLedger:
        return open_ledger(self.url)


@pytest.fixture
def ledger(postgresql_url: str) -> Iterator[SqlLedger]:
    ledger = open_ledger(postgresql_url)
    ledger.begin_generation(NOON, partitions=2, log_identity=LOG)
    yield ledger
    ledger.close()


def test_the_migrations_make_exactly_the_tables_of_the_code(ledger: SqlLedger) -> None:
    migrate(ledger.engine)  # a second time changes nothing
    assert is_current(ledger.engine)
    with reading(ledger.engine) as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []


def test_text_is_ordered_by_code_point_whatever_the_databases_language(ledger: SqlLedger) -> None:
    with reading(ledger.engine) as connection:
        collations = connection.execute(
            text(
                "SELECT DISTINCT collation_name FROM information_schema.columns "
                "WHERE table_schema = current_schema() AND data_type = 'text'"
            )
        ).scalars()
        assert list(collations) == ["C"]


def test_every_session_has_bounded_waits_and_durable_commits(ledger: SqlLedger) -> None:
    with reading(ledger.engine) as connection:
        found = [
            connection.execute(text(f"SHOW {name}")).scalar()
            for name in (
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "synchronous_commit",
                "transaction_isolation",
            )
        ]
    assert found == ["30s", "1min", "on", "repeatable read"]
    with ledger.transaction() as transaction:
        isolation = transaction.connection.execute(text("SHOW transaction_isolation")).scalar()
    assert isolation == "read committed"


@pytest.mark.parametrize("repeats", [False, True], ids=["new ids", "a repeated id"])
def test_charges_are_staged_only_where_an_id_is_repeated(ledger: SqlLedger, repeats: bool) -> None:
    with ledger.transaction() as transaction:
        transaction.insert_charges(GENERATION, [charge_row("e-1", 0)])
    statements: list[str] = []
    event.listen(
        ledger.engine,
        "before_cursor_execute",
        lambda _c, _cursor, sql, *_: statements.append(sql),
    )
    with ledger.transaction() as transaction:
        transaction.insert_charges(GENERATION, [charge_row("e-1" if repeats else "e-2", 1)])
    assert any("staged_charge" in sql for sql in statements) == repeats


def test_after_a_repeated_id_so_many_batches_are_staged_and_then_copied_again(
    ledger: SqlLedger,
) -> None:
    with ledger.transaction() as transaction:
        transaction.insert_charges(GENERATION, [charge_row("e-0", 0)])
        transaction.insert_charges(GENERATION, [charge_row("e-0", 0)])
    staged = []
    event.listen(
        ledger.engine,
        "before_cursor_execute",
        lambda _c, _cursor, sql, *_: staged.append(sql.startswith("INSERT INTO charge")),
    )
    copied_again = False
    for number in range(1, dialect_postgresql.CAREFUL_BATCHES + 1):
        staged.clear()
        with ledger.transaction() as transaction:
            transaction.insert_charges(GENERATION, [charge_row(f"e-{number}", number)])
        copied_again = not any(staged)
        assert copied_again == (number == dialect_postgresql.CAREFUL_BATCHES)
    assert copied_again


def test_a_fold_that_holds_lost_partitions_is_ended(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialect_postgresql, "TAKE_OVER_AFTER_S", 0.2)
    with (
        pytest.raises(StoreUnavailable, match=r"broke|refused"),
        ledger.transaction() as stopped,
    ):
        assert stopped.advance(GENERATION, [move(0, 7), move(0, 3, partition=1)])
        with ledger.transaction() as successor:
            assert successor.advance(GENERATION, [move(0, 5, partition=1)])
        stopped.insert_charges(GENERATION, [charge_row("e-1", 0)])
    assert {p: found.next_offset for p, found in ledger.live_positions()[1].items()} == {0: 0, 1: 5}


def test_folds_of_other_partitions_and_generations_are_left_alone(ledger: SqlLedger) -> None:
    second = ledger.begin_generation(NOON, partitions=2, log_identity=LOG)
    with ledger.transaction() as one:
        assert one.advance(GENERATION, [move(0, 7)])
        with ledger.transaction() as other:
            assert other.advance(GENERATION, [move(0, 5, partition=1)])
            assert other.advance(second, [move(0, 5)])


def test_a_fold_that_ends_in_time_is_waited_for(ledger: SqlLedger) -> None:
    advanced: list[bool] = []

    def successor() -> None:
        with ledger.transaction() as transaction:
            advanced.append(transaction.advance(GENERATION, [move(7, 9)]))

    waiting = threading.Thread(target=successor)
    with ledger.transaction() as first:
        assert first.advance(GENERATION, [move(0, 7)])
        waiting.start()
    waiting.join(10)
    assert advanced == [True]


def test_a_fold_that_had_to_wait_goes_on_with_bounded_waits(ledger: SqlLedger) -> None:
    found: list[object] = []

    def successor() -> None:
        with ledger.transaction() as transaction:
            transaction.advance(GENERATION, [move(7, 9)])
            found.append(transaction.connection.execute(text("SHOW lock_timeout")).scalar())

    waiting = threading.Thread(target=successor)
    with ledger.transaction() as first:
        assert first.advance(GENERATION, [move(0, 7)])
        waiting.start()
        eventually(lambda: _is_waiting(ledger), what="the other waits")
    waiting.join(10)
    assert found == ["30s"]


def test_a_fold_that_waits_for_one_partition_holds_none_behind_it(ledger: SqlLedger) -> None:
    """Else two folds of the same partitions could wait for each other, until one is broken off."""
    advanced: list[bool] = []

    def successor() -> None:
        with ledger.transaction() as transaction:
            advanced.append(transaction.advance(GENERATION, [move(7, 9), move(5, 8, partition=1)]))

    waiting = threading.Thread(target=successor)
    with ledger.transaction() as first:
        assert first.advance(GENERATION, [move(0, 7)])
        waiting.start()
        eventually(lambda: _is_waiting(ledger), what="the successor waits")
        with ledger.transaction() as other:
            assert other.advance(GENERATION, [move(0, 5, partition=1)])
    waiting.join(10)
    assert advanced == [True]


def _is_waiting(ledger: SqlLedger) -> bool:
    with reading(ledger.engine) as connection:
        return bool(connection.execute(text("SELECT 1 FROM pg_locks WHERE NOT granted")).scalar())


def test_generations_begun_at_once_have_numbers_of_their_own(ledger: SqlLedger) -> None:
    found: list[int] = []

    def begin() -> None:
        found.append(ledger.begin_generation(NOON, partitions=2, log_identity=LOG))

    threads = [threading.Thread(target=begin) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == [2, 3, 4, 5, 6]


def test_a_database_in_another_encoding_is_refused(postgresql_url: str) -> None:
    name = "tollkeeper_latin1"
    plain = open_engine(postgresql_url).url
    address = plain.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        )
        try:
            engine = open_engine(plain.set(database=name).render_as_string(hide_password=False))
            with pytest.raises(StoreUnavailable, match="UTF8"), reading(engine):
                pass
            engine.dispose()
        finally:
            connection.execute(f"DROP DATABASE {name}")
