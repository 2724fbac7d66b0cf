"""Folding what emitters report about the gate: limits that stopped usage, calls let through. Pure."""

from __future__ import annotations

from typing import assert_never

from tollkeeper.events.gate import CallAdmitted, GateEvent, LimitReached
from tollkeeper.ledger.letters import Problem
from tollkeeper.ledger.view import Changes
from tollkeeper.log.port import LogRecord


def fold_report(changes: Changes, record: LogRecord, event: GateEvent) -> Problem | None:
    """Take one report; its organization needn't be known, since a call may be let through for any."""
    match event:
        case LimitReached() | CallAdmitted():
            return None
        case _:
            assert_never(event)
