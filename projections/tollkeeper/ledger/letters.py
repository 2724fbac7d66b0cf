"""Writing dead letters: what a record that can't be folded keeps of itself. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tollkeeper.events.quarantined import Cause
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.ledger.rows import COUNTS, ChargeRow, Letter
from tollkeeper.log.port import LogRecord


class Problem(NamedTuple):
    """Why a record can't be folded: the cause, the field where there is one, and what would be right."""

    cause: Cause
    field: str | None
    detail: str


class Released(NamedTuple):
    """The operator's release under which a dead letter is folded again."""

    letter: Letter
    released_offset: int
    actor: str


def letter_of_record(
    record: LogRecord, problem: Problem, organization: str | None = None
) -> Letter:
    """The letter of a record of which nothing is known but its bytes."""
    return Letter(
        log_partition=record.partition,
        log_offset=record.offset,
        cause=problem.cause,
        field=problem.field,
        detail=problem.detail,
        organization=organization,
        record_key=record.key,
        raw=record.value,
        appended_at=record.appended_at,
    )


def letter_of_usage(
    record: LogRecord,
    usage: UsageRecorded,
    problem: Problem,
    *,
    payload_hash: bytes,
    amount_at_risk_nanos: int | None,
) -> Letter:
    """The letter of a usage event: its tokens, and the amount at risk where a price is known."""
    return msgspec.structs.replace(
        letter_of_record(record, problem, usage.organization),
        event_id=usage.event_id,
        member=usage.member,
        model=usage.model,
        counts=(
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.web_search_requests,
        ),
        payload_hash=payload_hash,
        hold_id=usage.hold_id,
        amount_at_risk_nanos=amount_at_risk_nanos,
    )


def letter_of_conflict(record: LogRecord, row: ChargeRow, detail: str) -> Letter:
    """The letter of a usage event whose id was charged with other content."""
    return msgspec.structs.replace(
        letter_of_record(record, Problem(Cause.ID_CONFLICT, "event_id", detail), row.organization),
        event_id=row.event_id,
        member=row.member,
        model=row.model,
        counts=row[COUNTS],
        payload_hash=row.payload_hash,
        hold_id=row.hold_id,
        amount_at_risk_nanos=row.charge_nanos,
    )


def closed(
    letter: Letter, status: str, *, offset: int, actor: str, reason: str | None = None
) -> Letter:
    """The letter after the operator's decision took effect."""
    return msgspec.structs.replace(
        letter, status=status, closed_offset=offset, closed_by=actor, closed_reason=reason
    )
