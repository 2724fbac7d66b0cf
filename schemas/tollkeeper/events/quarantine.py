"""What the operator decided about one dead letter, written to the letter's own partition."""

from __future__ import annotations

import msgspec


class QuarantineReleased(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letter at (letter_partition, letter_offset) is to be folded again, as of today."""

    letter_partition: int
    letter_offset: int
    command_id: str
    actor: str
    occurred_at: int


class QuarantineDiscarded(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letter at (letter_partition, letter_offset) will never be charged."""

    letter_partition: int
    letter_offset: int
    reason: str
    command_id: str
    actor: str
    occurred_at: int


QuarantineEvent = QuarantineReleased | QuarantineDiscarded
