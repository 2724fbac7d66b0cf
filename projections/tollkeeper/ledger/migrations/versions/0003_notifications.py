"""Gate policies, what stopped usage, and what people are told about it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables, and say of every organization what a fold would have said."""
    _create_gate_policy()
    _create_usage_stop()
    _create_admitted_call()
    _create_notification()
    _create_webhook_endpoint()
    _create_delivery()
    _add_to_organization()


def _create_gate_policy() -> None:
    op.create_table(
        "gate_policy",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("log_partition", INT64, autoincrement=False, nullable=False),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("ceiling_nanos", INT64, nullable=True),
        sa.Column("until", INT64, nullable=True),
        sa.Column("version", INT64, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("set_at", INT64, nullable=False),
        sa.PrimaryKeyConstraint("generation", "organization", "log_partition"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_usage_stop() -> None:
    op.create_table(
        "usage_stop",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("limit_name", TEXT, nullable=False),
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("period_start", INT64, nullable=False),
        sa.Column("cap_nanos", INT64, nullable=False),
        sa.Column("version", INT64, nullable=False),
        sa.Column("stopped_at", INT64, nullable=False),
        sa.Column("log_offset", INT64, nullable=False),
        sa.Column("resumed_at", INT64, nullable=True),
        sa.Column("resumed_offset", INT64, nullable=True),
        sa.Column("resumed_by", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("generation", "organization", "limit_name", "scope"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_admitted_call() -> None:
    op.create_table(
        "admitted_call",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("member", TEXT, nullable=False),
        sa.Column("period_start", INT64, nullable=False),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("cause", TEXT, nullable=False),
        sa.Column("amount_nanos", INT64, nullable=False),
        sa.Column("emitter", TEXT, nullable=False),
        sa.Column("occurred_at", INT64, nullable=False),
        sa.Column("log_partition", INT64, nullable=False),
        sa.Column("log_offset", INT64, nullable=False),
        sa.PrimaryKeyConstraint("generation", "organization", "event_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_notification() -> None:
    op.create_table(
        "notification",
        sa.Column("notification_id", TEXT, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("limit_name", TEXT, nullable=False),
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("member", TEXT, nullable=True),
        sa.Column("period_start", INT64, nullable=True),
        sa.Column("percent", INT64, nullable=True),
        sa.Column("version", INT64, nullable=False),
        sa.Column("cap_nanos", INT64, nullable=True),
        sa.Column("spent_nanos", INT64, nullable=True),
        sa.Column("cause", TEXT, nullable=True),
        sa.Column("recipients", TEXT, nullable=False),
        sa.Column("occurred_at", INT64, nullable=False),
        sa.Column("appended_at", INT64, nullable=False),
        sa.Column("log_partition", INT64, nullable=False),
        sa.Column("log_offset", INT64, nullable=False),
        sa.PrimaryKeyConstraint("notification_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index("notification_by_organization", "notification", ["organization", "appended_at"])


def _create_webhook_endpoint() -> None:
    op.create_table(
        "webhook_endpoint",
        sa.Column("endpoint_id", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("organization", TEXT, nullable=True),
        sa.Column("secret", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("status_reason", TEXT, nullable=True),
        sa.Column("created_at", INT64, nullable=False),
        sa.Column("changed_at", INT64, nullable=False),
        sa.PrimaryKeyConstraint("endpoint_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("notification_id", TEXT, nullable=False),
        sa.Column("endpoint_id", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("attempts", INT64, nullable=False),
        sa.Column("due_at", INT64, nullable=False),
        sa.Column("created_at", INT64, nullable=False),
        sa.Column("tried_at", INT64, nullable=True),
        sa.Column("http_status", INT64, nullable=True),
        sa.Column("detail", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("notification_id", "endpoint_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    is_waiting = sa.text("status = 'waiting'")
    op.create_index(
        "delivery_waiting",
        "delivery",
        ["endpoint_id", "due_at"],
        sqlite_where=is_waiting,
        postgresql_where=is_waiting,
    )


def _add_to_organization() -> None:
    """The defaults are what holds until an owner says otherwise; the rest is counted once."""
    for column in (
        sa.Column("cap_percents", TEXT, nullable=False, server_default="75 90 100"),
        sa.Column("credits_low_percent", INT64, nullable=False, server_default="10"),
        sa.Column("cap_scopes", INT64, nullable=False, server_default="0"),
        sa.Column("last_purchase_nanos", INT64, nullable=False, server_default="0"),
        sa.Column("credits_version", INT64, nullable=False, server_default="0"),
        sa.Column("stopped_since", INT64, nullable=False, server_default="0"),
    ):
        op.add_column("organization", column)
    of_it = (
        "{0}.generation = organization.generation AND {0}.organization = organization.organization"
    )
    of_cap, of_credit = of_it.format("cap"), of_it.format("credit")
    op.execute(
        "UPDATE organization SET "
        "cap_scopes = coalesce((SELECT sum(bit) FROM (SELECT DISTINCT CASE scope "
        "WHEN 'organization' THEN 1 WHEN 'member_default' THEN 2 ELSE 4 END AS bit "
        f"FROM cap WHERE {of_cap}) AS scopes), 0), "
        f"credits_version = (SELECT count(*) + count(voided_at) FROM credit WHERE {of_credit}), "
        "last_purchase_nanos = coalesce((SELECT credit_nanos FROM credit "
        f"WHERE {of_credit} AND voided_at IS NULL ORDER BY log_offset DESC LIMIT 1), 0)"
    )
