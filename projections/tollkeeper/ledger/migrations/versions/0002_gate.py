"""What the gate's enforcement needs of SQL: totals by scope, emitters, epochs, holds that are settled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tollkeeper.errors import InvalidInput
from tollkeeper.events.codec import decode
from tollkeeper.events.usage import UsageRecorded

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OFTEN_UPDATED = {"fillfactor": 70}
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
HAS_HOLD = sa.text("hold_id IS NOT NULL")
LETTERS_A_STEP = 1_000


def upgrade() -> None:
    """Create the tables, and fill from what is there what a fold would have filled."""
    op.add_column("consumer_offset", sa.Column("applied_offset", INT64, nullable=True))
    op.add_column("dead_letter", sa.Column("hold_id", TEXT, nullable=True))
    _create_emitter()
    _create_gate_epoch()
    _create_spent()
    for table in ("charge", "dead_letter"):
        op.create_index(
            f"{table}_by_hold",
            table,
            ["organization", "hold_id", "generation"],
            sqlite_where=HAS_HOLD,
            postgresql_where=HAS_HOLD,
        )
    _fill_spent()
    _fill_holds_of_letters()


def _create_emitter() -> None:
    op.create_table(
        "emitter",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("log_partition", INT64, autoincrement=False, nullable=False),
        sa.Column("emitter", TEXT, nullable=False),
        sa.Column("started_offset", INT64, nullable=True),
        sa.Column("started_at", INT64, nullable=True),
        sa.Column("retired_offset", INT64, nullable=True),
        sa.Column("retired_at", INT64, nullable=True),
        sa.Column("retired_by", TEXT, nullable=True),
        sa.Column("reason", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("generation", "log_partition", "emitter"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )

    is_retired = sa.text("retired_offset IS NOT NULL")
    op.create_index(
        "emitter_retired",
        "emitter",
        ["log_partition", "retired_offset", "generation"],
        sqlite_where=is_retired,
        postgresql_where=is_retired,
    )


def _create_gate_epoch() -> None:
    op.create_table(
        "gate_epoch",
        sa.Column("tag", TEXT, nullable=False),
        sa.Column("epoch", INT64, nullable=False),
        sa.Column("phase", TEXT, nullable=False),
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("replication_id", TEXT, nullable=False),
        sa.Column("begun_at", INT64, nullable=False),
        sa.PrimaryKeyConstraint("tag"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _create_spent() -> None:
    op.create_table(
        "spent",
        sa.Column("generation", INT64, autoincrement=False, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("period_start", INT64, autoincrement=False, nullable=False),
        sa.Column("member", TEXT, nullable=False),
        sa.Column("charge_nanos", INT64, nullable=False),
        sa.PrimaryKeyConstraint("generation", "organization", "period_start", "member"),
        postgresql_with=OFTEN_UPDATED,
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _fill_spent() -> None:
    for member in ("member", "''"):
        op.execute(
            "INSERT INTO spent (generation, organization, period_start, member, charge_nanos) "
            f"SELECT generation, organization, period_start, {member}, sum(charge_nanos) FROM charge "
            "GROUP BY 1, 2, 3, 4"
        )


def _fill_holds_of_letters() -> None:
    """Only the record itself says which hold its usage had."""
    connection = op.get_bind()
    place = ("generation", "log_partition", "log_offset")
    letters = sa.table("dead_letter", *map(sa.column, (*place, "raw", "payload_hash", "hold_id")))
    of_usage = sa.select(*(letters.c[name] for name in (*place, "raw"))).where(
        letters.c.payload_hash.is_not(None)
    )
    held = [
        {"of_generation": row[0], "of_partition": row[1], "of_offset": row[2], "hold": hold}
        for row in connection.execute(of_usage.execution_options(yield_per=LETTERS_A_STEP))
        if (hold := _hold_of(row[3]))
    ]
    if held:
        connection.execute(
            sa.update(letters)
            .where(
                letters.c.generation == sa.bindparam("of_generation"),
                letters.c.log_partition == sa.bindparam("of_partition"),
                letters.c.log_offset == sa.bindparam("of_offset"),
            )
            .values(hold_id=sa.bindparam("hold")),
            held,
        )


def _hold_of(record: bytes) -> str | None:
    try:
        event = decode(record)
    except InvalidInput:
        return None
    return event.hold_id if isinstance(event, UsageRecorded) else None
