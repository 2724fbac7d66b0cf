"""What is to be done about a primary, in every situation."""

from __future__ import annotations

from typing import Any

import pytest

from tollkeeper.enforcement.stepping import Knowledge, Seen, Verdict, next_step
from tollkeeper.gate.answers import EpochKey
from tollkeeper.gate.commands import Incarnation, Phase
from tollkeeper.ledger.effects import EpochRow

HERE, OTHER, THIRD = (Incarnation(f"run{number}", "history") for number in range(3))
OURS, NEXT, AFTER = "tollkeeper_1_aaa", "tollkeeper_1_bbb", "tollkeeper_2_ccc"


def key(
    epoch: int, phase: str = "open", server: Incarnation = HERE, library: str = OURS
) -> EpochKey:
    return EpochKey(epoch, phase, library, server.run_id, server.replication_id, 0, 1)


def row(epoch: int, phase: Phase = "open", server: Incarnation = HERE) -> EpochRow:
    return EpochRow("0", epoch, phase, server.run_id, server.replication_id, 0)


def knowing(**changes: Any) -> Knowledge:
    return Knowledge(**{"begun": 0, "is_ours_to_mend": False, "may_take_over": False, **changes})


MINE, LOOKED, BEGUN = knowing(is_ours_to_mend=True), knowing(may_take_over=True), knowing(begun=3)


@pytest.mark.parametrize(
    ("seen_key", "seen_row", "known", "verdict"),
    [
        (None, None, knowing(), Verdict("raise", "no_row")),
        (key(3), None, knowing(), Verdict("raise", "no_row")),
        # All is well, or about to be.
        (key(3), row(3), knowing(), Verdict("keep")),
        (key(3, "recovering"), row(3, "recovering"), knowing(), Verdict("recover")),
        (key(3, "recovering"), row(3), knowing(), Verdict("recover")),
        (key(3), row(3, "recovering"), knowing(), Verdict("raise", "sql_not_open")),
        (key(4), row(3), knowing(), Verdict("raise", "sql_behind")),
        # The server isn't the one that the key is about.
        (key(3, server=OTHER), row(3, server=OTHER), knowing(), Verdict("raise", "incarnation")),
        (key(3), row(3, server=OTHER), knowing(), Verdict("raise", "incarnation")),
        (key(3, server=OTHER), row(4, "recovering"), knowing(), Verdict("begin")),
        # It was raised by somebody else, or by a swap.
        (key(3), row(4, "recovering"), knowing(), Verdict("begin")),
        (key(3), row(4), knowing(), Verdict("raise", "key_behind")),
        (key(3), row(4, "recovering", OTHER), knowing(), Verdict("elsewhere")),
        (key(3), row(4, "open", OTHER), knowing(), Verdict("elsewhere")),
        (key(3), row(4, "open", OTHER), MINE, Verdict("raise", "elsewhere")),
        (key(3, server=THIRD), row(4, "recovering", OTHER), knowing(), Verdict("elsewhere")),
        # There is no key: a new server, or one that was wiped.
        (None, row(3), knowing(), Verdict("raise", "no_key")),
        (None, row(3, "open", OTHER), knowing(), Verdict("raise", "no_key")),
        (None, row(3, "recovering"), knowing(), Verdict("begin")),
        (None, row(3, "recovering"), BEGUN, Verdict("raise", "no_key")),
        (None, row(3, "recovering", OTHER), knowing(), Verdict("elsewhere")),
        (None, row(3, "recovering", OTHER), MINE, Verdict("raise", "no_key")),
        # Another version of the functions decides.
        (key(3, library=NEXT), row(3), knowing(), Verdict("superseded")),
        (key(3, library=NEXT), row(3), LOOKED, Verdict("take_over")),
        (key(3, "recovering", library=NEXT), row(3, "recovering"), LOOKED, Verdict("take_over")),
        (key(3, library=AFTER), row(3), knowing(), Verdict("superseded")),
        (key(3, library=AFTER), row(3), LOOKED, Verdict("raise", "layout")),
    ],
)
def test_the_step_that_is_due(
    seen_key: EpochKey | None, seen_row: EpochRow | None, known: Knowledge, verdict: Verdict
) -> None:
    assert next_step(Seen(seen_key, HERE, seen_row, OURS), known) == verdict
