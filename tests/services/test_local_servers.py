"""Local servers come back on the data that they left, however they ended."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from services import postgresql_local
from services.finding import skip_or_fail
from services.postgresql_local import LocalPostgres
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    """A server that these tests end."""
    if reason := postgresql_local.why_unavailable():
        skip_or_fail(f"PostgreSQL isn't at hand (local: {reason})")
    server = LocalPostgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_postgresql_has_after_its_end_what_was_committed_and_nothing_else(
    server: LocalPostgres, end: str
) -> None:
    engine = create_engine(server.address, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE after_{end} (n int)"))
        connection.execute(text(f"INSERT INTO after_{end} VALUES (1)"))
    with pytest.raises(OperationalError), engine.begin() as connection:
        connection.execute(text(f"INSERT INTO after_{end} VALUES (2)"))
        getattr(server, end)()
        connection.execute(text("SELECT 1"))
    assert not server.is_running
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.address.replace("+psycopg", ""), connect_timeout=2)

    server.start()
    with engine.connect() as connection:
        assert connection.execute(text(f"SELECT n FROM after_{end}")).scalars().all() == [1]
