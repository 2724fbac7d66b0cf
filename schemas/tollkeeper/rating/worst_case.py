"""The most that a model call can cost, before it is made: what a hold reserves. Pure.

Of all that the request can become, the dearest: each band of the prompt's length that it can reach, the
prompt written to the cache where it may be, else uncached, and all the output that was allowed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tollkeeper.events.prices import PriceRow
from tollkeeper.money.amounts import PICOS_PER_NANO
from tollkeeper.rating.card import ModelKey, RateCard, Unpriced

CacheWrite = Literal["5m", "1h", "any"]
ROUNDED_PARTS = 6
"""A charge rounds each token type by itself, up by half a nano-USD at most."""
WINDOW_MICROS = 10_000_000
"""A hold may be granted so much later than it was priced: longer than any wait for it."""
_REMEMBERED = 1_000


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a call before it is made.

    `input_tokens` is the whole prompt, whatever of it is cached; `cache_write` says that the request may
    write it to the cache, and for how long; `any`: as the provider likes, where that has a price.
    """

    model: str
    input_tokens: int
    max_output_tokens: int
    cache_write: CacheWrite | None = None
    web_searches: int = 0
    service_tier: str = "standard"
    speed: str = "standard"
    region: str = "global"


class WorstCases:
    """Prices calls by one rate card. Remembers what it looked up, up to a bound."""

    def __init__(self, card: RateCard) -> None:
        self._card = card
        self._in_force: dict[ModelKey, tuple[int, tuple[tuple[PriceRow, ...], ...]]] = {}

    def worst_case(self, call: Expected, now: int) -> int | Unpriced:
        """What the call can cost in nano-USD when it is granted at `now` or a little later.

        Unpriced: some of what it can consume has no price.
        """
        worst = -1
        for bands in self._bands(call, now):
            for place, band in enumerate(bands):
                if place and band.over_prompt_tokens >= call.input_tokens:
                    break
                cost = _cost(call, band, _reach(call, bands, place))
                if isinstance(cost, Unpriced):
                    return cost
                worst = max(worst, cost)
        return worst if worst >= 0 else _unpriced(call, ("model",))

    def _bands(self, call: Expected, now: int) -> tuple[tuple[PriceRow, ...], ...]:
        key = (call.model, call.service_tier, call.speed, call.region)
        found = self._in_force.get(key)
        if found is None or not found[0] <= now < found[0] + WINDOW_MICROS:
            if len(self._in_force) >= _REMEMBERED:
                self._in_force.clear()
            found = (now, self._card.prices_between(key, now, now + 2 * WINDOW_MICROS))
            self._in_force[key] = found
        return found[1]


def _reach(call: Expected, bands: tuple[PriceRow, ...], place: int) -> int:
    """The longest prompt of this call that still falls into the band."""
    if place + 1 < len(bands):
        return min(call.input_tokens, bands[place + 1].over_prompt_tokens)
    return call.input_tokens


def _cost(call: Expected, band: PriceRow, prompt_tokens: int) -> int | Unpriced:
    written = {"5m": band.cache_write_5m_picos, "1h": band.cache_write_1h_picos}
    needed: dict[str, tuple[int, int | None]] = {
        "input": (prompt_tokens, band.input_picos),
        "output": (call.max_output_tokens, band.output_picos),
        "web_search": (call.web_searches, band.web_search_picos),
    }
    if call.cache_write in written:
        needed[f"cache_write_{call.cache_write}"] = (prompt_tokens, written[call.cache_write])
    missing = tuple(name for name, (count, price) in needed.items() if count and price is None)
    if missing:
        return _unpriced(call, missing)
    writes = [price for kind, price in written.items() if call.cache_write in (kind, "any")]
    dearest = max(price or 0 for price in (band.input_picos, band.cache_read_picos, *writes))
    rest = (needed["output"], needed["web_search"])
    picos = prompt_tokens * dearest + sum(count * (price or 0) for count, price in rest)
    return -(-picos // PICOS_PER_NANO) + (0 if _is_whole(band) else ROUNDED_PARTS // 2)


def _is_whole(band: PriceRow) -> bool:
    """Whether every price is whole in nano-USD, so that nothing is ever rounded."""
    prices = (
        *(band.input_picos, band.output_picos, band.cache_read_picos),
        *(band.cache_write_5m_picos, band.cache_write_1h_picos, band.web_search_picos),
    )
    return not any((price or 0) % PICOS_PER_NANO for price in prices)


def _unpriced(call: Expected, missing: tuple[str, ...]) -> Unpriced:
    what = call.model if missing == ("model",) else f"{', '.join(missing)} of {call.model}"
    return Unpriced(
        missing,
        f"no price for {what} (tier {call.service_tier}, speed {call.speed}, region {call.region})",
        None,
    )
