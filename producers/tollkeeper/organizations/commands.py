"""What owners and the operator may ask of one organization. Imperative, and not yet decided."""

from __future__ import annotations

import msgspec

from tollkeeper.events.organization import CapScope, CapSetting, Channel, GatePolicySetting, Role


class OrganizationCommand(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What every command carries: whom it is about."""

    organization: str


class OpenOrganization(OrganizationCommand, frozen=True, kw_only=True, tag=True):
    """Open an organization; `channel` may be left out where the plan implies it."""

    plan: str
    owner: str
    channel: Channel | None = None


class AddMember(OrganizationCommand, frozen=True, kw_only=True, tag=True):
    """Let a person in."""

    member: str
    role: Role = "member"


class RemoveMember(OrganizationCommand, frozen=True, kw_only=True, tag=True):
    """Let a person go."""

    member: str


class SetRole(OrganizationCommand, frozen=True, kw_only=True, tag=True):
    """Give a member another role, up to owner."""

    member: str
    role: Role


class TransferOwnership(OrganizationCommand, frozen=True, kw_only=True, tag=True):
    """Make another member the primary owner."""

    member: str


class BuyCredits(OrganizationCommand, frozen=True, kw_only=True, tag=True):
    """Buy prepaid credits; nano-USD."""

    credit_nanos: int


class VoidCredits(OrganizationCommand, frozen=True, kw_only=True, tag=True):
    """Take a whole purchase back."""

    purchase_id: str
    reason: str


class SetCap(OrganizationCommand, frozen=True, kw_only=True, tag=True):
    """Set, lift or inherit the cap of a scope (RULES R19, R20); nano-USD a billing period."""

    scope: CapScope
    setting: CapSetting
    member: str | None = None
    cap_nanos: int | None = None


class SetThresholds(OrganizationCommand, frozen=True, kw_only=True, tag=True):
    """Say when to be notified (RULES R26), in whole per cent; None leaves that part as it is."""

    cap_percents: tuple[int, ...] | None = None
    credits_low_percent: int | None = None


class SetGatePolicy(OrganizationCommand, frozen=True, kw_only=True, tag=True):
    """Say what becomes of calls that the gate refuses or can't know; see `GatePolicySet`."""

    policy: GatePolicySetting
    ceiling_nanos: int | None = None
    until: int | None = None


Command = (
    OpenOrganization
    | AddMember
    | RemoveMember
    | SetRole
    | TransferOwnership
    | BuyCredits
    | VoidCredits
    | SetCap
    | SetThresholds
    | SetGatePolicy
)


class CommandContext(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, under which id, and when.

    `command_id` is the idempotency key. `occurred_at` is given only to bring in history, by the
    operator; None: now. `reference` is the caller's own note, kept with a purchase.
    """

    actor: str
    command_id: str
    occurred_at: int | None = None
    reference: str | None = None
