"""Consumer groups inside the log file: who is a member, which epoch holds, who owns what.

Kafka's eager protocol: a join, a leave or an expired session begins a new epoch; every member gives up
what it owns when it polls next and joins the epoch; when all have, partitions are dealt out. So two
members own a partition at once only if one of them is a zombie that lost its session. All functions
run inside the caller's transaction; `now` must be read inside it too, since a heartbeat later than
`now` counts as one of before the machine's last start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import msgspec


class Standing(msgspec.Struct, frozen=True):
    """How a member stands: its own epoch is None when it is no member (any more)."""

    group_epoch: int
    assigned_epoch: int
    member_epoch: int | None


def standing(connection: sqlite3.Connection, group: str, member: str) -> Standing:
    """Read how the member stands in the group."""
    row = connection.execute(
        "SELECT g.epoch, g.assigned_epoch, m.epoch FROM consumer_group AS g LEFT JOIN group_member AS m"
        " ON m.group_name = g.name AND m.member = ? WHERE g.name = ?",
        (member, group),
    ).fetchone()
    return Standing(*row) if row else Standing(0, 0, None)


def join(
    connection: sqlite3.Connection, group: str, member: str, *, now: int, session_micros: int
) -> None:
    """Enter the group's next epoch: as a new member it begins one, as an old one it agrees to it."""
    expel_expired(connection, group, now=now)
    if standing(connection, group, member).member_epoch is None:
        _begin_epoch(connection, group)
    (epoch,) = connection.execute(
        "SELECT epoch FROM consumer_group WHERE name = ?", (group,)
    ).fetchone()
    connection.execute(
        "INSERT INTO group_member (group_name, member, epoch, heartbeat_at, session_micros)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (group_name, member) DO UPDATE"
        " SET epoch = excluded.epoch, heartbeat_at = excluded.heartbeat_at",
        (group, member, epoch, now, session_micros),
    )
    _assign_when_all_joined(connection, group)


def heartbeat(connection: sqlite3.Connection, group: str, member: str, *, now: int) -> None:
    """Extend the member's session, unless it has run out; expel every member whose session has."""
    expel_expired(connection, group, now=now)
    connection.execute(
        "UPDATE group_member SET heartbeat_at = ? WHERE group_name = ? AND member = ?",
        (now, group, member),
    )


def leave(connection: sqlite3.Connection, group: str, member: str) -> None:
    """Take the member out; what it owned is dealt out again."""
    gone = connection.execute(
        "DELETE FROM group_member WHERE group_name = ? AND member = ?", (group, member)
    ).rowcount
    if gone:
        _begin_epoch(connection, group)
        _assign_when_all_joined(connection, group)


def expel_expired(connection: sqlite3.Connection, group: str, *, now: int) -> None:
    """Take out members without a heartbeat for a session; a heartbeat of the future is an earlier boot's."""
    gone = connection.execute(
        "DELETE FROM group_member WHERE group_name = ?"
        " AND (heartbeat_at < ? - session_micros OR heartbeat_at > ?)",
        (group, now, now),
    ).rowcount
    if gone:
        _begin_epoch(connection, group)
        _assign_when_all_joined(connection, group)


def owned_partitions(connection: sqlite3.Connection, group: str, member: str) -> frozenset[int]:
    """What was dealt out to the member."""
    rows = connection.execute(
        "SELECT partition FROM group_owner WHERE group_name = ? AND member = ?", (group, member)
    )
    return frozenset(partition for (partition,) in rows)


def owners(connection: sqlite3.Connection, group: str) -> dict[int, str]:
    """The owner of each partition, as long as the group's present epoch was dealt out."""
    rows = connection.execute(
        "SELECT o.partition, o.member FROM group_owner AS o JOIN group_member AS m"
        " ON m.group_name = o.group_name AND m.member = o.member"
        " JOIN consumer_group AS g ON g.name = o.group_name AND g.assigned_epoch = g.epoch"
        " WHERE o.group_name = ?",
        (group,),
    )
    return dict(rows.fetchall())


def commit(
    connection: sqlite3.Connection,
    group: str,
    member: str,
    *,
    epoch: int,
    next_offsets: Mapping[int, int],
) -> None:
    """Store progress if the member still is one in the epoch in which it came to own the partitions."""
    if standing(connection, group, member).member_epoch != epoch:
        return
    connection.executemany(
        "INSERT INTO group_commit (group_name, partition, next_offset) VALUES (?, ?, ?)"
        " ON CONFLICT (group_name, partition) DO UPDATE SET next_offset = excluded.next_offset",
        [(group, partition, next_offset) for partition, next_offset in next_offsets.items()],
    )


def _begin_epoch(connection: sqlite3.Connection, group: str) -> None:
    connection.execute(
        "INSERT INTO consumer_group (name, epoch, assigned_epoch) VALUES (?, 1, 0)"
        " ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1",
        (group,),
    )


def _assign_when_all_joined(connection: sqlite3.Connection, group: str) -> None:
    members = [
        member
        for (member,) in connection.execute(
            "SELECT member FROM group_member WHERE group_name = ? ORDER BY member", (group,)
        )
    ]
    (missing,) = connection.execute(
        "SELECT count(*) FROM group_member AS m JOIN consumer_group AS g ON g.name = m.group_name"
        " WHERE m.group_name = ? AND m.epoch <> g.epoch",
        (group,),
    ).fetchone()
    if missing or not members:
        return
    (partition_count,) = connection.execute("SELECT partition_count FROM log").fetchone()
    connection.execute("DELETE FROM group_owner WHERE group_name = ?", (group,))
    connection.executemany(
        "INSERT INTO group_owner (group_name, partition, member) VALUES (?, ?, ?)",
        [(group, p, members[p % len(members)]) for p in range(partition_count)],
    )
    connection.execute("UPDATE consumer_group SET assigned_epoch = epoch WHERE name = ?", (group,))
