"""Who may hold, or might once: emitters as the log told of them, on each partition that folded it."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, func, select

from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import emitter

MOST = 10_000


class EmitterLife(msgspec.Struct, frozen=True):
    """Instants in microseconds; `retired_on` partitions have folded its end, of `started_on` its start."""

    emitter: str
    started_at: int | None
    started_on: int
    retired_at: int | None
    retired_on: int
    retired_by: str | None
    reason: str | None


def emitter_lives(connection: Connection, *, name: str | None = None) -> list[EmitterLife]:
    """Every emitter that was told of, or the one; those that aren't retired first, then the newest."""
    columns = emitter.c
    question = (
        select(
            columns.emitter,
            func.min(columns.started_at),
            func.count(columns.started_offset),
            func.min(columns.retired_at),
            func.count(columns.retired_offset),
            func.min(columns.retired_by),
            func.min(columns.reason),
        )
        .where(columns.generation == live_generation(connection))
        .group_by(columns.emitter)
        .order_by(func.count(columns.retired_offset) > 0, columns.emitter.desc())
        .limit(MOST)
    )
    if name is not None:
        question = question.where(columns.emitter == name)
    return [EmitterLife(*row) for row in connection.execute(question)]
