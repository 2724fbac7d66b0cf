"""A database of an earlier release has, once it is migrated, what a fold of its log would have filled."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from ledger import test_sqlite_ledger
from ledger.folding import LOG, PARTITIONS, FoldedLog
from sqlalchemy import Engine, MetaData, Table, func, inspect, select
from support.events import NOON, bought, capped, opened, usage, voided

from tollkeeper.ledger import migrate
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.ledger.tables import dead_letter, organization, spent
from tollkeeper.outbox.database import open_engine, reading, writing

LAST_MONTH = NOON - 10**12 * 2
CAPS_AND_CREDITS = (
    bought("acme", 2, 5 * 10**9),
    bought("acme", 3, 7 * 10**9),
    voided("acme", 4, "purchase-3", 7 * 10**9),
    capped("acme", 5, 10**12),
    capped("acme", 6, 10**11),
    capped("globex", 2, 10**12, scope="member", member="ann"),
    capped("globex", 3, 10**12, scope="member", member="bob"),
    capped("globex", 4, 10**12, scope="member_default"),
)
"""What later releases count of an organization's caps and credits."""


def at_revision(engine: Engine, revision: str) -> None:
    with writing(engine) as connection:
        config: Config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def copy_into(older: Engine, newer: SqlLedger) -> None:
    """All rows of the tables and columns that the older schema knows."""
    names = [name for name in inspect(older).get_table_names() if name != "alembic_version"]
    for name in names:
        table = Table(name, MetaData(), autoload_with=older)
        with reading(newer.engine) as connection:
            rows = connection.execute(select(table)).mappings().all()
        if rows:
            with writing(older) as connection:
                connection.execute(table.insert(), [dict(row) for row in rows])


def rows_of(engine: Engine, table: Table) -> list[tuple[object, ...]]:
    with reading(engine) as connection:
        found = connection.execute(select(table).order_by(*table.primary_key.columns))
        return [tuple(row) for row in found]


@pytest.fixture
def folded(tmp_path: Path) -> SqlLedger:
    """Two generations with charges in two periods, and letters with holds and without."""
    ledger = test_sqlite_ledger.open_ledger(tmp_path)
    for generation in (1, 2):
        ledger.begin_generation(NOON, partitions=PARTITIONS, log_identity=LOG)
        FoldedLog(ledger, generation).fold(
            opened(),
            opened("globex"),
            usage(),
            usage(event_id="e-2", member="bob", occurred_at=LAST_MONTH),
            usage(event_id="e-3", organization="globex", input_tokens=7),
            usage(event_id="e-4", member="bob"),
            usage(event_id="e-5", model="unpriced", hold_id="acme/em-1/1/x"),
            usage(event_id="e-6", model="unpriced"),
            *CAPS_AND_CREDITS,
        )
    return ledger


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_totals_by_scope_and_the_holds_of_letters_are_filled(
    folded: SqlLedger, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/older.sqlite"
    if kind == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    older = open_engine(url)
    at_revision(older, "0001")
    copy_into(older, folded)
    migrate.migrate(older)
    assert migrate.is_current(older)
    for table in (spent, dead_letter, organization):
        assert rows_of(older, table) == rows_of(folded.engine, table)
    with reading(older) as connection:
        assert connection.execute(select(func.count()).select_from(spent)).scalar() == 14
    older.dispose()
    folded.close()
