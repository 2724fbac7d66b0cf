"""Facts about the gate: what its askers report, and the platform's default policy.

Reports come from emitters through the same spool as usage, so one may arrive twice. Their amounts are
micro-USD, as the gate counts them; times are microseconds since the epoch.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tollkeeper.events.organization import GatePolicy

AdmittingPolicy = Literal["open", "observe"]


class LimitReached(msgspec.Struct, frozen=True, kw_only=True):
    """Usage stopped: the first refusal by this limit at this cap that an emitter heard of (R26).

    `limit` is the reason's name as the gate gives it (`member_cap`, `organization_cap`, `credits`),
    `scope` is `dimension/value` (`organization/acme`, `member/ann`), and `cap_micros` is the cap, or
    for `credits` all that was bought: it tells which version of the cap the refusal was about.
    `member` is who was refused. Reported by each emitter that meets it; repeating it changes nothing.
    """

    organization: str
    limit: str
    scope: str
    period_start: int
    cap_micros: int
    spent_micros: int
    held_micros: int
    requested_micros: int
    member: str
    emitter: str
    occurred_at: int


class CallAdmitted(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the gate didn't grant was let through by policy, outside the gate's promise.

    `policy` is `open` (the gate couldn't be asked, up to a ceiling) or `observe`; `cause` names the
    reasons that a refusal would have had, joined with commas: `unavailable`, `member_cap,credits`.
    `amount_micros` is the call's worst case, 0 where its model has no price. `event_id` is the
    report's own id: one that arrives twice counts once.
    """

    event_id: str
    organization: str
    member: str
    policy: AdmittingPolicy
    cause: str
    amount_micros: int
    emitter: str
    occurred_at: int


class DefaultGatePolicySet(msgspec.Struct, frozen=True, kw_only=True):
    """The policy of every organization without one of its own; written to every partition.

    `version` counts them from 1. Fields as in GatePolicySet; after `until` it is `closed`.
    """

    version: int
    policy: GatePolicy
    ceiling_nanos: int | None = None
    until: int | None = None
    command_id: str
    actor: str
    occurred_at: int


GateEvent = LimitReached | CallAdmitted
