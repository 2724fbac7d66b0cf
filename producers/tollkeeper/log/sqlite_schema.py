"""The tables of the embedded log and the check that a file is one: made once, verified on opening."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from tollkeeper.errors import InvalidInput, LogUnavailable
from tollkeeper.log.sqlite_errors import begin_writing

FORMAT = 1
_APPLICATION_ID = 0x746F6C6C  # "toll": tells our file from any other SQLite file
_OLDEST_SQLITE = (3, 37)  # STRICT tables

# `log` describes the file itself. `partition_N` is one partition, filled by `append` only; its rowid is
# the offset, so appending always touches the right edge of a tree. The group tables are coordination
# between running consumers, filled by `sqlite_group`: heartbeats are in microseconds of the machine's
# monotonic clock. `group_commit` is what consumers published for lag tools.
_TABLES = (
    """
    CREATE TABLE log (
        identity TEXT NOT NULL, partition_count INTEGER NOT NULL, format INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE consumer_group (
        name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, assigned_epoch INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE group_member (
        group_name TEXT NOT NULL, member TEXT NOT NULL, epoch INTEGER NOT NULL,
        heartbeat_at INTEGER NOT NULL, session_micros INTEGER NOT NULL,
        PRIMARY KEY (group_name, member)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE group_owner (
        group_name TEXT NOT NULL, partition INTEGER NOT NULL, member TEXT NOT NULL,
        PRIMARY KEY (group_name, partition)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE group_commit (
        group_name TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
        PRIMARY KEY (group_name, partition)
    ) STRICT, WITHOUT ROWID
    """,
)
_PARTITION_TABLE = """
    CREATE TABLE partition_{} (
        "offset" INTEGER PRIMARY KEY, key BLOB, value BLOB NOT NULL, appended_at INTEGER NOT NULL
    ) STRICT
"""


def stored_partitions(path: Path) -> int | None:
    """How many partitions the log in this file has; None when there is no such log (yet)."""
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT partition_count FROM log").fetchone()
    except sqlite3.Error:
        return None  # being made right now, or no log: whoever opens it says what is wrong
    return None if row is None else int(row[0])


def verify_or_create(
    connection: sqlite3.Connection, path: Path, partitions: int, *, deadline: float
) -> None:
    """Make the tables in an empty file, or check that the file is a log with that partition count.

    Raises InvalidInput for another program's file, another format or another count.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise LogUnavailable(
            f"the embedded log needs SQLite 3.37 or newer, this Python has {sqlite3.sqlite_version}"
        )
    found = _description(connection, path)
    if found is None:
        check_not_lost(path)
        _create(connection, path, partitions, deadline=deadline)
        found = _description(connection, path)
    partition_count, form = found or (0, 0)
    if form != FORMAT:
        raise InvalidInput(
            "log",
            f"{path} has format {form}, this release reads {FORMAT}: use the matching release",
        )
    if partition_count != partitions:
        raise InvalidInput(
            "partitions",
            f"the log {path} was created with {partition_count} partitions and is opened with "
            f"{partitions}: the count is fixed, so set it to {partition_count}",
        )


def mark_of(path: Path) -> Path:
    """The file beside a log that says which log belongs here."""
    return path.with_name(f"{path.name}.id")


def check_mark(connection: sqlite3.Connection, path: Path) -> None:
    """Note which log stands here, the first time; LogUnavailable when it is another one later."""
    (identity,) = connection.execute("SELECT identity FROM log").fetchone()
    mark = mark_of(path)
    try:
        known = mark.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        temporary = mark.with_name(f"{mark.name}.{secrets.token_hex(4)}")
        temporary.write_text(f"{identity}\n", encoding="ascii")
        temporary.rename(mark)
        return
    if known != identity:
        raise LogUnavailable(
            f"{path} is the log {identity}, but {known} belongs here: put that one back, or remove "
            f"{mark.name} to use this one"
        )


def check_not_lost(path: Path) -> None:
    """Whoever finds the log missing where there was one must not make an empty one and go on."""
    is_there = path.exists() and path.stat().st_size > 0
    if not is_there and mark_of(path).exists():
        raise LogUnavailable(
            f"the log {path} is missing: put it back (a volume that isn't mounted?), or remove "
            f"{mark_of(path).name} to begin anew"
        )


def _description(connection: sqlite3.Connection, path: Path) -> tuple[int, int] | None:
    """Partition count and format, or None for a file that is still empty."""
    # Counted first: another process may make the tables between the two queries, and its mark, which
    # comes with them in one transaction, is then seen.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application == _APPLICATION_ID:
        row: tuple[int, int] = connection.execute(
            "SELECT partition_count, format FROM log"
        ).fetchone()
        return row
    if tables or application:
        raise InvalidInput("log", f"{path} is another program's SQLite file: correct the path")
    return None


def _create(
    connection: sqlite3.Connection, path: Path, partitions: int, *, deadline: float
) -> None:
    """Make everything in one transaction: a process that dies midway leaves an empty file."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LogUnavailable(
            f"the log {path}: its file system can't do SQLite's WAL mode: use a local disk"
        )
    begin_writing(connection, deadline)
    if _description(connection, path) is None:
        for table in _TABLES:
            connection.execute(table)
        for partition in range(partitions):
            connection.execute(_PARTITION_TABLE.format(partition))
        connection.execute(
            "INSERT INTO log (identity, partition_count, format) VALUES (?, ?, ?)",
            (secrets.token_hex(16), partitions, FORMAT),
        )
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute("COMMIT")
