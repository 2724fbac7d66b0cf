"""Events with sensible values, so that a test names only what it is about."""

from __future__ import annotations

from typing import Any

from tollkeeper.events.organization import (
    CreditsPurchased,
    CreditsVoided,
    MemberAdded,
    MemberRemoved,
    OrganizationOpened,
    SpendCapSet,
)
from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.events.usage import UsageRecorded

NOON = 1_793_880_000_000_000
"""2026-11-05T12:00:00Z in microseconds, the middle of a day in the middle of a billing period."""
BEGINNING = 1_735_689_600_000_000
"""2025-01-01T00:00:00Z."""
MODEL = "claude-sonnet-5"


def usage(**fields: Any) -> UsageRecorded:
    """One call of 1,000 input and 100 output tokens by `ann` of `acme`."""
    return UsageRecorded(
        **{
            "event_id": "e-1",
            "organization": "acme",
            "member": "ann",
            "surface": "web",
            "model": MODEL,
            "input_tokens": 1_000,
            "output_tokens": 100,
            "cache_read_tokens": 0,
            "cache_write_5m_tokens": 0,
            "cache_write_1h_tokens": 0,
            "web_search_requests": 0,
            "service_tier": "standard",
            "speed": "standard",
            "region": "global",
            "usage_source": "reported",
            "request_id": None,
            "hold_id": None,
            "occurred_at": NOON,
            "emitter": "em-1",
            "sequence": 1,
            **fields,
        }
    )


def prices(**fields: Any) -> PricesPublished:
    """2 USD in, 10 USD out, 0.20 read, 2.50 and 4 written, a million tokens; 0.01 a web search."""
    return PricesPublished(
        **{
            "publication_id": "p-1",
            "effective_from": BEGINNING,
            "source": "test",
            "source_date": "2026-11-01",
            "prices": (
                PriceRow(
                    model=MODEL,
                    input_picos=2_000_000,
                    output_picos=10_000_000,
                    cache_read_picos=200_000,
                    cache_write_5m_picos=2_500_000,
                    cache_write_1h_picos=4_000_000,
                    web_search_picos=10_000_000_000,
                ),
            ),
            "command_id": "c-prices",
            "actor": "operator",
            "occurred_at": BEGINNING,
            **fields,
        }
    )


USAGE_NANOS = 3_000_000
"""What `usage()` costs under `prices()`: 1,000 x 2 USD and 100 x 10 USD a million."""


def opened(organization: str = "acme", **fields: Any) -> OrganizationOpened:
    """Self-serve, owned by `ann`."""
    return OrganizationOpened(
        **{
            "plan": "enterprise_self_serve",
            "channel": "self_serve",
            "primary_owner": "ann",
            **_fact(organization, 1, fields),
        }
    )


def added(organization: str, version: int, member: str, **fields: Any) -> MemberAdded:
    """A plain member."""
    return MemberAdded(member=member, role="member", **_fact(organization, version, fields))


def removed(organization: str, version: int, member: str, **fields: Any) -> MemberRemoved:
    """A member leaves."""
    return MemberRemoved(member=member, **_fact(organization, version, fields))


def bought(
    organization: str, version: int, credit_nanos: int = 10**9, **fields: Any
) -> CreditsPurchased:
    """One purchase; its id is made of its version."""
    purchase_id = fields.pop("purchase_id", f"purchase-{version}")
    return CreditsPurchased(
        purchase_id=purchase_id, credit_nanos=credit_nanos, **_fact(organization, version, fields)
    )


def voided(
    organization: str, version: int, purchase_id: str, credit_nanos: int = 10**9, **fields: Any
) -> CreditsVoided:
    """A purchase is taken back."""
    return CreditsVoided(
        purchase_id=purchase_id,
        credit_nanos=credit_nanos,
        reason="by mistake",
        **_fact(organization, version, fields),
    )


def capped(organization: str, version: int, cap_nanos: int, **fields: Any) -> SpendCapSet:
    """The organization's own cap, unless another `scope` is given."""
    return SpendCapSet(
        **{
            "scope": "organization",
            "setting": "capped",
            "cap_nanos": cap_nanos,
            **_fact(organization, version, fields),
        }
    )


def _fact(organization: str, version: int, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "organization": organization,
        "version": version,
        "command_id": f"c-{organization}-{version}",
        "actor": "operator",
        "occurred_at": NOON - 1_000_000,
        **fields,
    }
