"""What comes of a command: the events that follow from it, or a refusal with every reason. Pure.

`decide(command, state, terms)` looks at nothing but its arguments: no clock, no storage, no randomness.
"""

from __future__ import annotations

from typing import TypedDict, assert_never

import msgspec

from tollkeeper.events.organization import (
    OPERATOR,
    PLANS,
    Channel,
    CreditsPurchased,
    CreditsVoided,
    GatePolicySet,
    MemberAdded,
    MemberRemoved,
    OrganizationEvent,
    OrganizationOpened,
    OwnershipTransferred,
    Role,
    RoleChanged,
    SpendCapSet,
    Threshold,
    ThresholdsSet,
)
from tollkeeper.events.refusal import Reason, Refusal
from tollkeeper.money.amounts import MAX_CAP_NANOS, MAX_NANOS, nanos_to_usd
from tollkeeper.money.instants import format_instant
from tollkeeper.organizations import refusals
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    Command,
    OpenOrganization,
    RemoveMember,
    SetCap,
    SetGatePolicy,
    SetRole,
    SetThresholds,
    TransferOwnership,
    VoidCredits,
)
from tollkeeper.organizations.state import OrganizationState

CHANNEL_OF_PLAN: dict[str, Channel] = {
    "enterprise_self_serve": "self_serve",
    "enterprise_sales_assisted": "sales_assisted",
}
"""The plans that imply their channel; the others are sold on both (RULES, Plans)."""

Decision = OrganizationEvent | tuple[Reason, ...]


class _Fact(TypedDict):
    organization: str
    version: int
    command_id: str
    actor: str
    occurred_at: int


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Under what a command is decided: who asks, its id, the instant `now`, and when it shall hold.

    `occurred_at` differs from `now` only when the operator brings in history.
    """

    actor: str
    command_id: str
    now: int
    occurred_at: int | None = None
    reference: str | None = None


def decide(
    command: Command, state: OrganizationState | None, terms: Terms
) -> tuple[OrganizationEvent, ...] | Refusal:
    """The events that the command leads to, one for every command today, or why there are none."""
    reasons = _reasons_in_time(state, terms)
    decision: Decision
    if isinstance(command, OpenOrganization):
        decision = _open(command, state, terms)
    elif state is None:
        decision = (refusals.not_open(command.organization),)
    else:
        decision = _decide_open(command, state, terms)
    if isinstance(decision, tuple):
        return Refusal((*reasons, *decision))
    return Refusal(reasons) if reasons else (decision,)


def _reasons_in_time(state: OrganizationState | None, terms: Terms) -> tuple[Reason, ...]:
    """History may be brought in by the operator only, in order, and never from the future."""
    if terms.occurred_at is None:
        return ()
    if terms.actor != OPERATOR:
        return (
            refusals.not_allowed(terms.actor, None, "say when it happened", refusals.OPERATOR_ONLY),
        )
    if terms.occurred_at > terms.now:
        return (refusals.other("time", "R16", "--at lies in the future", "leave --at out"),)
    if state is not None and terms.occurred_at < state.last_occurred_at:
        last = format_instant(state.last_occurred_at)
        message = f"--at lies before the organization's last event of {last}"
        return (refusals.other("time", "R2", message, f"give {last} or later"),)
    return ()


def _open(command: OpenOrganization, state: OrganizationState | None, terms: Terms) -> Decision:
    if state is not None:
        return (refusals.already_open(command.organization),)
    if terms.actor != OPERATOR:
        return (
            refusals.not_allowed(terms.actor, None, "open an organization", refusals.OPERATOR_ONLY),
        )
    if command.plan not in PLANS:
        plans = ", ".join(sorted(PLANS))
        return (
            refusals.other("plan", "R2", f"there is no plan {command.plan}", f"use one of {plans}"),
        )
    implied = CHANNEL_OF_PLAN.get(command.plan)
    if command.owner == OPERATOR:
        return (_reserved_name(),)
    channel = command.channel or implied
    if channel is None:
        message = f"{command.plan} is sold on both channels"
        return (
            refusals.other("channel", "R2", message, "say --channel self_serve|sales_assisted"),
        )
    if implied is not None and channel != implied:
        message = f"{command.plan} is always {implied}, not {channel}"
        return (refusals.other("channel", "R2", message, "leave --channel out"),)
    return OrganizationOpened(
        organization=command.organization,
        version=1,
        command_id=terms.command_id,
        actor=terms.actor,
        occurred_at=terms.now if terms.occurred_at is None else terms.occurred_at,
        plan=command.plan,
        channel=channel,
        primary_owner=command.owner,
    )


def _decide_open(
    command: AddMember
    | RemoveMember
    | SetRole
    | TransferOwnership
    | BuyCredits
    | VoidCredits
    | SetCap
    | SetThresholds
    | SetGatePolicy,
    state: OrganizationState,
    terms: Terms,
) -> Decision:
    match command:
        case AddMember():
            return _add(command, state, terms)
        case RemoveMember():
            return _remove(command, state, terms)
        case SetRole():
            return _set_role(command, state, terms)
        case TransferOwnership():
            return _transfer(command, state, terms)
        case BuyCredits():
            return _buy(command, state, terms)
        case VoidCredits():
            return _void(command, state, terms)
        case SetCap():
            return _set_cap(command, state, terms)
        case SetThresholds():
            return _set_thresholds(command, state, terms)
        case SetGatePolicy():
            return _set_gate_policy(command, state, terms)
        case _:
            assert_never(command)


def _add(command: AddMember, state: OrganizationState, terms: Terms) -> Decision:
    if command.role == "member":
        denied = _unless(terms, state, refusals.ADMINS, "add members")
    else:
        denied = _unless(terms, state, refusals.OWNERS, f"add a member as {command.role}")
    if denied:
        return denied
    if command.member == OPERATOR:
        return (_reserved_name(),)
    if command.role == "primary_owner":
        return (_one_primary_owner(command.organization),)
    if command.member in state.members:
        message = f"{command.member} is a member already"
        return (refusals.other("member", "R14", message, "use org set-role to change the role"),)
    return MemberAdded(**_fact(state, terms), member=command.member, role=command.role)


def _remove(command: RemoveMember, state: OrganizationState, terms: Terms) -> Decision:
    role = state.members.get(command.member)
    who = refusals.ADMINS if role in (None, "member") else refusals.OWNERS
    denied = _unless(terms, state, who, f"remove a member who is {role or 'a member'}")
    if denied:
        return denied
    if role is None:
        return (refusals.no_member(state.organization, command.member),)
    if role == "primary_owner":
        message = f"{command.member} is the primary owner"
        return (refusals.primary_owner_stays(state.organization, message),)
    return MemberRemoved(**_fact(state, terms), member=command.member)


def _set_role(command: SetRole, state: OrganizationState, terms: Terms) -> Decision:
    denied = _unless(terms, state, refusals.OWNERS, "grant roles")
    if denied:
        return denied
    role = state.members.get(command.member)
    if role is None:
        return (refusals.no_member(state.organization, command.member),)
    if "primary_owner" in (role, command.role):
        return (_one_primary_owner(state.organization),)
    if role == command.role:
        message = f"{command.member} is {role} already"
        return (refusals.other("role", "R14", message, "nothing needs to be done"),)
    return RoleChanged(**_fact(state, terms), member=command.member, role=command.role)


def _transfer(command: TransferOwnership, state: OrganizationState, terms: Terms) -> Decision:
    denied = _unless(terms, state, refusals.PRIMARY_OWNER, "hand over primary ownership")
    if denied:
        return denied
    if command.member not in state.members:
        return (refusals.no_member(state.organization, command.member),)
    if command.member == state.primary_owner:
        message = f"{command.member} is the primary owner already"
        return (refusals.other("member", "R14", message, "nothing needs to be done"),)
    return OwnershipTransferred(
        **_fact(state, terms), from_member=state.primary_owner, to_member=command.member
    )


def _buy(command: BuyCredits, state: OrganizationState, terms: Terms) -> Decision:
    denied = _unless(terms, state, refusals.OWNERS, "buy credits")
    if denied:
        return denied
    if state.channel != "self_serve":
        message = f"usage of {state.organization} is billed in arrears: it has no prepaid credits"
        return (refusals.other("channel", "R22", message, "see the invoice draft instead"),)
    if not 0 < command.credit_nanos <= MAX_CAP_NANOS:
        message = f"credits must be above zero and at most {nanos_to_usd(MAX_CAP_NANOS)} USD"
        return (refusals.other("credits", "R21", message, "give another amount"),)
    gross = sum(one.credit_nanos for one in state.purchases.values())
    if gross + command.credit_nanos > MAX_NANOS:
        message = f"all purchases together may reach {nanos_to_usd(MAX_NANOS)} USD"
        return (refusals.other("credits", "R21", message, "buy less"),)
    return CreditsPurchased(
        **_fact(state, terms),
        purchase_id=f"purchase-{state.version + 1}",
        credit_nanos=command.credit_nanos,
        reference=terms.reference,
    )


def _void(command: VoidCredits, state: OrganizationState, terms: Terms) -> Decision:
    """Decision: a purchase is voided whole, even when that leaves the balance below zero (R21)."""
    denied = _unless(terms, state, refusals.OPERATOR_ONLY, "void credits")
    if denied:
        return denied
    purchase = state.purchases.get(command.purchase_id)
    if purchase is None or purchase.is_voided:
        was = "was voided before" if purchase else "doesn't exist"
        message = f"purchase {command.purchase_id} {was}"
        step = f"see the purchases: tollkeeper credits list {state.organization}"
        return (refusals.other("purchase", "R21", message, step),)
    return CreditsVoided(
        **_fact(state, terms),
        purchase_id=command.purchase_id,
        credit_nanos=purchase.credit_nanos,
        reason=command.reason,
    )


def _set_cap(command: SetCap, state: OrganizationState, terms: Terms) -> Decision:
    denied = _unless(terms, state, refusals.OWNERS, "set caps")
    if denied:
        return denied
    if command.scope == "member" and command.member not in state.members:
        return (refusals.no_member(state.organization, str(command.member)),)
    if command.scope != "member" and command.setting == "inherit":
        message = f"the cap of scope {command.scope} has nothing to inherit from"
        return (refusals.other("cap", "R19", message, "say `unlimited` to take the cap away"),)
    if command.cap_nanos is not None and not 0 <= command.cap_nanos <= MAX_CAP_NANOS:
        message = f"a cap must be zero to {nanos_to_usd(MAX_CAP_NANOS)} USD to be enforceable"
        return (refusals.other("cap", "R19", message, "give a smaller cap or `unlimited`"),)
    return SpendCapSet(
        **_fact(state, terms),
        scope=command.scope,
        setting=command.setting,
        member=command.member,
        cap_nanos=command.cap_nanos,
    )


def _set_thresholds(command: SetThresholds, state: OrganizationState, terms: Terms) -> Decision:
    denied = _unless(terms, state, refusals.OWNERS, "configure notifications")
    if denied:
        return denied
    percents = state.cap_percents if command.cap_percents is None else command.cap_percents
    low = command.credits_low_percent
    return ThresholdsSet(
        **_fact(state, terms),
        cap_thresholds=tuple(Threshold(cap_percent=one) for one in sorted(set(percents))),
        credits_low_percent=state.credits_low_percent if low is None else low,
    )


def _set_gate_policy(command: SetGatePolicy, state: OrganizationState, terms: Terms) -> Decision:
    """Decision: the operator only, whose money it is that a call costs which no limit has admitted."""
    denied = _unless(terms, state, refusals.OPERATOR_ONLY, "set the gate's policy")
    if denied:
        return denied
    if command.until is not None and command.until <= terms.now:
        message = "the policy would end before it begins"
        step = "give a time to come, or leave --until out"
        return (refusals.other("until", "gate policy", message, step),)
    return GatePolicySet(
        **_fact(state, terms),
        policy=command.policy,
        ceiling_nanos=command.ceiling_nanos,
        until=command.until,
    )


def _unless(
    terms: Terms, state: OrganizationState, who: tuple[str, ...], what: str
) -> tuple[Reason, ...]:
    """A refusal unless the actor has one of these roles (R14)."""
    role: Role | None = state.members.get(terms.actor)
    if (OPERATOR if terms.actor == OPERATOR else role) in who:
        return ()
    return (refusals.not_allowed(terms.actor, role, what, who),)


def _reserved_name() -> Reason:
    message = f"{OPERATOR} is the name of the platform's operator, who may do all"
    return refusals.other("member", "R14", message, "use another member id")


def _one_primary_owner(organization: str) -> Reason:
    message = "there is exactly one primary owner, who alone hands that over"
    return refusals.primary_owner_stays(organization, message)


def _fact(state: OrganizationState, terms: Terms) -> _Fact:
    """What every event carries. Time never runs backwards within an organization."""
    at = terms.now if terms.occurred_at is None else terms.occurred_at
    return {
        "organization": state.organization,
        "version": state.version + 1,
        "command_id": terms.command_id,
        "actor": terms.actor,
        "occurred_at": max(at, state.last_occurred_at),
    }
