"""The first tables: what was decided, and what the log folds into.

A migration is history and says each column itself, whatever the tables have become since.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OFTEN_UPDATED = {"fillfactor": 70}
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TOKEN_TYPES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
COUNTS = (*(f"{name}_tokens" for name in TOKEN_TYPES), "web_search_requests")
PARTS = tuple(f"{name}_nanos" for name in (*TOKEN_TYPES, "web_search"))


def upgrade() -> None:
    """Create every table of the first release."""
    _create_cap()
    _create_charge()
    _create_command()
    _create_consumer_offset()
    _create_credit()
    _create_dead_letter()
    _create_decided_event()
    _create_generation()
    _create_member()
    _create_organization()
    _create_price_publication()
    _create_restore_barrier()
    _create_spend()


def _create_cap() -> None:
    op.create_table(
        "cap",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("member", TEXT, nullable=False),
        sa.Column("setting", TEXT, nullable=False),
        sa.Column("cap_nanos", INT64, nullable=True),
        sa.Column("version", INT64, nullable=False),
        sa.Column("set_at", INT64, nullable=False),
        sa.PrimaryKeyConstraint("generation", "organization", "scope", "member"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_charge() -> None:
    op.create_table(
        "charge",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("member", TEXT, nullable=False),
        sa.Column("surface", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        *(sa.Column(name, INT64, nullable=False) for name in COUNTS),
        sa.Column("service_tier", TEXT, nullable=False),
        sa.Column("speed", TEXT, nullable=False),
        sa.Column("region", TEXT, nullable=False),
        sa.Column("usage_source", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=True),
        sa.Column("hold_id", TEXT, nullable=True),
        sa.Column("occurred_at", INT64, nullable=False),
        sa.Column("emitter", TEXT, nullable=False),
        sa.Column("sequence", INT64, nullable=False),
        sa.Column("payload_hash", sa.LargeBinary(), nullable=False),
        sa.Column("appended_at", INT64, nullable=False),
        sa.Column("period_start", INT64, nullable=False),
        sa.Column("is_late", INT64, nullable=False),
        sa.Column("is_member_unknown", INT64, nullable=False),
        *(sa.Column(name, INT64, nullable=False) for name in PARTS),
        sa.Column("charge_nanos", INT64, nullable=False),
        sa.Column("publication_id", TEXT, nullable=False),
        sa.Column("log_partition", INT64, nullable=False),
        sa.Column("log_offset", INT64, nullable=False),
        sa.Column("released_offset", INT64, nullable=True),
        sa.PrimaryKeyConstraint("generation", "organization", "event_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_command() -> None:
    op.create_table(
        "command",
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("command_id", TEXT, nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("answer", TEXT, nullable=False),
        sa.Column("decided_at", INT64, nullable=False),
        sa.PrimaryKeyConstraint("scope", "command_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_consumer_offset() -> None:
    op.create_table(
        "consumer_offset",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("log_partition", INT64, autoincrement=False, nullable=False),
        sa.Column("next_offset", INT64, nullable=False),
        sa.Column("log_identity", TEXT, nullable=False),
        sa.Column("last_record_hash", sa.LargeBinary(), nullable=True),
        sa.Column("last_appended_at", INT64, nullable=True),
        sa.PrimaryKeyConstraint("generation", "log_partition"),
        postgresql_with=OFTEN_UPDATED,
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_credit() -> None:
    op.create_table(
        "credit",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("purchase_id", TEXT, nullable=False),
        sa.Column("credit_nanos", INT64, nullable=False),
        sa.Column("purchased_at", INT64, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("reference", TEXT, nullable=True),
        sa.Column("log_offset", INT64, nullable=False),
        sa.Column("voided_at", INT64, nullable=True),
        sa.Column("void_reason", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("generation", "organization", "purchase_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_dead_letter() -> None:
    op.create_table(
        "dead_letter",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("log_partition", INT64, autoincrement=False, nullable=False),
        sa.Column("log_offset", INT64, autoincrement=False, nullable=False),
        sa.Column("cause", TEXT, nullable=False),
        sa.Column("field", TEXT, nullable=True),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("organization", TEXT, nullable=True),
        sa.Column("event_id", TEXT, nullable=True),
        sa.Column("member", TEXT, nullable=True),
        sa.Column("model", TEXT, nullable=True),
        *(sa.Column(name, INT64, nullable=True) for name in COUNTS),
        sa.Column("payload_hash", sa.LargeBinary(), nullable=True),
        sa.Column("amount_at_risk_nanos", INT64, nullable=True),
        sa.Column("record_key", sa.LargeBinary(), nullable=True),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("appended_at", INT64, nullable=False),
        sa.Column("closed_offset", INT64, nullable=True),
        sa.Column("closed_by", TEXT, nullable=True),
        sa.Column("closed_reason", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("generation", "log_partition", "log_offset"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "dead_letter_by_event",
        "dead_letter",
        ["organization", "event_id", "generation"],
        unique=False,
    )
    op.create_index(
        "dead_letter_discarded",
        "dead_letter",
        ["log_partition", "generation"],
        unique=False,
        sqlite_where=sa.text("status = 'discarded'"),
        postgresql_where=sa.text("status = 'discarded'"),
    )
    op.create_index(
        "dead_letter_open",
        "dead_letter",
        ["log_partition", "log_offset", "generation"],
        unique=False,
        sqlite_where=sa.text("status = 'open'"),
        postgresql_where=sa.text("status = 'open'"),
    )


def _create_decided_event() -> None:
    op.create_table(
        "decided_event",
        sa.Column("stream", TEXT, nullable=False),
        sa.Column("version", INT64, autoincrement=False, nullable=False),
        sa.Column("log_partition", INT64, nullable=False),
        sa.Column("record_key", sa.LargeBinary(), nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("command_id", TEXT, nullable=False),
        sa.Column("decided_at", INT64, nullable=False),
        sa.Column("log_offset", INT64, nullable=True),
        sa.PrimaryKeyConstraint("stream", "version"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "decided_event_waiting",
        "decided_event",
        ["stream", "version"],
        unique=False,
        sqlite_where=sa.text("log_offset IS NULL"),
        postgresql_where=sa.text("log_offset IS NULL"),
    )


def _create_generation() -> None:
    op.create_table(
        "generation",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("created_at", INT64, nullable=False),
        sa.PrimaryKeyConstraint("generation"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(
        "generation_live",
        "generation",
        ["status"],
        unique=True,
        sqlite_where=sa.text("status = 'live'"),
        postgresql_where=sa.text("status = 'live'"),
    )


def _create_member() -> None:
    op.create_table(
        "member",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("member", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("added_at", INT64, nullable=False),
        sa.Column("removed_at", INT64, nullable=True),
        sa.PrimaryKeyConstraint("generation", "organization", "member"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_organization() -> None:
    op.create_table(
        "organization",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("plan", TEXT, nullable=False),
        sa.Column("channel", TEXT, nullable=False),
        sa.Column("primary_owner", TEXT, nullable=False),
        sa.Column("opened_at", INT64, nullable=False),
        sa.Column("version", INT64, nullable=False),
        sa.Column("log_partition", INT64, nullable=False),
        sa.Column("last_offset", INT64, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("charged_events", INT64, nullable=False),
        sa.Column("charged_nanos", INT64, nullable=False),
        sa.Column("duplicate_events", INT64, nullable=False),
        sa.Column("purchased_nanos", INT64, nullable=False),
        sa.Column("used_nanos", INT64, nullable=False),
        sa.PrimaryKeyConstraint("generation", "organization"),
        postgresql_with=OFTEN_UPDATED,
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_price_publication() -> None:
    op.create_table(
        "price_publication",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("log_partition", INT64, autoincrement=False, nullable=False),
        sa.Column("publication_id", TEXT, nullable=False),
        sa.Column("log_offset", INT64, nullable=False),
        sa.Column("effective_from", INT64, nullable=False),
        sa.Column("withdrawn_offset", INT64, nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("generation", "log_partition", "publication_id"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_restore_barrier() -> None:
    op.create_table(
        "restore_barrier",
        sa.Column("log_partition", INT64, autoincrement=False, nullable=False),
        sa.Column("end_offset", INT64, nullable=False),
        sa.PrimaryKeyConstraint("log_partition"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_spend() -> None:
    op.create_table(
        "spend",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("period_start", INT64, autoincrement=False, nullable=False),
        sa.Column("day", INT64, autoincrement=False, nullable=False),
        sa.Column("member", TEXT, nullable=False),
        sa.Column("surface", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("events", INT64, nullable=False),
        *(sa.Column(name, INT64, nullable=False) for name in COUNTS),
        *(sa.Column(name, INT64, nullable=False) for name in PARTS),
        sa.PrimaryKeyConstraint(
            "generation", "organization", "period_start", "day", "member", "surface", "model"
        ),
        postgresql_with=OFTEN_UPDATED,
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
