"""What a product service says of a call before it makes it, checked, and what that may cost at most.

Checked by the very rules of the usage event: what a hold lets pass must never be refused when it is
charged. Must not know Redis.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tollkeeper.errors import InvalidEvent, InvalidInput
from tollkeeper.events.ids import check_id, check_key, check_label, check_organization
from tollkeeper.events.usage import MAX_COUNT, SURFACES
from tollkeeper.gate.amounts import MAX_MICROS, spent_micros
from tollkeeper.money.amounts import usd_to_nanos
from tollkeeper.rating.card import Unpriced
from tollkeeper.rating.worst_case import CacheWrite, Expected, WorstCases


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One call that is about to be made. `max_cost_micros` goes before what the tokens would cost.

    `further` is what other models may consume besides in the same call: each is held for as well.
    Without `needs_price` it is an amount alone, of no model: see `ask_amount`.
    """

    organization: str
    member: str
    surface: str
    expected: Expected
    max_cost_micros: int | None = None
    scopes: tuple[str, ...] = ()
    further: tuple[Expected, ...] = ()
    needs_price: bool = True


def ask(
    *,
    organization: str,
    member: str,
    surface: str,
    model: str,
    input_tokens: int | None = None,
    max_output_tokens: int | None = None,
    max_cost_usd: str | Decimal | None = None,
    cache_write: CacheWrite | None = None,
    web_searches: int = 0,
    service_tier: str = "standard",
    speed: str = "standard",
    region: str = "global",
    scopes: tuple[str, ...] = (),
) -> Ask:
    """The call, checked. InvalidInput names the field; nothing was asked then."""
    check_organization("organization", organization)
    check_id("member", member)
    check_key("model", model)
    if surface not in SURFACES:
        raise InvalidEvent("surface", f"must be one of {', '.join(sorted(SURFACES))}")
    for field, label in (("service_tier", service_tier), ("speed", speed), ("region", region)):
        check_label(field, label)
    if max_cost_usd is None and (input_tokens is None or max_output_tokens is None):
        raise InvalidInput(
            "max_output_tokens", "must be given with input_tokens, or max_cost_usd instead of both"
        )
    expected = Expected(
        model=model,
        input_tokens=_count("input_tokens", input_tokens),
        max_output_tokens=_count("max_output_tokens", max_output_tokens),
        cache_write=cache_write,
        web_searches=_count("web_searches", web_searches),
        service_tier=service_tier,
        speed=speed,
        region=region,
    )
    return Ask(
        organization=organization,
        member=member,
        surface=surface,
        expected=expected,
        max_cost_micros=None if max_cost_usd is None else cost_micros(max_cost_usd),
        scopes=scopes,
    )


def ask_amount(*, organization: str, member: str, surface: str, max_cost_micros: int) -> Ask:
    """An amount that is to be held, whatever it is for; for people who try the gate, not for calls."""
    asked = ask(
        organization=organization,
        member=member,
        surface=surface,
        model="-",
        input_tokens=0,
        max_output_tokens=0,
    )
    if not 0 < max_cost_micros <= MAX_MICROS:
        raise InvalidInput("amount", f"must be 1 to {MAX_MICROS} micro-USD")
    return msgspec.structs.replace(asked, max_cost_micros=max_cost_micros, needs_price=False)


def cost_micros(usd: str | Decimal) -> int:
    """Decimal USD to micro-USD, rounded up. InvalidInput: it isn't decimal USD, or beyond any cap."""
    nanos = usd_to_nanos(f"{usd:f}" if isinstance(usd, Decimal) else usd, field="max_cost_usd")
    if nanos > MAX_MICROS * 1_000:
        raise InvalidInput("max_cost_usd", "must be at most what the gate can count")
    return max(1, spent_micros(nanos))


def priced_micros(asked: Ask, prices: WorstCases, now: int) -> int | Unpriced:
    """What the call may cost at most, in micro-USD and at least 1; or that its model has no price."""
    if not asked.needs_price and asked.max_cost_micros is not None:
        return asked.max_cost_micros
    total = 0
    for expected in (asked.expected, *asked.further):
        worst = prices.worst_case(expected, now)
        if isinstance(worst, Unpriced):
            return worst
        total += worst
    return asked.max_cost_micros or max(1, spent_micros(total))


def _count(field: str, count: int | None) -> int:
    if count is None:
        return 0
    if type(count) is not int or not 0 <= count <= MAX_COUNT:
        raise InvalidInput(field, f"must be a whole number from 0 to {MAX_COUNT}")
    return count
