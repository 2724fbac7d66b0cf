"""Folding what emitters report about the gate: limits that stopped usage, calls let through. Pure."""

from __future__ import annotations

from typing import assert_never

from tollkeeper.events.gate import CallAdmitted, GateEvent, LimitReached
from tollkeeper.gate.amounts import NANOS_PER_MICRO
from tollkeeper.ledger.fingerprint import MODULUS_MASK, fact_term
from tollkeeper.ledger.rows import AdmittedRow
from tollkeeper.ledger.view import Changes, Fact, View
from tollkeeper.log.port import LogRecord
from tollkeeper.money.periods import period_at


def fold_report(view: View, changes: Changes, record: LogRecord, event: GateEvent) -> None:
    """Take one report. It may be about an organization that was never opened: then nothing stopped."""
    match event:
        case CallAdmitted():
            row = AdmittedRow(
                event.organization,
                event.event_id,
                event.member,
                period_at(event.occurred_at).start_micros,
                event.policy,
                event.cause,
                event.amount_micros * NANOS_PER_MICRO,
                event.emitter,
                event.occurred_at,
                record.partition,
                record.offset,
            )
            changes.admitted.setdefault((row.organization, row.event_id), row)
        case LimitReached():
            organization = view.organizations.get(event.organization)
            if organization is None:
                return
            organization.last_offset = max(organization.last_offset, record.offset)
            term = fact_term("LimitReached", record.value, record.partition, record.offset)
            organization.fingerprint = (organization.fingerprint + term) & MODULUS_MASK
            changes.organizations.add(event.organization)
            fact = Fact(record.offset, record.appended_at, event)
            changes.facts.setdefault(event.organization, []).append(fact)
        case _:
            assert_never(event)
