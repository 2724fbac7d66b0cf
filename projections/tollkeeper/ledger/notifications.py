"""What people are told, and of what it is told only once (RULES R26). Values only; pure."""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

import msgspec

from tollkeeper.ledger.rows import StopRow

Kind = Literal[
    "cap.threshold_reached", "credits.low", "credits.out", "usage.stopped", "usage.resumed"
]
Cause = Literal["cap_raised", "credits_bought", "new_period"]
"""Why usage resumes."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to an organization's spend; its id is made of what it is told once for.

    `scope` is `organization/ID` or `member/ID`, `limit_name` as the gate names its limits. `version` is
    the cap's (that of its SpendCapSet), or counts what happened to the credits. `cap_nanos` and
    `spent_nanos` are the cap and what its scope has spent, or all credits bought and used; None where
    that isn't in question. `period_start` is None for credits. `recipients` are members' ids: owners,
    admins and the member concerned, as they were then. Place and `appended_at`, the log's clock, are
    those of the record that caused it.
    """

    notification_id: str
    organization: str
    kind: Kind
    limit_name: str
    scope: str
    member: str | None
    period_start: int | None
    percent: int | None
    version: int
    cap_nanos: int | None
    spent_nanos: int | None
    cause: Cause | None
    recipients: tuple[str, ...]
    occurred_at: int
    appended_at: int
    log_partition: int
    log_offset: int


class Subject(msgspec.Struct, frozen=True):
    """What a notification is about; two of the same are one."""

    organization: str
    kind: Kind
    limit_name: str
    scope: str
    period_start: int | None
    percent: int | None
    version: int

    @property
    def notification_id(self) -> str:
        """The same wherever and whenever it is folded. Standard Webhooks allows no dot in it."""
        content = msgspec.json.encode(msgspec.structs.astuple(self))
        return f"ntf_{blake2b(content, digest_size=16).hexdigest()}"


def subject_of_stop(kind: Kind, stop: StopRow) -> Subject:
    """That usage stopped at a limit, or resumed there."""
    is_credits = stop.limit_name == CREDITS
    period_start = None if is_credits else stop.period_start
    return Subject(
        stop.organization, kind, stop.limit_name, stop.scope, period_start, None, stop.version
    )


ORGANIZATION_CAP, MEMBER_CAP, CREDITS = "organization_cap", "member_cap", "credits"
"""The limits of which the ledger knows what is in force, by the gate's names."""


def organization_scope(organization: str) -> str:
    """As the gate names it."""
    return f"organization/{organization}"


def member_scope(member: str) -> str:
    """As the gate names it."""
    return f"member/{member}"


def member_of_stop(stop: StopRow) -> str | None:
    """Whose usage stopped; None: the organization's."""
    return stop.scope.partition("/")[2] if stop.limit_name == MEMBER_CAP else None
