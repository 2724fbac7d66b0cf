"""The ledger's tables: what the log folds into. Every key begins with the generation of the fold.

Instants are microseconds since the epoch, money is nano-USD. The write side's tables
(`outbox.tables`) share the metadata, since both live in one database.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    literal_column,
)

from tollkeeper.events.usage import TOKEN_TYPES
from tollkeeper.ledger.columns import NOT_FOLDED, int_key, key, projection
from tollkeeper.ledger.gate_tables import admitted_call, gate_policy, usage_stop
from tollkeeper.outbox.tables import Int64, Text, metadata

COUNT_COLUMNS = tuple(
    f"{name}_requests" if name == "web_search" else f"{name}_tokens" for name in TOKEN_TYPES
)
NANOS_COLUMNS = tuple(f"{name}_nanos" for name in TOKEN_TYPES)


def _counts(nullable: bool = False) -> list[Column[int]]:
    return [Column(name, Int64, nullable=nullable) for name in COUNT_COLUMNS]


def _parts() -> list[Column[int]]:
    return [Column(name, Int64, nullable=False) for name in NANOS_COLUMNS]


generation = Table(
    "generation",
    metadata,
    int_key("generation"),
    Column("status", Text, nullable=False),  # live | building | retired | dropped
    Column("created_at", Int64, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The folds that exist. Exactly one is live: the one that every query reads."""

Index(
    "generation_live",
    generation.c.status,
    unique=True,
    sqlite_where=generation.c.status == "live",
    postgresql_where=generation.c.status == "live",
)

consumer_offset = projection(
    "consumer_offset",
    int_key("log_partition"),
    Column("next_offset", Int64, nullable=False),
    Column("log_identity", Text, nullable=False),
    Column("last_record_hash", LargeBinary),
    Column("last_appended_at", Int64),
    # How far the gate has taken what this fold did: that is about the gate, and no two folds agree on it.
    Column("applied_offset", Int64, info={NOT_FOLDED: True}),
    is_often_updated=True,
)
"""The position of a fold: moved by compare and set in the fold's own transaction (the zombie fence)."""

restore_barrier = Table(
    "restore_barrier",
    metadata,
    int_key("log_partition"),
    Column("end_offset", Int64, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""After a restore of SQL: commands wait until the live fold has reached this offset."""

organization = projection(
    "organization",
    key("organization"),
    Column("plan", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("primary_owner", Text, nullable=False),
    Column("opened_at", Int64, nullable=False),
    Column("version", Int64, nullable=False),  # the last folded organization event
    Column("log_partition", Int64, nullable=False),
    Column("last_offset", Int64, nullable=False),  # of the last folded record: its sequence
    Column("fingerprint", LargeBinary, nullable=False),  # 16 bytes, big-endian
    Column("charged_events", Int64, nullable=False),
    Column("charged_nanos", Int64, nullable=False),
    Column("duplicate_events", Int64, nullable=False),
    Column("purchased_nanos", Int64, nullable=False),  # less what was voided
    Column("used_nanos", Int64, nullable=False),  # charges that drew on credits (self-serve)
    # What notifications rest on, see `fold_notifying`.
    Column("cap_percents", Text, nullable=False),  # rising, with spaces
    Column("credits_low_percent", Int64, nullable=False),
    Column("cap_scopes", Int64, nullable=False),  # thresholds.CAP_SCOPES, added up
    Column("last_purchase_nanos", Int64, nullable=False),  # that wasn't voided
    Column("credits_version", Int64, nullable=False),  # how often credits were bought or voided
    Column("stopped_since", Int64, nullable=False),  # first period with a cap's open stop, or 0
    is_often_updated=True,
)
"""Opened by OrganizationOpened; totals by every fold that touches the organization."""

member = projection(
    "member",
    key("organization"),
    key("member"),
    Column("role", Text, nullable=False),
    Column("added_at", Int64, nullable=False),
    Column("removed_at", Int64),
)
"""Filled by OrganizationOpened, MemberAdded, MemberRemoved, RoleChanged, OwnershipTransferred."""

cap = projection(
    "cap",
    key("organization"),
    key("scope"),  # organization | member_default | member
    key("member"),  # empty unless the scope is member
    Column("setting", Text, nullable=False),  # capped | unlimited | inherit
    Column("cap_nanos", Int64),
    Column("version", Int64, nullable=False),
    Column("set_at", Int64, nullable=False),
)
"""Filled by SpendCapSet; the newest setting of a scope."""

credit = projection(
    "credit",
    key("organization"),
    key("purchase_id"),
    Column("credit_nanos", Int64, nullable=False),
    Column("purchased_at", Int64, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reference", Text),
    Column("log_offset", Int64, nullable=False),
    Column("voided_at", Int64),
    Column("void_reason", Text),
)
"""The credit ledger: filled by CreditsPurchased, closed by CreditsVoided."""

charge = projection(
    "charge",
    # First the usage event as it stands on the log, in its own order ...
    Column("event_id", Text, primary_key=True),
    Column("organization", Text, primary_key=True),
    Column("member", Text, nullable=False),
    Column("surface", Text, nullable=False),
    Column("model", Text, nullable=False),
    *_counts(),
    Column("service_tier", Text, nullable=False),
    Column("speed", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("usage_source", Text, nullable=False),
    Column("request_id", Text),
    Column("hold_id", Text),
    Column("occurred_at", Int64, nullable=False),
    Column("emitter", Text, nullable=False),
    Column("sequence", Int64, nullable=False),
    # ... then what the fold adds.
    Column("payload_hash", LargeBinary, nullable=False),
    Column("appended_at", Int64, nullable=False),
    Column("period_start", Int64, nullable=False),
    Column("is_late", Int64, nullable=False),  # 1: its period was over when it reached the log
    Column("is_member_unknown", Int64, nullable=False),  # 1: not (any more) a member: charged (R18)
    *_parts(),
    Column("charge_nanos", Int64, nullable=False),  # the sum of the parts
    Column("publication_id", Text, nullable=False),  # the prices it was rated with
    Column("log_partition", Int64, nullable=False),
    Column("log_offset", Int64, nullable=False),
    Column("released_offset", Int64),  # of the QuarantineReleased that let it in, else null
    PrimaryKeyConstraint("generation", "organization", "event_id"),
)
"""One row a usage event, filled by UsageRecorded: dedupe, audit trail and source of every figure."""

spend = projection(
    "spend",
    key("organization"),
    int_key("period_start"),
    int_key("day"),  # UTC days since the epoch
    key("member"),
    key("surface"),
    key("model"),
    Column("events", Int64, nullable=False),
    *_counts(),
    *_parts(),
    is_often_updated=True,
)
"""Charges summed by period, day, member, surface, model and (in columns) token type: UsageRecorded."""

spent = projection(
    "spent",
    key("organization"),
    int_key("period_start"),
    key("member"),  # empty for all of the organization
    Column("charge_nanos", Int64, nullable=False),
    is_often_updated=True,
)
"""What a cap is held against (RULES R19), all that a scope has spent in a period: UsageRecorded."""

dead_letter = projection(
    "dead_letter",
    int_key("log_partition"),
    int_key("log_offset"),
    Column("cause", Text, nullable=False),  # events.quarantined.Cause
    Column("field", Text),
    Column("detail", Text, nullable=False),
    Column("status", Text, nullable=False),  # open | charged | folded | duplicate | discarded
    Column("organization", Text),
    Column("event_id", Text),
    Column("member", Text),
    Column("model", Text),
    *_counts(nullable=True),
    Column("payload_hash", LargeBinary),
    Column("amount_at_risk_nanos", Int64),
    Column("record_key", LargeBinary),
    Column("raw", LargeBinary, nullable=False),
    Column("appended_at", Int64, nullable=False),
    Column("closed_offset", Int64),
    Column("closed_by", Text),
    Column("closed_reason", Text),
    Column("hold_id", Text),
)
"""Every record that wasn't folded, with its bytes and cause; closed by QuarantineReleased/Discarded."""

LETTERS_BY_EVENT = "dead_letter_by_event"
# None of these begins with the generation: a planner that knows little of a new one would take any that
# does to lead to a row or two.
Index(
    LETTERS_BY_EVENT,
    dead_letter.c.organization,
    dead_letter.c.event_id,
    dead_letter.c.generation,
)


def _letters_in_status(name: str, status: str, *columns: Column[int]) -> None:
    """An index of those in a status of which there are few; queries must name it literally."""
    is_in_it = dead_letter.c.status == status
    Index(name, *columns, sqlite_where=is_in_it, postgresql_where=is_in_it)


_letters_in_status(
    "dead_letter_discarded", "discarded", dead_letter.c.log_partition, dead_letter.c.generation
)
_letters_in_status(
    "dead_letter_open",
    "open",
    dead_letter.c.log_partition,
    dead_letter.c.log_offset,
    dead_letter.c.generation,
)


def letters_in_status(number: int, status: str) -> tuple[ColumnElement[bool], ...]:
    """The conditions on one generation's letters in a status, so that its index is found: the status
    stands there literally, and the key that begins with the generation isn't in question."""
    return (
        dead_letter.c.status == literal_column(f"'{status}'"),
        dead_letter.c.generation + literal_column("0") == number,
    )


price_publication = projection(
    "price_publication",
    int_key("log_partition"),
    key("publication_id"),
    Column("log_offset", Int64, nullable=False),
    Column("effective_from", Int64, nullable=False),
    Column("withdrawn_offset", Int64),
    Column("value", LargeBinary, nullable=False),  # the PricesPublished as it stands on the log
)
"""The prices that a partition has seen: filled by PricesPublished, closed by PricesWithdrawn."""

emitter = projection(
    "emitter",
    int_key("log_partition"),
    key("emitter"),
    Column("started_offset", Int64),
    Column("started_at", Int64),
    Column("retired_offset", Int64),
    Column("retired_at", Int64),
    Column("retired_by", Text),
    Column("reason", Text),  # events.emitters.RetirementReason
)
"""The emitters that a partition has seen: filled by EmitterStarted and EmitterRetired, each once."""

gate_epoch = Table(
    "gate_epoch",
    metadata,
    key("tag"),  # of a primary of the gate, see gate.keys
    Column("epoch", Int64, nullable=False),
    Column("phase", Text, nullable=False),  # recovering | open
    Column("run_id", Text, nullable=False),
    Column("replication_id", Text, nullable=False),
    Column("begun_at", Int64, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""The trusted incarnation of each of the gate's servers; no fold's, so without a generation."""


Index(
    "emitter_retired",
    emitter.c.log_partition,
    emitter.c.retired_offset,
    emitter.c.generation,
    sqlite_where=emitter.c.retired_offset.is_not(None),
    postgresql_where=emitter.c.retired_offset.is_not(None),
)


def _by_hold(table: Table) -> str:
    """An index of the rows that came from held usage."""
    has_hold = table.c.hold_id.is_not(None)
    columns = (table.c.organization, table.c.hold_id, table.c.generation)
    return str(
        Index(
            f"{table.name}_by_hold", *columns, sqlite_where=has_hold, postgresql_where=has_hold
        ).name
    )


CHARGES_BY_HOLD = _by_hold(charge)
LETTERS_BY_HOLD = _by_hold(dead_letter)

PROJECTIONS = (
    consumer_offset,
    organization,
    member,
    cap,
    credit,
    charge,
    spend,
    spent,
    dead_letter,
    price_publication,
    emitter,
    gate_policy,
    usage_stop,
    admitted_call,
)
"""Every table that one generation of the fold fills, in the order in which a comparison reads them."""
