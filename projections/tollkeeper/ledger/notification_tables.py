"""The tables of what people are told. No fold's: they have no generation, and a replay never fills them."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table

from tollkeeper.ledger.columns import key
from tollkeeper.outbox.tables import Int64, Text, metadata

WAITING, DELIVERED, GIVEN_UP, TOO_OLD = "waiting", "delivered", "given_up", "too_old"
"""What may become of a delivery."""
ENABLED, DISABLED = "enabled", "disabled"

notification = Table(
    "notification",
    metadata,
    key("notification_id"),
    Column("organization", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("limit_name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("member", Text),
    Column("period_start", Int64),
    Column("percent", Int64),
    Column("version", Int64, nullable=False),
    Column("cap_nanos", Int64),
    Column("spent_nanos", Int64),
    Column("cause", Text),
    Column("recipients", Text, nullable=False),  # members' ids, a JSON list
    Column("occurred_at", Int64, nullable=False),
    Column("appended_at", Int64, nullable=False),  # of the record that caused it, by the log
    Column("log_partition", Int64, nullable=False),
    Column("log_offset", Int64, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Written by the live fold in its transaction, each id once; see `notifications.Notification`."""

Index(
    "notification_by_organization",
    notification.c.organization,
    notification.c.appended_at,
)

webhook_endpoint = Table(
    "webhook_endpoint",
    metadata,
    key("endpoint_id"),
    Column("url", Text, nullable=False),
    Column("organization", Text),  # null: notifications of all organizations go there
    Column("secret", Text, nullable=False),
    Column("status", Text, nullable=False),  # enabled | disabled
    Column("status_reason", Text),
    Column("created_at", Int64, nullable=False),
    Column("changed_at", Int64, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Where webhooks go. The operator's configuration: nothing of it stands on the log."""

delivery = Table(
    "delivery",
    metadata,
    key("notification_id"),
    key("endpoint_id"),
    Column("status", Text, nullable=False),  # waiting | delivered | given_up | too_old
    Column("attempts", Int64, nullable=False),
    Column("due_at", Int64, nullable=False),
    Column("created_at", Int64, nullable=False),
    Column("tried_at", Int64),
    Column("http_status", Int64),
    Column("detail", Text),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The delivery log: a row a notification and endpoint, made with the notification."""

Index(
    "delivery_waiting",
    delivery.c.endpoint_id,
    delivery.c.due_at,
    sqlite_where=delivery.c.status == WAITING,
    postgresql_where=delivery.c.status == WAITING,
)
