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
    """Create the tables."""
    _create_gate_policy()


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
