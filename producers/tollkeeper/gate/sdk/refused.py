"""`Refused`: the gate's no to a product service, with every reason as data (RULES R24)."""

from __future__ import annotations

import msgspec

from tollkeeper.errors import TollkeeperError
from tollkeeper.gate import answers as a
from tollkeeper.gate.amounts import NANOS_PER_MICRO
from tollkeeper.gate.sdk.obstacles import NEXT_STEPS, Obstacle
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.money.instants import format_instant

OPERATOR = ("operator",)
OWNERS = ("primary_owner", "owner", "operator")
ADMINS = ("primary_owner", "owner", "admin", "operator")


class RefusalReason(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that stands against a call. Amounts are None where it isn't about money.

    `reason` is one of member_cap, organization_cap, another level's `…_cap`, credits, allowance, seat,
    surface, organization, member, a level that the call names no scope of, price, unavailable.
    `lifts_at` is when it lifts by itself, in microseconds; None: it doesn't, or nobody knows.
    """

    reason: str
    scope: str
    rule: str
    message: str
    who_can_lift: tuple[str, ...]
    next_step: str
    requested_nanos: int | None = None
    cap_nanos: int | None = None
    spent_nanos: int | None = None
    held_nanos: int | None = None
    lifts_at: int | None = None

    def as_document(self) -> dict[str, object]:
        """The keys that the command line promises; each `_nanos` has its exact decimal twin `_usd`."""
        fields = msgspec.structs.asdict(self)
        return {
            **fields,
            **{
                f"{name.removesuffix('_nanos')}_usd": None if nanos is None else nanos_to_usd(nanos)
                for name, nanos in fields.items()
                if name.endswith("_nanos")
            },
            "who_can_lift": list(self.who_can_lift),
            "lifts_at": None if self.lifts_at is None else format_instant(self.lifts_at),
        }


class Refused(TollkeeperError):
    """The call may not be made now; nothing is held. `reasons` are all of them, as data.

    Answer your caller with `http_status`, 402, and `as_document()`. Never with 429 or 503, which
    clients retry by themselves: what stops this call is lifted by people or by the next period.
    """

    http_status = 402

    def __init__(self, reasons: tuple[RefusalReason, ...]) -> None:
        super().__init__("; ".join(reason.message for reason in reasons))
        self.reasons = reasons

    def __reduce__(self) -> tuple[type[Refused], tuple[tuple[RefusalReason, ...]]]:
        return Refused, (self.reasons,)

    @property
    def is_unavailable(self) -> bool:
        """Whether the gate didn't know, rather than said no."""
        return any(reason.reason == "unavailable" for reason in self.reasons)

    def as_document(self) -> dict[str, object]:
        """`{"granted": false, "reasons": [...]}`."""
        return {"granted": False, "reasons": [reason.as_document() for reason in self.reasons]}


def stopped(organization: str, answer: a.Refused, *, requested_micros: int) -> Refused:
    """The functions' refusal, worded."""
    # A hold of the period before counts there for good: against its extension, no cap lifts by itself.
    lifts_at = answer.period_end if answer.period_end > answer.now else None
    return Refused(
        tuple(_worded(organization, one, requested_micros, lifts_at) for one in answer.reasons)
    )


def unpriced(organization: str, detail: str) -> Refused:
    """The model has no price, so nobody can say what the call may cost."""
    return Refused(
        (
            RefusalReason(
                reason="price",
                scope=f"organization/{organization}",
                rule="R24",
                message=detail,
                who_can_lift=OPERATOR,
                next_step="name a model of tollkeeper prices list, or publish its price: "
                "tollkeeper prices publish FILE",
            ),
        )
    )


def unavailable(
    organization: str, cause: str, obstacle: Obstacle = "other", *, requested_micros: int | None
) -> Refused:
    """The gate doesn't know, and the organization's policy is not to go on then."""
    return Refused(
        (
            RefusalReason(
                reason="unavailable",
                scope=f"organization/{organization}",
                rule="R24",
                message=f"the gate doesn't know what {organization} may spend: {cause}",
                who_can_lift=OPERATOR,
                next_step=NEXT_STEPS[obstacle],
                requested_nanos=_nanos(requested_micros),
            ),
        )
    )


def _worded(
    organization: str, one: a.Against, requested_micros: int, lifts_at: int | None
) -> RefusalReason:
    kind, _, who = one.scope.partition("/")
    if one.cap_micros is not None and one.name == "credits":
        left = one.cap_micros - (one.spent_micros or 0) - (one.held_micros or 0)
        return _about_money(
            one,
            requested_micros,
            rule="R21",
            message=f"{organization} has {_usd(left)} USD of credits left, "
            f"and the call may cost {_usd(requested_micros)}",
            who=OWNERS,
            next_step=f"buy credits: tollkeeper credits buy {organization} USD",
            lifts_at=None,
        )
    if one.cap_micros is not None:
        of = "" if kind == "organization" else f" --{kind} {who}"
        return _about_money(
            one,
            requested_micros,
            rule="R19",
            message=f"the cap of {kind} {who} is {_usd(one.cap_micros)} USD, of which "
            f"{_usd(one.spent_micros or 0)} are spent and {_usd(one.held_micros or 0)} held; "
            f"the call may cost {_usd(requested_micros)}",
            who=OWNERS,
            next_step=f"raise it: tollkeeper cap set {organization} USD{of}",
            lifts_at=lifts_at,
        )
    return _about_access(organization, one, kind, who, requested_micros)


def _about_money(
    one: a.Against,
    requested_micros: int,
    *,
    rule: str,
    message: str,
    who: tuple[str, ...],
    next_step: str,
    lifts_at: int | None,
) -> RefusalReason:
    return RefusalReason(
        reason=one.name,
        scope=one.scope,
        rule=rule,
        message=message,
        who_can_lift=who,
        next_step=next_step,
        requested_nanos=_nanos(requested_micros),
        cap_nanos=_nanos(one.cap_micros),
        spent_nanos=_nanos(one.spent_micros),
        held_nanos=_nanos(one.held_micros),
        lifts_at=lifts_at,
    )


def _about_access(
    organization: str, one: a.Against, kind: str, who: str, requested_micros: int
) -> RefusalReason:
    add, seat = "tollkeeper org add-member", "tollkeeper seats assign"
    known = {
        "organization": (
            f"there is no organization {organization}",
            OPERATOR,
            f"open it: tollkeeper org open {organization} --plan PLAN --owner MEMBER",
        ),
        "member": (
            f"{who} isn't a member of {organization}",
            ADMINS,
            f"add them: {add} {organization} {who}",
        ),
        "seat": (
            f"{who} has no seat",
            ADMINS,
            f"assign one: {seat} {organization} {who} --type TYPE",
        ),
        "surface": (
            f"the seat of {who} doesn't cover this surface",
            ADMINS,
            f"assign another: {seat} {organization} {who} --type TYPE",
        ),
    }
    named = (
        f"the call names no {kind}, and {organization} has caps by it",
        (),
        f"name it: scopes=('{kind}/…',)",
    )
    message, who_can_lift, next_step = known.get(one.name, named)
    return RefusalReason(
        reason=one.name,
        scope=one.scope,
        rule="R24",
        message=message,
        who_can_lift=who_can_lift,
        next_step=next_step,
        requested_nanos=_nanos(requested_micros),
    )


def _nanos(micros: int | None) -> int | None:
    return None if micros is None else micros * NANOS_PER_MICRO


def _usd(micros: int) -> str:
    return nanos_to_usd(micros * NANOS_PER_MICRO)
