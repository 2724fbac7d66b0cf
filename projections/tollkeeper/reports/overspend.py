"""What was spent beyond a cap or the prepaid credits: it is charged all the same (RULES R18), and shown.

Usage without a hold, above its hold or late, a cap that was lowered, a policy that let calls through.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, Select, and_, case, literal, select

from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import cap, organization, spent
from tollkeeper.money.periods import Period
from tollkeeper.reports.documents import money
from tollkeeper.reports.status import WHOLE

MOST = 1_000
"""Of each kind; there may be more."""


class Overspent(msgspec.Struct, frozen=True):
    """One limit that is below what was spent. Nano-USD; `member` is empty for the organization's own."""

    organization: str
    member: str
    limit: str
    cap_nanos: int
    spent_nanos: int

    @property
    def excess_nanos(self) -> int:
        """By how much."""
        return self.spent_nanos - self.cap_nanos

    @property
    def whose(self) -> str:
        """For people."""
        member = f", member {self.member}" if self.member else ""
        return f"{self.organization}{member}: {self.limit}"

    def as_document(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "organization": self.organization,
            "member": self.member or None,
            "limit": self.limit,
            **money("cap", self.cap_nanos),
            **money("spent", self.spent_nanos),
            **money("excess", self.excess_nanos),
        }


def overspent(connection: Connection, *, period: Period) -> list[Overspent]:
    """Every limit that is below what was spent in the period, the largest excess first."""
    number = live_generation(connection)
    questions = (
        _credits(number),
        _own_caps(number, period),
        _default_caps(number, period),
    )
    found = [
        Overspent(*row)
        for question in questions
        for row in connection.execute(question.limit(MOST))
    ]
    return sorted(found, key=lambda one: (-one.excess_nanos, one.whose))


def _credits(number: int) -> Select[str, str, str, int, int]:
    return select(
        organization.c.organization,
        literal(WHOLE),
        literal("credits"),
        organization.c.purchased_nanos,
        organization.c.used_nanos,
    ).where(
        organization.c.generation == number,
        organization.c.channel == "self_serve",
        organization.c.used_nanos > organization.c.purchased_nanos,
    )


def _own_caps(number: int, period: Period) -> Select[str, str, str, int, int]:
    """The caps of organizations and members: each has one row of what was spent."""
    return _capped(number, period).where(
        cap.c.scope.in_(("organization", "member")), cap.c.member == spent.c.member
    )


def _default_caps(number: int, period: Period) -> Select[str, str, str, int, int]:
    """Members without a cap of their own."""
    own = cap.alias()
    return _capped(number, period).where(
        cap.c.scope == "member_default",
        spent.c.member != WHOLE,
        ~select(own.c.member)
        .where(
            own.c.generation == number,
            own.c.organization == spent.c.organization,
            own.c.scope == "member",
            own.c.member == spent.c.member,
            own.c.setting != "inherit",
        )
        .exists(),
    )


def _capped(number: int, period: Period) -> Select[str, str, str, int, int]:
    limit = case((spent.c.member == WHOLE, "organization_cap"), else_="member_cap")
    return (
        select(spent.c.organization, spent.c.member, limit, cap.c.cap_nanos, spent.c.charge_nanos)
        .select_from(
            cap.join(
                spent,
                and_(
                    spent.c.generation == cap.c.generation,
                    spent.c.organization == cap.c.organization,
                    spent.c.period_start == period.start_micros,
                    spent.c.charge_nanos > cap.c.cap_nanos,
                ),
            )
        )
        .where(cap.c.generation == number, cap.c.setting == "capped")
    )
