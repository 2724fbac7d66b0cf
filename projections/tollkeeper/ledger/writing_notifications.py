"""Writing notifications and what is to be delivered of them, in the live fold's own transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from sqlalchemy import Connection, insert, or_, select

from tollkeeper.ledger.notification_tables import (
    ENABLED,
    WAITING,
    delivery,
    notification,
    webhook_endpoint,
)
from tollkeeper.ledger.notifications import Notification

IDS_A_QUERY = 500


def write_notifications(connection: Connection, found: Sequence[Notification]) -> int:
    """Write those that were never told, and a delivery of each to every endpoint that wants it.

    Answers how many. An organization has one partition and that one live fold, so nobody else writes
    the same at the same time.
    """
    by_id = {one.notification_id: one for one in reversed(found)}  # the first of each
    known = _known(connection, by_id)
    new = [one for one in by_id.values() if one.notification_id not in known]
    if not new:
        return 0
    new.sort(key=lambda one: one.notification_id)
    connection.execute(insert(notification), [_row(one) for one in new])
    deliveries = [
        {
            "notification_id": one.notification_id,
            "endpoint_id": endpoint_id,
            "status": WAITING,
            "attempts": 0,
            "due_at": one.appended_at,
            "created_at": one.appended_at,
        }
        for one in new
        for endpoint_id in _endpoints(connection, one.organization)
    ]
    if deliveries:
        connection.execute(insert(delivery), deliveries)
    return len(new)


def _known(connection: Connection, ids: Collection[str]) -> set[str]:
    ordered = sorted(ids)
    found: set[str] = set()
    for start in range(0, len(ordered), IDS_A_QUERY):
        chunk = ordered[start : start + IDS_A_QUERY]
        column = notification.c.notification_id
        found.update(connection.execute(select(column).where(column.in_(chunk))).scalars())
    return found


def _endpoints(connection: Connection, organization: str) -> list[str]:
    """A row lock would keep the operator waiting: who is removed meanwhile is skipped at delivery."""
    columns = webhook_endpoint.c
    wanted = or_(columns.organization.is_(None), columns.organization == organization)
    statement = select(columns.endpoint_id).where(columns.status == ENABLED, wanted)
    return sorted(connection.execute(statement).scalars())


def _row(one: Notification) -> dict[str, object]:
    row = msgspec.structs.asdict(one)
    row["recipients"] = msgspec.json.encode(one.recipients).decode()
    return row
