"""Databases of a test's own in a PostgreSQL that all tests share."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool


@contextmanager
def new_database(address: str, *, like: str | None = None) -> Iterator[str]:
    """The URL of an empty database, or of a copy of the one at `like`, to which nobody is connected.

    It is dropped in the end, whoever is still connected.
    """
    name = f"test_{secrets.token_hex(6)}"
    # Copying files writes no log of each page, which for a large template takes many times as long.
    template = "" if like is None else f" TEMPLATE {make_url(like).database} STRATEGY file_copy"
    _execute(address, f"CREATE DATABASE {name}{template}")
    try:
        yield make_url(address).set(database=name).render_as_string(hide_password=False)
    finally:
        _execute(address, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(address: str, statement: str) -> None:
    engine = create_engine(address, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(statement))
