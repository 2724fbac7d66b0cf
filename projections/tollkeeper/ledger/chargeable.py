"""What speaks against charging a usage event, and how much money is at risk meanwhile. Pure.

The fold asks with a few comparisons whether anything does; only then it asks here what.
"""

from __future__ import annotations

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.quarantined import Cause
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.ledger.letters import Problem
from tollkeeper.ledger.view import OrganizationTotals
from tollkeeper.money.amounts import MAX_NANOS, nanos_to_usd
from tollkeeper.rating.card import Rated, Unpriced

FUTURE_TOLERANCE_MICROS = 5 * 60 * 1_000_000
"""How far an emitter's clock may run ahead of the log's before its usage is quarantined."""

MAX_CHARGE_NANOS = 10**14
"""A charge above 100,000 USD for one call is quarantined: it is a mistake, and sums must hold it."""

MAX_CHARGED_NANOS = MAX_NANOS - 10_000 * MAX_CHARGE_NANOS
"""Beyond this an organization's further usage is quarantined: no batch can take its sums over 64 bits."""


def problem_of(
    usage: UsageRecorded,
    organization: OrganizationTotals | None,
    rated: Rated | Unpriced,
    *,
    partition: int,
    own_partition: int,
    seen_at: int,
) -> Problem:
    """The first thing that speaks against it; BrokenInvariant when nothing does."""
    name = usage.organization
    if own_partition != partition:
        detail = f"{name} belongs to partition {own_partition}"
        return Problem(Cause.WRONG_PARTITION, "organization", detail)
    if organization is None:
        detail = f"{name} isn't open; open it, then release this"
        return Problem(Cause.UNKNOWN_ORGANIZATION, "organization", detail)
    if usage.occurred_at > seen_at + FUTURE_TOLERANCE_MICROS:
        ahead_s = (usage.occurred_at - seen_at) // 1_000_000
        detail = (
            f"is {ahead_s} s ahead of the log; mend the clock, release it when that time has come"
        )
        return Problem(Cause.FUTURE, "occurred_at", detail)
    if isinstance(rated, Unpriced):
        return Problem(Cause.UNPRICED, "model", rated.detail)
    if rated.charge_nanos > MAX_CHARGE_NANOS:
        detail = f"one call would cost {nanos_to_usd(rated.charge_nanos)} USD: correct its counts"
        return Problem(Cause.TOO_LARGE, "charge", detail)
    if organization.charged_nanos > MAX_CHARGED_NANOS:
        detail = f"{name} has charges of 8.2 billion USD: sums hold no more"
        return Problem(Cause.TOO_LARGE, "charge", detail)
    raise BrokenInvariant(f"usage {usage.event_id} was quarantined without a cause")


def at_risk_nanos(rated: Rated | Unpriced) -> int | None:
    """What the usage costs, or would at list price; None where no price is known."""
    return rated.charge_nanos if isinstance(rated, Rated) else rated.amount_at_risk_nanos
