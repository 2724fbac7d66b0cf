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
GatePolicy = Literal["closed", "open", "observe"]
GatePolicySetting = Literal["closed", "open", "observe", "inherit"]
MAX_THRESHOLDS = 20
DEFAULT_CAP_PERCENTS = (75, 90, 100)
DEFAULT_CREDITS_LOW_PERCENT = 10
"""When owners and admins hear of it, unless an owner says otherwise (RULES R26)."""


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


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """A share of a cap at which a notification is due, in whole per cent from 1 to 100."""

    cap_percent: int


class ThresholdsSet(OrganizationFact, frozen=True, kw_only=True):
    """When the organization wants to be notified (R26); replaces what was set before.

    `cap_thresholds` rise; none: no notification on the way to a cap. Credits are low below
    `credits_low_percent` of the last purchase; 0: never.
    """

    cap_thresholds: tuple[Threshold, ...]
    credits_low_percent: int


class GatePolicySet(OrganizationFact, frozen=True, kw_only=True):
    """What becomes of a call when the gate refuses or can't know.

    `closed`: it isn't made. `open`: while the gate can't be asked, calls are let through up to
    `ceiling_nanos` a process. `observe`: every call is let through, refusals are only recorded.
    `inherit`: the platform's default policy, which holds after `until` as well (None: no end).
    """

    policy: GatePolicySetting
    ceiling_nanos: int | None = None
    until: int | None = None


OrganizationEvent = (
    OrganizationOpened
    | MemberAdded
    | MemberRemoved
    | RoleChanged
    | OwnershipTransferred
    | CreditsPurchased
    | CreditsVoided
    | SpendCapSet
    | ThresholdsSet
    | GatePolicySet
)
