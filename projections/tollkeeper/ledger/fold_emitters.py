"""Folding when emitters start and when they are retired, as each partition sees it. Pure."""

from __future__ import annotations

from typing import assert_never

import msgspec

from tollkeeper.events.emitters import EmitterEvent, EmitterRetired, EmitterStarted
from tollkeeper.ledger.rows import EmitterRow
from tollkeeper.ledger.view import Changes, View
from tollkeeper.log.port import LogRecord


def fold_emitter(view: View, changes: Changes, record: LogRecord, event: EmitterEvent) -> None:
    """Take the first start and the first retirement; whoever logs one may log it again.

    Retired is final: a start that comes after it changes nothing.
    """
    key = (record.partition, event.emitter)
    known = view.emitters.get(key)
    match event:
        case EmitterStarted():
            if known is not None:
                return
            row = EmitterRow(record.partition, event.emitter, record.offset, event.occurred_at)
        case EmitterRetired():
            if known is None:
                known = EmitterRow(record.partition, event.emitter)
            elif known.retired_offset is not None:
                return
            row = msgspec.structs.replace(
                known,
                retired_offset=record.offset,
                retired_at=event.occurred_at,
                retired_by=event.actor,
                reason=event.reason,
            )
        case _:
            assert_never(event)
    view.emitters[key] = changes.emitters[key] = row
