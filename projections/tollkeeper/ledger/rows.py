"""The rows that a fold works on, in the shape of the tables. Values only.

A charge is a tuple in the order of the table's columns after the generation, since five thousand of
them go to the database in one call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from tollkeeper.events.quarantined import Cause

Counts = tuple[int, int, int, int, int, int]
Place = tuple[int, int]
"""(partition, offset) of a record on the log."""
LetterKey = tuple[int, str | None, str | None, bytes | None]
"""(partition, organization, event id, payload hash) of a quarantined usage event.

The partition belongs to it: partitions are folded in any order, and none may decide for another."""


class ChargeRow(NamedTuple):
    """One usage event, field by field, and what the fold adds to it; see the table `charge`.

    The hot path builds plain tuples of this shape: the database driver binds those faster.
    """

    event_id: str
    organization: str
    member: str
    surface: str
    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    web_search_requests: int
    service_tier: str
    speed: str
    region: str
    usage_source: str
    request_id: str | None
    hold_id: str | None
    occurred_at: int
    emitter: str
    sequence: int
    payload_hash: bytes
    appended_at: int
    period_start: int
    is_late: int
    is_member_unknown: int
    input_nanos: int
    output_nanos: int
    cache_read_nanos: int
    cache_write_5m_nanos: int
    cache_write_1h_nanos: int
    web_search_nanos: int
    charge_nanos: int
    publication_id: str
    log_partition: int
    log_offset: int
    released_offset: int | None


PlainRow = tuple[Any, ...]
"""A `ChargeRow` without the names."""
COUNTS = slice(
    ChargeRow._fields.index("input_tokens"), ChargeRow._fields.index("web_search_requests") + 1
)
PARTS = slice(
    ChargeRow._fields.index("input_nanos"), ChargeRow._fields.index("web_search_nanos") + 1
)


class ChargedBefore(NamedTuple):
    """What stands in the ledger under an event id that a fold wanted to charge again."""

    payload_hash: bytes
    log_partition: int
    log_offset: int


class MemberRow(msgspec.Struct, frozen=True):
    """A person's standing in an organization; `removed_at` is null while they belong to it."""

    organization: str
    member: str
    role: str
    added_at: int
    removed_at: int | None


class CapRow(msgspec.Struct, frozen=True):
    """The newest cap setting of one scope."""

    organization: str
    scope: str
    member: str
    setting: str
    cap_nanos: int | None
    version: int
    set_at: int


class CreditRow(msgspec.Struct, frozen=True):
    """One purchase of prepaid credits."""

    organization: str
    purchase_id: str
    credit_nanos: int
    purchased_at: int
    actor: str
    reference: str | None
    log_offset: int
    voided_at: int | None = None
    void_reason: str | None = None


class PublicationRow(msgspec.Struct, frozen=True):
    """A price publication as one partition has seen it."""

    log_partition: int
    publication_id: str
    log_offset: int
    effective_from: int
    withdrawn_offset: int | None
    value: bytes


class EmitterRow(msgspec.Struct, frozen=True):
    """An emitter as one partition has seen it; retired is final, also without a start."""

    log_partition: int
    emitter: str
    started_offset: int | None = None
    started_at: int | None = None
    retired_offset: int | None = None
    retired_at: int | None = None
    retired_by: str | None = None
    reason: str | None = None


EVERYBODY = "*"
"""Stands where an organization could stand: the policy of all that have none of their own."""


class PolicyRow(msgspec.Struct, frozen=True):
    """The newest gate policy of an organization, or one partition's default (EVERYBODY's)."""

    organization: str
    log_partition: int
    policy: str
    ceiling_nanos: int | None
    until: int | None
    version: int
    actor: str
    set_at: int


class StopRow(msgspec.Struct, frozen=True):
    """The last time that usage stopped at one limit of one scope, and how it went on since.

    `cap_nanos` and `version` are those of the cap, or of all credits bought, at which it stopped.
    """

    organization: str
    limit_name: str
    scope: str
    period_start: int
    cap_nanos: int
    version: int
    stopped_at: int
    log_offset: int
    resumed_at: int | None = None
    resumed_offset: int | None = None
    resumed_by: str | None = None


class AdmittedRow(msgspec.Struct, frozen=True):
    """A call that a policy let through; nano-USD at most, see CallAdmitted."""

    organization: str
    event_id: str
    member: str
    period_start: int
    policy: str
    cause: str
    amount_nanos: int
    emitter: str
    occurred_at: int
    log_partition: int
    log_offset: int


class DecidedRow(msgspec.Struct, frozen=True):
    """An event as it stands on the log, for the write side that may lack it after a restore.

    `version` is None where the stream's own order gives it (prices, quarantine).
    """

    stream: str
    version: int | None
    log_partition: int
    log_offset: int
    record_key: bytes | None
    value: bytes
    command_id: str
    decided_at: int


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter: a record that wasn't folded, its cause, its bytes, and how it was closed."""

    log_partition: int
    log_offset: int
    cause: Cause
    field: str | None
    detail: str
    status: str = "open"
    organization: str | None = None
    event_id: str | None = None
    member: str | None = None
    model: str | None = None
    counts: Counts | None = None
    payload_hash: bytes | None = None
    amount_at_risk_nanos: int | None = None
    record_key: bytes | None
    raw: bytes
    appended_at: int
    closed_offset: int | None = None
    closed_by: str | None = None
    closed_reason: str | None = None
    hold_id: str | None = None

    @property
    def place(self) -> Place:
        """Where the record stands on the log; it is the letter's id."""
        return self.log_partition, self.log_offset

    @property
    def key(self) -> LetterKey:
        """Which usage event this is, if it is one."""
        return self.log_partition, self.organization, self.event_id, self.payload_hash
