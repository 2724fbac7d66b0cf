"""Folding what the platform's operator decided: prices, policies, and the fate of dead letters. Pure."""

from __future__ import annotations

from typing import assert_never

from tollkeeper.events.gate import DefaultGatePolicySet
from tollkeeper.events.prices import PriceEvent, PricesPublished, PricesWithdrawn
from tollkeeper.events.quarantine import QuarantineEvent
from tollkeeper.events.quarantined import Cause
from tollkeeper.ledger.letters import Problem
from tollkeeper.ledger.rows import EVERYBODY, DecidedRow, PolicyRow, PublicationRow
from tollkeeper.ledger.view import Changes, View
from tollkeeper.log.port import LogRecord
from tollkeeper.outbox.streams import policies_stream, prices_stream, quarantine_stream


def fold_prices(
    view: View, changes: Changes, record: LogRecord, event: PriceEvent
) -> Problem | None:
    """Take a publication or a withdrawal into the partition's rate card; a repeated one is ignored."""
    _note(changes, prices_stream(record.partition), record, event)
    key = (record.partition, event.publication_id)
    known = view.publications.get(key)
    match event:
        case PricesPublished():
            if known is not None:
                return None if known.value == record.value else _republished(event)
            row = PublicationRow(
                record.partition,
                event.publication_id,
                record.offset,
                event.effective_from,
                None,
                record.value,
            )
            card = view.cards[record.partition].published(event)
        case PricesWithdrawn():
            if known is None:
                return Problem(
                    Cause.IMPOSSIBLE,
                    "publication_id",
                    f"{event.publication_id} was never published on this partition",
                )
            if known.withdrawn_offset is not None:
                return None
            row = PublicationRow(
                known.log_partition,
                known.publication_id,
                known.log_offset,
                known.effective_from,
                record.offset,
                known.value,
            )
            card = view.cards[record.partition].withdrawn(event.publication_id)
        case _:
            assert_never(event)
    view.cards[record.partition] = card
    view.publications[key] = changes.publications[key] = row
    return None


def fold_default_policy(
    view: View, changes: Changes, record: LogRecord, event: DefaultGatePolicySet
) -> None:
    """Take the partition's newest default policy; one that was taken before, or an older one, is ignored."""
    _note(changes, policies_stream(record.partition), record, event)
    key = (EVERYBODY, record.partition)
    known = view.policies.get(key)
    if known is not None and known.version >= event.version:
        return
    view.policies[key] = changes.policies[key] = PolicyRow(
        *key,
        event.policy,
        event.ceiling_nanos,
        event.until,
        event.version,
        event.actor,
        event.occurred_at,
    )


def note_decision(changes: Changes, record: LogRecord, event: QuarantineEvent) -> None:
    """Keep the decision for the write side, which may lack it after a restore."""
    stream = quarantine_stream(event.letter_partition, event.letter_offset)
    _note(changes, stream, record, event)


def _note(
    changes: Changes,
    stream: str,
    record: LogRecord,
    event: PriceEvent | QuarantineEvent | DefaultGatePolicySet,
) -> None:
    changes.decided.append(
        DecidedRow(
            stream,
            None,
            record.partition,
            record.offset,
            record.key,
            record.value,
            event.command_id,
            event.occurred_at,
        )
    )


def _republished(event: PricesPublished) -> Problem:
    return Problem(
        Cause.VERSION_CONFLICT,
        "publication_id",
        f"{event.publication_id} was published with other prices, and a published price never changes",
    )
