"""The tables of the write side: events that were decided, and the commands that decided them.

They share one database and one `metadata` with the ledger's tables, but no generation: what was
decided stays, however often the log is folded anew.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table
from sqlalchemy import Text as AnyText

metadata = MetaData()

# SQLite's STRICT tables know INTEGER (64 bits there) but no BIGINT.
Int64 = BigInteger().with_variant(Integer(), "sqlite")

# By code point everywhere, as Python and SQLite compare: a language's order differs from machine to
# machine, and costs more.
Text = AnyText().with_variant(AnyText(collation="C"), "postgresql")

decided_event = Table(
    "decided_event",
    metadata,
    # `organization/<id>`, `prices/<partition>` or `quarantine/<partition>/<offset>`: one order each.
    Column("stream", Text, primary_key=True),
    Column("version", Int64, primary_key=True, autoincrement=False),
    Column("log_partition", Int64, nullable=False),
    Column("record_key", LargeBinary),
    Column("value", LargeBinary, nullable=False),
    Column("command_id", Text, nullable=False),
    Column("decided_at", Int64, nullable=False),
    Column("log_offset", Int64),  # null until the log acknowledged it
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Filled by commands (log_offset null until the relay's acknowledgement) and, for events that it lacks
after a restore, by the fold. Unique (stream, version) is the optimistic concurrency of commands."""

Index(
    "decided_event_waiting",
    decided_event.c.stream,
    decided_event.c.version,
    sqlite_where=decided_event.c.log_offset.is_(None),
    postgresql_where=decided_event.c.log_offset.is_(None),
)

command = Table(
    "command",
    metadata,
    Column("scope", Text, primary_key=True),  # the organization, or `prices`, `quarantine`
    Column("command_id", Text, primary_key=True),
    Column("content_hash", LargeBinary, nullable=False),
    Column("answer", Text, nullable=False),  # JSON
    Column("decided_at", Int64, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""One row a decided command: the same id and content gives the first answer again."""
