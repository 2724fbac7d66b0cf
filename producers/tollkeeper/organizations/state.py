"""What an organization is, folded from its own events; all that a decision may look at. Pure."""

from __future__ import annotations

from typing import assert_never

import msgspec

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.organization import (
    DEFAULT_CAP_PERCENTS,
    DEFAULT_CREDITS_LOW_PERCENT,
    CapScope,
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
    ThresholdsSet,
)


class Purchase(msgspec.Struct, frozen=True):
    """One purchase of credits; nano-USD."""

    credit_nanos: int
    is_voided: bool


class Cap(msgspec.Struct, frozen=True):
    """A scope's newest setting."""

    setting: str
    cap_nanos: int | None


class OrganizationState(msgspec.Struct, frozen=True, kw_only=True):
    """The organization after its first `version` events."""

    organization: str
    version: int
    plan: str
    channel: str
    primary_owner: str
    last_occurred_at: int
    members: dict[str, Role]
    purchases: dict[str, Purchase]
    caps: dict[tuple[CapScope, str], Cap]
    cap_percents: tuple[int, ...] = DEFAULT_CAP_PERCENTS
    credits_low_percent: int = DEFAULT_CREDITS_LOW_PERCENT
    gate_policy: GatePolicySet | None = None

    @property
    def purchased_nanos(self) -> int:
        """All credits bought, less what was voided."""
        return sum(one.credit_nanos for one in self.purchases.values() if not one.is_voided)


def evolve(state: OrganizationState | None, event: OrganizationEvent) -> OrganizationState:
    """The state after one more event. Raises BrokenInvariant when the event can't follow."""
    if state is None:
        if not isinstance(event, OrganizationOpened) or event.version != 1:
            raise BrokenInvariant(f"{event.organization}: version 1 must be OrganizationOpened")
        return _open(event)
    if event.version != state.version + 1:
        raise BrokenInvariant(
            f"{event.organization}: version {event.version} can't follow {state.version}"
        )
    return msgspec.structs.replace(
        _apply(state, event), version=event.version, last_occurred_at=event.occurred_at
    )


def _open(event: OrganizationOpened) -> OrganizationState:
    return OrganizationState(
        organization=event.organization,
        version=1,
        plan=event.plan,
        channel=event.channel,
        primary_owner=event.primary_owner,
        last_occurred_at=event.occurred_at,
        members={event.primary_owner: "primary_owner"},
        purchases={},
        caps={},
    )


def _apply(state: OrganizationState, event: OrganizationEvent) -> OrganizationState:
    replace = msgspec.structs.replace
    match event:
        case OrganizationOpened():
            raise BrokenInvariant(f"{event.organization} was opened twice")
        case MemberAdded() | RoleChanged():
            return replace(state, members={**state.members, event.member: event.role})
        case MemberRemoved():
            left = {name: role for name, role in state.members.items() if name != event.member}
            return replace(state, members=left)
        case OwnershipTransferred():
            handed: dict[str, Role] = {event.from_member: "owner", event.to_member: "primary_owner"}
            return replace(
                state, members={**state.members, **handed}, primary_owner=event.to_member
            )
        case CreditsPurchased():
            bought = Purchase(event.credit_nanos, False)
            return replace(state, purchases={**state.purchases, event.purchase_id: bought})
        case CreditsVoided():
            voided = Purchase(event.credit_nanos, True)
            return replace(state, purchases={**state.purchases, event.purchase_id: voided})
        case SpendCapSet():
            cap = Cap(event.setting, event.cap_nanos)
            return replace(state, caps={**state.caps, (event.scope, event.member or ""): cap})
        case ThresholdsSet():
            percents = tuple(one.cap_percent for one in event.cap_thresholds)
            low = event.credits_low_percent
            return replace(state, cap_percents=percents, credits_low_percent=low)
        case GatePolicySet():
            return replace(state, gate_policy=event)
        case _:
            assert_never(event)
