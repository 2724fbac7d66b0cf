"""SQL is a fold of the log: lost or restored, it comes out the same; a log that lost something is named."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from replay.histories import EVENTS, fill, load, replayed, tables
from support import homes

from tollkeeper.log.partitioner import partition_for


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with every kind of row, and beside it its database as it was some time before."""
    home = tmp_path_factory.mktemp("filled")
    with homes.opened_app(home) as app:
        fill(app)
    shutil.copy(home / "ledger.sqlite", home / "older.sqlite")
    with homes.opened_app(home) as app:
        homes.emit(app, load(300, seed=9))
        homes.emit(app, load(300, seed=9))
        homes.fold(app)
        assert homes.charged(app) == EVENTS + 300
    yield home


def lose(home: Path, name: str) -> None:
    for end in ("", "-wal", "-shm"):
        (home / f"{name}{end}").unlink(missing_ok=True)


def expected(home: Path, tmp_path: Path) -> dict[str, list[tuple[object, ...]]]:
    with homes.opened_app(homes.copied(home, tmp_path / "whole")) as app:
        return tables(app)


@pytest.mark.parametrize("loss", ["deleted", "restored"])
def test_a_lost_database_comes_back_with_the_same_figures_and_fingerprints(
    filled: Path, tmp_path: Path, loss: str
) -> None:
    home = homes.copied(filled, tmp_path / "home")
    lose(home, "ledger.sqlite")
    if loss == "restored":
        (home / "older.sqlite").rename(home / "ledger.sqlite")
    with homes.opened_app(home) as app:
        found = homes.fold(app)
        assert found.halted == {}
        assert found.counts.charged == (EVENTS + 300 if loss == "deleted" else 300)
        assert tables(app) == expected(filled, tmp_path)
        assert replayed(app).agrees
        homes.emit(app, load(300, seed=9))
        assert homes.fold(app).counts.duplicates == 300


def test_a_truncated_log_halts_its_partition_by_name_and_the_others_go_on(
    filled: Path, tmp_path: Path
) -> None:
    home = homes.copied(filled, tmp_path / "home")
    partition = partition_for("org-001", 8)
    assert partition not in {partition_for(f"org-00{n}", 8) for n in (2, 3)}
    with closing(sqlite3.connect(home / "log.sqlite")) as connection, connection:
        (end,) = connection.execute(f'SELECT max("offset") FROM partition_{partition}').fetchone()
        connection.execute(f'DELETE FROM partition_{partition} WHERE "offset" > ?', (end - 3,))
    before = expected(filled, tmp_path)
    more = load(200, seed=10)
    elsewhere = [one for one in more if one.organization != "org-001"]
    with homes.opened_app(home) as app:
        homes.emit(app, elsewhere)
        found = homes.fold(app)
        assert list(found.halted) == [partition]
        assert "truncated or restored to an older state" in found.halted[partition]
        assert found.counts.charged == len(elsewhere) > 0
        assert rows_of(tables(app), "org-001") == rows_of(before, "org-001")
        homes.emit(app, [one for one in more if one.organization == "org-001"])
        again = homes.fold(app)
        assert list(again.halted) == [partition], "records behind a loss were folded"
        assert rows_of(tables(app), "org-001") == rows_of(before, "org-001")


def test_a_replaced_record_before_the_position_halts_its_partition(
    filled: Path, tmp_path: Path
) -> None:
    home = homes.copied(filled, tmp_path / "home")
    partition = partition_for("org-001", 8)
    with closing(sqlite3.connect(home / "log.sqlite")) as connection, connection:
        connection.execute(
            f"UPDATE partition_{partition} SET value = CAST(value || x'00' AS BLOB) "
            f'WHERE "offset" = (SELECT max("offset") FROM partition_{partition})'
        )
    with homes.opened_app(home) as app:
        homes.emit(app, load(50, seed=11))
        found = homes.fold(app)
        assert list(found.halted) == [partition]
        assert "isn't the one that was folded" in found.halted[partition]


def rows_of(
    found: dict[str, list[tuple[object, ...]]], organization: str
) -> dict[str, list[tuple[object, ...]]]:
    return {
        name: [row for row in rows if organization in row]
        for name, rows in found.items()
        if name != "consumer_offset"
    }
