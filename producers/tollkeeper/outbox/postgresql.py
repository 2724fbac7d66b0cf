"""Connecting to PostgreSQL: bounded waits, and an acknowledged commit that survives a power cut."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

from tollkeeper.errors import StoreUnavailable

OLDEST_VERSION = 14
POOL = 5
MORE_IN_A_RUSH = 20

# A peer that is gone without a word is noticed in about half a minute, and waited for no longer.
_CONNECT = {
    "application_name": "tollkeeper",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# A stopped process would keep its locks for ever; nothing of ours thinks that long in a transaction, also
# a report that waits for a log that is away.
_SESSION = """
SELECT
    set_config('lock_timeout', '30s', false),
    set_config('idle_in_transaction_session_timeout', '60s', false),
    set_config('synchronous_commit',
        CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
            ELSE current_setting('synchronous_commit') END, false),
    current_setting('server_encoding'),
    current_setting('server_version_num')::int / 10000,
    pg_backend_pid()
"""

_READ_ONLY = "it is read-only, perhaps a standby: name the primary in TOLLKEEPER_SQL"
_NEXT_STEPS = {
    "42501": "GRANT its role what it lacks: to use the tables it needs SELECT, INSERT, UPDATE and DELETE on "
    "all of them and TEMPORARY on the database, for `tollkeeper setup` to create them CREATE on the schema",
    "25006": _READ_ONLY,
    "57014": "raise the statement_timeout that was set for its role or database",
    "55P03": "another session holds it up, which is ended after a minute without a sign of life: try again, "
    "or look for it in pg_stat_activity",
    "53100": "make room on the server's disk; everything goes on by itself then",
}


def open_postgresql(url: URL) -> Engine:
    """An engine through psycopg 3, READ COMMITTED; what the URL says itself is left as it is."""
    driver = url.set(drivername="postgresql+psycopg")
    engine = create_engine(
        driver,
        connect_args={name: value for name, value in _CONNECT.items() if name not in url.query},
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=POOL,
        max_overflow=MORE_IN_A_RUSH,
    )
    event.listen(engine, "connect", _prepare)
    return engine


def next_step(error: object) -> str | None:
    """What to do about an error of the driver's; None when trying again may be all."""
    state = getattr(error, "sqlstate", None)
    if state == "0A000" and "recovery" in str(error):  # how a standby refuses to begin
        return _READ_ONLY
    return _NEXT_STEPS.get(state or "")


def _prepare(connection: Any, _record: object) -> None:
    """Set the session's bounds; refuse a server on which our promises can't hold."""
    with connection.cursor() as cursor:
        *_, encoding, version, pid = cursor.execute(_SESSION).fetchone()
    connection.commit()
    if pid != connection.info.backend_pid:
        raise StoreUnavailable(
            "a connection pool stands before PostgreSQL, and may give each transaction another session: "
            "name the server itself in TOLLKEEPER_SQL; one process keeps some connections at most"
        )
    if encoding != "UTF8":
        raise StoreUnavailable(
            f"the database's encoding is {encoding}: make one with ENCODING 'UTF8'"
        )
    if version < OLDEST_VERSION:
        raise StoreUnavailable(
            f"PostgreSQL {version} is too old: {OLDEST_VERSION} or newer is needed"
        )
