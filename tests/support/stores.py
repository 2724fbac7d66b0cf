"""Homes whose ledger stands in SQLite or in PostgreSQL: the same tests run on both."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Protocol

from services.databases import new_database
from support import homes

from tollkeeper.app.wiring import App
from tollkeeper.outbox.database import writing


def lose_database(app: App) -> Path:
    """The home after its database was lost with everything that only it knew; the app is closed."""
    home = app.settings.home
    if not app.settings.is_sql_embedded:
        with writing(app.engine) as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
    app.close()
    for part in ("", "-wal", "-shm"):
        (home / f"ledger.sqlite{part}").unlink(missing_ok=True)
    return home


def restore_database(home: Path, older: Path) -> None:
    """Put the database of an older copy in the place of the home's; the log stays."""
    if (older / homes.CONFIG).exists():
        (home / homes.CONFIG).write_text((older / homes.CONFIG).read_text())
        return
    for part in ("-wal", "-shm"):
        (home / f"ledger.sqlite{part}").unlink(missing_ok=True)
    (home / "ledger.sqlite").write_bytes((older / "ledger.sqlite").read_bytes())


class Store(Protocol):
    """Makes homes, and copies of homes to be spoiled."""

    def new(self, home: Path) -> Path:
        """An empty home."""
        ...

    def copied(self, home: Path, to: Path) -> Path:
        """A copy of a home that nobody has open, its ledger with it."""
        ...


class Embedded:
    """The ledger is a file in the home."""

    def new(self, home: Path) -> Path:
        """See `Store`."""
        home.mkdir(parents=True, exist_ok=True)
        return home

    def copied(self, home: Path, to: Path) -> Path:
        """See `Store`."""
        return homes.copied(home, to)


class Postgresql:
    """The ledger is a database of its own on one server; all are dropped when the stack is closed."""

    def __init__(self, address: str, stack: ExitStack) -> None:
        self._address = address
        self._stack = stack
        self._urls: dict[Path, str] = {}

    def new(self, home: Path) -> Path:
        """See `Store`."""
        home.mkdir(parents=True, exist_ok=True)
        return self._use(home, new_database(self._address))

    def copied(self, home: Path, to: Path) -> Path:
        """See `Store`."""
        copy = homes.copied(home, to)
        return self._use(copy, new_database(self._address, like=self._urls[home]))

    def _use(self, home: Path, database: AbstractContextManager[str]) -> Path:
        self._urls[home] = self._stack.enter_context(database)
        (home / homes.CONFIG).write_text(f'sql = "{self._urls[home]}"\n')
        return home
