"""Facts about emitters, written to *every* partition, so that a partition's own order decides.

Nobody commands them: whoever knows one may log it, also again. The first one of each kind on a partition
counts there, and retired is final.
"""

from __future__ import annotations

from typing import Literal

import msgspec

RetirementReason = Literal["closed", "taken_over", "unseen", "recovery", "operator"]
"""closed: its process ended with everything sent; taken_over: another process sent what it had left;
unseen: it was away for too long; recovery: it did not re-assert its holds; operator: by hand."""


class EmitterStarted(msgspec.Struct, frozen=True, kw_only=True):
    """This emitter may have holds from here on."""

    emitter: str
    occurred_at: int


class EmitterRetired(msgspec.Struct, frozen=True, kw_only=True):
    """This emitter has no holds from here on; usage that it still reports is charged all the same (R18)."""

    emitter: str
    actor: str
    reason: RetirementReason
    occurred_at: int


EmitterEvent = EmitterStarted | EmitterRetired
