"""What an organization's people were told, where usage is stopped now, and what policies let through."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, RowMapping, func, literal_column, select

from tollkeeper.ledger.gate_tables import admitted_call, usage_stop
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.notification_tables import WAITING, delivery, notification
from tollkeeper.ledger.tables import organization
from tollkeeper.money.periods import Period, period_at
from tollkeeper.reports.documents import instant, money
from tollkeeper.reports.organizations import find_organization


class ToldNotification(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table `notification`; see `ledger.notifications.Notification`."""

    notification_id: str
    organization: str
    kind: str
    limit_name: str
    scope: str
    member: str | None
    period_start: int | None
    percent: int | None
    version: int
    cap_nanos: int | None
    spent_nanos: int | None
    cause: str | None
    recipients: tuple[str, ...]
    occurred_at: int
    appended_at: int
    log_partition: int
    log_offset: int

    def as_document(self) -> dict[str, object]:
        """For `notifications`, and what a webhook carries. Credits: all bought, and used, of them."""
        is_credits = self.limit_name == "credits"
        start = self.period_start
        return {
            "id": self.notification_id,
            "organization": self.organization,
            "kind": self.kind,
            "limit": self.limit_name,
            "scope": self.scope,
            "member": self.member,
            "period": None if start is None else period_at(start).label,
            "percent": self.percent,
            "version": self.version,
            **money("purchased" if is_credits else "cap", self.cap_nanos),
            **money("used" if is_credits else "spent", self.spent_nanos),
            "cause": self.cause,
            "recipients": list(self.recipients),
            "occurred_at": instant(self.occurred_at),
            "log": f"{self.log_partition}-{self.log_offset}",
        }


class Thresholds(msgspec.Struct, frozen=True):
    """When an organization is notified, in whole per cent (RULES R26)."""

    organization: str
    cap_percents: tuple[int, ...]
    credits_low_percent: int

    def as_document(self) -> dict[str, object]:
        """For `alerts show`."""
        return msgspec.structs.asdict(self)


def thresholds_of(connection: Connection, name: str) -> Thresholds:
    """As the live ledger has them. InvalidInput: there is no such organization."""
    find_organization(connection, name)
    row = connection.execute(
        select(organization.c.cap_percents, organization.c.credits_low_percent).where(
            organization.c.generation == live_generation(connection),
            organization.c.organization == name,
        )
    ).one()
    percents = tuple(map(int, str(row.cap_percents).split()))
    return Thresholds(name, percents, int(row.credits_low_percent))


def told_of_row(row: RowMapping) -> ToldNotification:
    """A row of the table `notification` as a value."""
    values = {name: row[name] for name in ToldNotification.__struct_fields__}
    recipients = msgspec.json.decode(row["recipients"], type=tuple[str, ...])
    return ToldNotification(**{**values, "recipients": recipients})


def find_notifications(connection: Connection, name: str, *, limit: int) -> list[ToldNotification]:
    """The newest first."""
    columns = notification.c
    rows = connection.execute(
        select(notification)
        .where(columns.organization == name)
        .order_by(
            columns.appended_at.desc(),
            columns.log_offset.desc(),
            columns.percent.desc(),
            columns.notification_id,
        )
        .limit(limit)
    )
    return [told_of_row(row._mapping) for row in rows]


def deliveries_of(
    connection: Connection, notification_ids: list[str]
) -> dict[str, list[dict[str, object]]]:
    """What became of each notification at each endpoint, by notification."""
    columns = delivery.c
    rows = connection.execute(
        select(delivery)
        .where(columns.notification_id.in_(notification_ids))
        .order_by(columns.notification_id, columns.endpoint_id)
    )
    found: dict[str, list[dict[str, object]]] = {one: [] for one in notification_ids}
    for row in rows:
        found[row.notification_id].append(
            {
                "endpoint": row.endpoint_id,
                "status": row.status,
                "attempts": row.attempts,
                "http_status": row.http_status,
                "detail": row.detail,
                "tried_at": instant(row.tried_at),
                "due_at": instant(row.due_at) if row.status == "waiting" else None,
            }
        )
    return found


def waiting_deliveries(connection: Connection) -> int:
    """How many deliveries wait for their first or next attempt."""
    is_waiting = delivery.c.status == literal_column(f"'{WAITING}'")  # as its index says it
    return int(connection.execute(select(func.count()).where(is_waiting)).scalar() or 0)


def open_stops(connection: Connection, name: str) -> list[dict[str, object]]:
    """Where usage stopped and didn't resume, as the log says it."""
    columns = usage_stop.c
    rows = connection.execute(
        select(usage_stop)
        .where(
            columns.generation == live_generation(connection),
            columns.organization == name,
            columns.resumed_offset.is_(None),
        )
        .order_by(columns.limit_name, columns.scope)
    )
    return [
        {
            "limit": row.limit_name,
            "scope": row.scope,
            "period": None if row.limit_name == "credits" else period_at(row.period_start).label,
            **money("purchased" if row.limit_name == "credits" else "cap", row.cap_nanos),
            "stopped_at": instant(row.stopped_at),
        }
        for row in rows
    ]


def admitted_calls(connection: Connection, name: str, period: Period) -> list[dict[str, object]]:
    """Calls that policies let through in a period, with what they may have cost at most."""
    columns = admitted_call.c
    rows = connection.execute(
        select(columns.policy, columns.cause, func.count(), func.sum(columns.amount_nanos))
        .where(
            columns.generation == live_generation(connection),
            columns.organization == name,
            columns.period_start == period.start_micros,
        )
        .group_by(columns.policy, columns.cause)
        .order_by(columns.policy, columns.cause)
    )
    return [
        {"policy": policy, "cause": cause, "calls": int(calls), **money("amount", int(nanos))}
        for policy, cause, calls, nanos in rows
    ]
