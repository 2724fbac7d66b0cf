"""The draft of a billing period's usage invoice or statement (RULES R27, R28, R30, R31).

A draft follows the ledger. Each line is the sum of its charges; cents are rounded once, on the total.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, func, select

from tollkeeper.events.usage import TOKEN_TYPES
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import (
    COUNT_COLUMNS,
    NANOS_COLUMNS,
    spend,
)
from tollkeeper.log.port import Log
from tollkeeper.money.amounts import NANOS_PER_CENT, nanos_to_cents
from tollkeeper.money.periods import Period
from tollkeeper.reports.documents import instant, money
from tollkeeper.reports.freshness import Freshness, freshness
from tollkeeper.reports.letters import open_letters_of
from tollkeeper.reports.organizations import find_organization

KIND = {"sales_assisted": "usage_invoice", "self_serve": "usage_statement"}


class DraftLine(msgspec.Struct, frozen=True):
    """One member's use of one token type of one model: quantity and nano-USD."""

    member: str
    model: str
    token_type: str
    quantity: int
    amount_nanos: int

    def as_document(self) -> dict[str, object]:
        """The keys that the command line promises."""
        return {
            "member": self.member,
            "model": self.model,
            "token_type": self.token_type,
            "quantity": self.quantity,
            **money("amount", self.amount_nanos),
        }


class InvoiceDraft(msgspec.Struct, frozen=True):
    """A draft with what stands against finalizing it."""

    organization: str
    kind: str
    period: Period
    lines: tuple[DraftLine, ...]
    incomplete: tuple[str, ...]
    freshness: Freshness

    @property
    def total_nanos(self) -> int:
        """The exact sum of all lines."""
        return sum(line.amount_nanos for line in self.lines)

    @property
    def total_cents(self) -> int:
        """The total in whole cents, rounded half to even."""
        return nanos_to_cents(self.total_nanos)

    def as_document(self) -> dict[str, object]:
        """The keys that the command line promises; a draft has neither id nor number yet."""
        return {
            "id": None,
            "number": None,
            "kind": self.kind,
            "status": "draft",
            "organization": self.organization,
            "period": self.period.label,
            "period_start": instant(self.period.start_micros),
            "period_end": instant(self.period.end_micros),
            "lines": [line.as_document() for line in self.lines],
            **money("total", self.total_nanos),
            "total_cents": self.total_cents,
            **money("rounding", self.total_cents * NANOS_PER_CENT - self.total_nanos),
            "incomplete": list(self.incomplete),
            "freshness": self.freshness.as_document(),
        }


def invoice_draft(
    connection: Connection, log: Log, name: str, *, period: Period, now: int
) -> InvoiceDraft:
    """The draft of the period: a line per member, model and token type that was used."""
    found = find_organization(connection, name)
    fresh = freshness(connection, log, now=now, partitions=[found.log_partition])
    return InvoiceDraft(
        name,
        KIND[found.channel],
        period,
        tuple(_lines(connection, name, period)),
        tuple(_incomplete(connection, name, period, fresh, now)),
        fresh,
    )


def _lines(connection: Connection, name: str, period: Period) -> list[DraftLine]:
    sums = [func.sum(spend.c[column]) for column in (*COUNT_COLUMNS, *NANOS_COLUMNS)]
    rows = connection.execute(
        select(spend.c.member, spend.c.model, *sums)
        .where(
            spend.c.generation == live_generation(connection),
            spend.c.organization == name,
            spend.c.period_start == period.start_micros,
        )
        .group_by(spend.c.member, spend.c.model)
        .order_by(spend.c.member, spend.c.model)
    )
    lines = []
    for member, model, *values in rows:
        quantities = values[: len(TOKEN_TYPES)]
        amounts = values[len(TOKEN_TYPES) :]
        lines += [
            DraftLine(member, model, token_type, int(quantity), int(amount))
            for token_type, quantity, amount in zip(TOKEN_TYPES, quantities, amounts, strict=True)
            if quantity
        ]
    return lines


def _incomplete(
    connection: Connection, name: str, period: Period, fresh: Freshness, now: int
) -> list[str]:
    """What R30 wants to know before an invoice may be final."""
    reasons = []
    if now < period.end_micros:
        reasons.append(f"the period is open until {instant(period.end_micros)}")
    if fresh.is_stale:
        waiting = "an unknown number of" if fresh.lag_events is None else fresh.lag_events
        reasons.append(f"{waiting} records of the log aren't folded yet")
    count, at_risk, unpriced = open_letters_of(connection, name)
    if count:
        usd = money("x", at_risk)["x_usd"]
        reasons.append(
            f"{count} records are quarantined: {usd} USD at risk, {unpriced} of unknown price"
        )
    return reasons
