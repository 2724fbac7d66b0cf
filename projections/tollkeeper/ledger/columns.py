"""What the tables of a fold are made of: keys that begin with the generation, strict types."""

from __future__ import annotations

from sqlalchemy import Column, PrimaryKeyConstraint, Table

from tollkeeper.outbox.tables import Int64, Text, metadata

NOT_FOLDED = "not_folded"
"""Marks a column that isn't made of the log alone: folds of the same log may differ in it."""


def key(name: str) -> Column[str]:
    """A text column of the primary key."""
    return Column(name, Text, primary_key=True)


def int_key(name: str) -> Column[int]:
    """A number of the primary key."""
    return Column(name, Int64, primary_key=True, autoincrement=False)


def projection(
    name: str,
    *columns: Column[int] | Column[str] | Column[bytes] | PrimaryKeyConstraint,
    is_often_updated: bool = False,
) -> Table:
    """A table that each generation fills for itself.

    `is_often_updated` leaves room in PostgreSQL's pages, so that an update touches no index.
    """
    return Table(
        name,
        metadata,
        int_key("generation"),
        *columns,
        postgresql_with={"fillfactor": 70} if is_often_updated else {},
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
