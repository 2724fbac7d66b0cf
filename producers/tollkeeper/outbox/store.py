"""Reading and writing decided events and remembered answers, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from tollkeeper.outbox.tables import command, decided_event


class Decided(msgspec.Struct, frozen=True):
    """An event that was decided; `log_offset` is None until the log acknowledged it."""

    stream: str
    version: int
    log_partition: int
    record_key: bytes | None
    value: bytes
    command_id: str
    decided_at: int
    log_offset: int | None = None


class VersionTaken(Exception):
    """Another command wrote this stream first: read it again and decide anew."""


class AnswerOfOther(msgspec.Struct, frozen=True):
    """The command id was used before, for something else."""

    decided_at: int


def append_decided(connection: Connection, events: Sequence[Decided]) -> None:
    """Write events to the outbox. Raises VersionTaken when a version of the stream exists.

    By stream, like everybody who writes several: two orders could block each other.
    """
    if not events:
        return
    rows = [msgspec.structs.asdict(one) for one in sorted(events, key=lambda one: one.stream)]
    try:
        connection.execute(insert(decided_event), rows)
    except IntegrityError as taken:
        raise VersionTaken from taken


def read_stream(connection: Connection, stream: str) -> list[Decided]:
    """All events of a stream, by version."""
    rows = connection.execute(
        select(decided_event)
        .where(decided_event.c.stream == stream)
        .order_by(decided_event.c.version)
    )
    return [Decided(*row) for row in rows]


def newest_version(connection: Connection, stream: str) -> int:
    """The stream's last version; 0 when it is empty."""
    found = connection.execute(
        select(func.max(decided_event.c.version)).where(decided_event.c.stream == stream)
    ).scalar()
    return 0 if found is None else int(found)


def newest_versions(connection: Connection, streams: Sequence[str]) -> dict[str, int]:
    """The last version of each of these streams; an empty one isn't in the answer."""
    columns = decided_event.c
    rows = connection.execute(
        select(columns.stream, func.max(columns.version))
        .where(columns.stream.in_(streams))
        .group_by(columns.stream)
    )
    return {stream: int(version) for stream, version in rows}


def waiting(connection: Connection, *, stream_prefix: str, limit: int) -> list[Decided]:
    """The oldest event without an acknowledgement of each stream, at most `limit` streams."""
    columns = decided_event.c
    first = (
        select(columns.stream, func.min(columns.version).label("version"))
        .where(columns.log_offset.is_(None), within(stream_prefix))
        .group_by(columns.stream)
        .order_by(columns.stream)
        .limit(limit)
        .subquery()
    )
    rows = connection.execute(
        select(decided_event)
        .join(first, (columns.stream == first.c.stream) & (columns.version == first.c.version))
        .order_by(columns.stream)
    )
    return [Decided(*row) for row in rows]


def count_waiting(
    connection: Connection, *, stream_prefix: str = "", command_id: str | None = None
) -> int:
    """How many decided events, of one command if it is given, the log hasn't acknowledged yet."""
    columns = decided_event.c
    is_waiting = [columns.log_offset.is_(None), within(stream_prefix)]
    if command_id is not None:
        is_waiting.append(columns.command_id == command_id)
    found = connection.execute(select(func.count()).where(*is_waiting)).scalar()
    return int(found or 0)


def oldest_waiting(connection: Connection) -> int | None:
    """When the oldest event that the log hasn't acknowledged was decided; None when none waits."""
    columns = decided_event.c
    found = connection.execute(
        select(func.min(columns.decided_at)).where(columns.log_offset.is_(None))
    ).scalar()
    return None if found is None else int(found)


def within(stream_prefix: str) -> ColumnElement[bool]:
    """The one stream of this name; all below it when it ends in `/`, and all there are when empty.

    Not what merely begins alike: `organization/acme-eu` is another customer than `organization/acme`.
    """
    if stream_prefix and not stream_prefix.endswith("/"):
        return decided_event.c.stream == stream_prefix
    return decided_event.c.stream.startswith(stream_prefix, autoescape=True)


def remembered_answer(
    connection: Connection, scope: str, command_id: str, content_hash: bytes
) -> dict[str, object] | AnswerOfOther | None:
    """The first answer to this command id; None when it is new in this scope."""
    row = connection.execute(
        select(command.c.content_hash, command.c.answer, command.c.decided_at).where(
            command.c.scope == scope, command.c.command_id == command_id
        )
    ).one_or_none()
    if row is None:
        return None
    if row.content_hash != content_hash:
        return AnswerOfOther(row.decided_at)
    return msgspec.json.decode(row.answer, type=dict[str, object])


def remember_answer(
    connection: Connection,
    scope: str,
    command_id: str,
    content_hash: bytes,
    answer: dict[str, object],
    *,
    decided_at: int,
) -> None:
    """Keep the answer with the events it stands for. Raises VersionTaken when the id was taken."""
    try:
        connection.execute(
            insert(command).values(
                scope=scope,
                command_id=command_id,
                content_hash=content_hash,
                answer=msgspec.json.encode(answer).decode(),
                decided_at=decided_at,
            )
        )
    except IntegrityError as taken:
        raise VersionTaken from taken
