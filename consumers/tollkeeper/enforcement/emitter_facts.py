"""Logging that an emitter is retired: one fact, written to every partition, as often as somebody likes."""

from __future__ import annotations

from tollkeeper.events.codec import encode
from tollkeeper.events.emitters import EmitterRetired, RetirementReason
from tollkeeper.events.organization import OPERATOR
from tollkeeper.log.port import Log, Outgoing


def log_retirement(
    log: Log,
    emitter: str,
    reason: RetirementReason,
    *,
    now: int,
    timeout_s: float,
    actor: str = OPERATOR,
) -> None:
    """Write EmitterRetired to every partition.

    Raises LogUnavailable: some partitions may have it; log it again.
    """
    value = encode(EmitterRetired(emitter=emitter, actor=actor, reason=reason, occurred_at=now))
    records = [Outgoing(partition, None, value) for partition in range(log.partition_count)]
    log.append(records, timeout_s=timeout_s)
