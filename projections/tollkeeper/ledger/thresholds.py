"""When a share of a cap or of the credits is reached, and which cap is in force (RULES R19, R26). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import msgspec

from tollkeeper.ledger.rows import CapRow
from tollkeeper.ledger.view import ALL_MEMBERS

CapKey = tuple[str, str, str]
"""(organization, scope, member)."""


CAP_SCOPES = {"organization": 1, "member_default": 2, "member": 4}
"""The scopes for which an organization ever set a cap, as bits: the others needn't be looked up."""
ALL_SCOPES = sum(CAP_SCOPES.values())


class CapInForce(msgspec.Struct, frozen=True):
    """What a scope may spend in a period; `version` grows whenever another setting comes into force."""

    cap_nanos: int
    version: int


def cap_keys(organization: str, member: str, scopes: int = ALL_SCOPES) -> Iterator[CapKey]:
    """The settings that decide about the organization (ALL_MEMBERS) or a member, the first one first."""
    if member == ALL_MEMBERS:
        if scopes & CAP_SCOPES["organization"]:
            yield organization, "organization", ""
        return
    if scopes & CAP_SCOPES["member"]:
        yield organization, "member", member
    if scopes & CAP_SCOPES["member_default"]:
        yield organization, "member_default", ""


def cap_in_force(
    caps: Mapping[CapKey, CapRow], organization: str, member: str = ALL_MEMBERS
) -> CapInForce | None:
    """The own cap, else the default; None: unlimited."""
    version = 0
    for key in cap_keys(organization, member):
        row = caps.get(key)
        if row is None:
            continue
        version = max(version, row.version)
        if row.setting != "inherit":
            return None if row.cap_nanos is None else CapInForce(row.cap_nanos, version)
    return None


@lru_cache(maxsize=1024)
def percents_of(text: str) -> tuple[int, ...]:
    """The rising thresholds of a row of the table `organization`: `75 90 100`."""
    return tuple(map(int, text.split()))


def is_reached(percent: int, cap_nanos: int, spent_nanos: int) -> bool:
    """Whether that share of the cap is spent; of a cap of zero, once anything is."""
    return spent_nanos > 0 and spent_nanos * 100 >= percent * cap_nanos


def reached_now(percents: str, cap_nanos: int, before: int, after: int) -> list[int]:
    """The thresholds that lie between two sums: not reached with the first, reached with the second.

    `percents` as a row of the table `organization` has them.
    """
    found: list[int] = []
    for percent in percents_of(percents):
        if not is_reached(percent, cap_nanos, after):
            break
        if not is_reached(percent, cap_nanos, before):
            found.append(percent)
    return found


def is_low(percent: int, last_purchase_nanos: int, balance_nanos: int) -> bool:
    """Whether credits are below that share of the last purchase; of 0 %, or of none, they never are."""
    return percent * last_purchase_nanos > 0 and balance_nanos * 100 < percent * last_purchase_nanos
