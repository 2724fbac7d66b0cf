"""A log of one partition that is folded as it grows, and what people were told about it."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import delete, select
from support.events import NOON, opened, prices, usage

from tollkeeper.events.codec import Event, encode
from tollkeeper.events.gate import LimitReached
from tollkeeper.events.organization import (
    CreditsPurchased,
    CreditsVoided,
    MemberAdded,
    MemberRemoved,
    OrganizationOpened,
    RoleChanged,
    SpendCapSet,
    Threshold,
    ThresholdsSet,
)
from tollkeeper.events.prices import PriceRow
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.ledger.apply import FoldCounts, fold_round
from tollkeeper.ledger.batch import prepare, rounds
from tollkeeper.ledger.notification_tables import delivery, notification
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.port import LogRecord
from tollkeeper.money.periods import period_at
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.tables import decided_event

LOG = "log-1"
MODEL = "m"
MICRO = 1_000
"""Nano-USD; an input token costs one, an output token a nano-USD."""
PERIOD = period_at(NOON)
NEXT_PERIOD = PERIOD.end_micros + 1
Told = tuple[str, str, int | None]
"""(kind, scope, per cent) of a notification."""

PRICES = prices(prices=(PriceRow(model=MODEL, input_picos=10**6, output_picos=10**3),))


class Organization:
    """Makes the events of one organization, each with its next version."""

    def __init__(self, name: str = "acme") -> None:
        self.name = name
        self.now = NOON
        self._version = 0
        self._events = itertools.count(1)

    def _fact(self) -> dict[str, Any]:
        self._version += 1
        return {
            "organization": self.name,
            "version": self._version,
            "command_id": f"c-{self._version}",
            "actor": "operator",
            "occurred_at": self.now,
        }

    def opened(self, channel: str = "self_serve") -> OrganizationOpened:
        self._version += 1
        plan = f"enterprise_{channel}"
        return opened(self.name, plan=plan, channel=channel, occurred_at=self.now)

    def added(self, member: str, role: str = "member") -> MemberAdded:
        return MemberAdded(member=member, role=role, **self._fact())  # type: ignore[arg-type]  # a word

    def removed(self, member: str) -> MemberRemoved:
        return MemberRemoved(member=member, **self._fact())

    def role(self, member: str, role: str) -> RoleChanged:
        return RoleChanged(member=member, role=role, **self._fact())  # type: ignore[arg-type]  # a word

    def cap(self, micros: int | str, member: str | None = None, scope: str = "") -> SpendCapSet:
        """`micros` may be `unlimited` or `inherit`."""
        return SpendCapSet(
            scope=scope or ("organization" if member is None else "member"),  # type: ignore[arg-type]  # a word
            setting="capped" if isinstance(micros, int) else micros,  # type: ignore[arg-type]  # a word
            member=member,
            cap_nanos=micros * MICRO if isinstance(micros, int) else None,
            **self._fact(),
        )

    def default_cap(self, micros: int | str) -> SpendCapSet:
        return self.cap(micros, scope="member_default")

    def thresholds(self, *percents: int, low: int = 10) -> ThresholdsSet:
        rows = tuple(Threshold(cap_percent=one) for one in percents)
        return ThresholdsSet(cap_thresholds=rows, credits_low_percent=low, **self._fact())

    def bought(self, micros: int) -> CreditsPurchased:
        fact = self._fact()
        purchase_id = f"purchase-{fact['version']}"
        return CreditsPurchased(purchase_id=purchase_id, credit_nanos=micros * MICRO, **fact)

    def voided(self, purchase: CreditsPurchased) -> CreditsVoided:
        return CreditsVoided(
            purchase_id=purchase.purchase_id,
            credit_nanos=purchase.credit_nanos,
            reason="wrong",
            **self._fact(),
        )

    def usage(self, micros: int = 0, member: str = "ann", nanos: int = 0) -> UsageRecorded:
        """A call that costs exactly this."""
        return usage(
            event_id=f"{self.name}-{next(self._events)}",
            organization=self.name,
            member=member,
            model=MODEL,
            input_tokens=micros,
            output_tokens=nanos,
            occurred_at=self.now,
        )

    def reached(
        self, limit: str, cap: int, member: str = "ann", period_start: int | None = None
    ) -> LimitReached:
        scope = f"member/{member}" if limit == "member_cap" else f"organization/{self.name}"
        return LimitReached(
            organization=self.name,
            limit=limit,
            scope=scope,
            period_start=period_at(self.now).start_micros if period_start is None else period_start,
            cap_micros=cap,
            spent_micros=0,
            held_micros=0,
            requested_micros=1,
            member=member,
            emitter="em-1",
            occurred_at=self.now,
        )


class Telling:
    """Folds what is appended, and reads what was told."""

    def __init__(self, ledger: SqlLedger) -> None:
        self.ledger = ledger
        self.generation = ledger.begin_generation(NOON, partitions=1, log_identity=LOG)
        self.records: list[LogRecord] = []
        self._seen: set[str] = set()
        self.take(PRICES)

    def take(self, *events: Event, at: int = NOON) -> list[Told]:
        """Append and fold them as one batch; answers what is told of it."""
        first = len(self.records)
        for event in events:
            self.records.append(LogRecord(0, len(self.records), b"k", encode(event), at))
        fold(self.ledger, self.generation, self.records[first:], is_live=True)
        return self.news()

    def news(self) -> list[Told]:
        """What was told since the last time, in the order of the log."""
        rows = [row for row in told(self.ledger) if row["notification_id"] not in self._seen]
        self._seen.update(str(row["notification_id"]) for row in rows)
        return [(row["kind"], row["scope"], row["percent"]) for row in rows]


def fold(
    ledger: SqlLedger, generation: int, batch: list[LogRecord], *, is_live: bool
) -> FoldCounts:
    """Fold a batch as the pipeline does."""
    counts = FoldCounts()
    with ledger.transaction() as transaction:
        reached = transaction.positions(generation)
    known = {partition: position.next_offset for partition, position in reached.items()}
    for taken in rounds(prepare(batch, known)):
        with ledger.transaction() as transaction:
            folded = fold_round(
                transaction,
                generation,
                taken,
                partition_count=1,
                log_identity=LOG,
                is_live=is_live,
            )
            assert folded is not None
            counts += folded.counts
    return counts


def told(ledger: SqlLedger) -> list[dict[str, Any]]:
    """Every notification, in the order of the log."""
    columns = notification.c
    ordered = select(notification).order_by(
        columns.log_offset, columns.kind, columns.scope, columns.percent
    )
    with reading(ledger.engine) as connection:
        return [dict(row._mapping) for row in connection.execute(ordered)]


def forget(ledger: SqlLedger, *generations: int) -> None:
    """Forget this log whole; the next one is another."""
    for generation in generations:
        ledger.drop_generation(generation)
    with ledger.engine.begin() as connection:
        for table in (decided_event, notification, delivery):
            connection.execute(delete(table))
