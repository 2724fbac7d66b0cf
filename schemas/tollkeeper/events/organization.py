"""Facts about an organization, decided by a command before they reach the log.

Every one carries `version`, its place in the organization's own history from 1 without gaps, the
`command_id` that caused it, the `actor` (a member's id, or `operator` for the platform's operator)
and `occurred_at` in microseconds since the epoch.
"""

from __future__ import annotations

from typing import Literal

import msgspec

OPERATOR = "operator"
PLANS = frozenset(
    {
        "enterprise_self_serve",
        "enterprise_sales_assisted",
        "enterprise_chat_code",
        "seat_based_legacy",
    }
)
Channel = Literal["self_serve", "sales_assisted"]
Role = Literal["primary_owner", "owner", "admin", "member"]
CapScope = Literal["organization", "member_default", "member"]
CapSetting = Literal["capped", "unlimited", "inherit"]


class OrganizationFact(msgspec.Struct, frozen=True, kw_only=True):
    """What every organization event carries."""

    organization: str
    version: int
    command_id: str
    actor: str
    occurred_at: int


class OrganizationOpened(OrganizationFact, frozen=True, kw_only=True):
    """The organization exists from here on; its primary owner is its first member (R2, R14)."""

    plan: str
    channel: Channel
    primary_owner: str


class MemberAdded(OrganizationFact, frozen=True, kw_only=True):
    """A person belongs to the organization from here on."""

    member: str
    role: Role


class MemberRemoved(OrganizationFact, frozen=True, kw_only=True):
    """A person no longer belongs to the organization; later usage is charged and flagged (R18)."""

    member: str


class RoleChanged(OrganizationFact, frozen=True, kw_only=True):
    """A member has another role; never to or from primary owner."""

    member: str
    role: Role


class OwnershipTransferred(OrganizationFact, frozen=True, kw_only=True):
    """The primary owner handed that over and is an owner now: one fact, so there is always one."""

    from_member: str
    to_member: str


class CreditsPurchased(OrganizationFact, frozen=True, kw_only=True):
    """Prepaid credits were bought: nano-USD, more than zero."""

    purchase_id: str
    credit_nanos: int
    reference: str | None = None


class CreditsVoided(OrganizationFact, frozen=True, kw_only=True):
    """A purchase was taken back whole by the operator."""

    purchase_id: str
    credit_nanos: int
    reason: str


class SpendCapSet(OrganizationFact, frozen=True, kw_only=True):
    """A cap on list-price charges per billing period (R19, R20).

    `member` is set exactly for scope `member`; `cap_nanos` exactly for setting `capped`. `inherit`
    takes the scope's own setting away: a member falls back to the default, the others to unlimited.
    """

    scope: CapScope
    setting: CapSetting
    member: str | None = None
    cap_nanos: int | None = None


OrganizationEvent = (
    OrganizationOpened
    | MemberAdded
    | MemberRemoved
    | RoleChanged
    | OwnershipTransferred
    | CreditsPurchased
    | CreditsVoided
    | SpendCapSet
)
