"""The most that a model call can cost, before it is made: what a hold reserves. Pure.

Of all that the request can become, the dearest: each band of the prompt's length that it can reach, the
prompt written to the cache where it may be, else uncached, and all the output that was allowed.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from tollkeeper.events.prices import PriceRow
from tollkeeper.events.usage import MAX_COUNT
from tollkeeper.money.amounts import PICOS_PER_NANO
from tollkeeper.rating.card import ModelKey, RateCard, Unpriced

CacheWrite = Literal["5m", "1h", "any"]
CACHE_WRITES: tuple[CacheWrite | None, ...] = (None, *get_args(CacheWrite))
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
    """Prices calls by one rate card. Remembers what it worked out, up to a bound."""

    def __init__(self, card: RateCard) -> None:
        self._card = card
        self._in_force: dict[ModelKey, tuple[int, tuple[_Band, ...]]] = {}

    def worst_case(self, call: Expected, now: int) -> int | Unpriced:
        """What the call can cost in nano-USD when it is granted at `now` or a little later.

        Unpriced: some of what it can consume has no price.
        """
        worst = -1
        for band in self._bands(call, now):
            if band.over_prompt_tokens and band.over_prompt_tokens >= call.input_tokens:
                continue
            cost = _cost(call, band)
            if isinstance(cost, Unpriced):
                return cost
            if cost > worst:
                worst = cost
        return worst if worst >= 0 else _unpriced(call, ("model",))

    def _bands(self, call: Expected, now: int) -> tuple[_Band, ...]:
        key = (call.model, call.service_tier, call.speed, call.region)
        found = self._in_force.get(key)
        if found is None or not found[0] <= now < found[0] + WINDOW_MICROS:
            if len(self._in_force) >= _REMEMBERED:
                self._in_force.clear()
            tables = self._card.prices_between(key, now, now + 2 * WINDOW_MICROS)
            found = (now, tuple(band for rows in tables for band in _worked_out(rows)))
            self._in_force[key] = found
        return found[1]


class _Band(msgspec.Struct, frozen=True):
    """Prices in pico-USD for prompts of more than `over_prompt_tokens`, up to `most_prompt_tokens`.

    `prompt` is the dearest that a token of the prompt can become, by what may be written to the cache.
    """

    over_prompt_tokens: int
    most_prompt_tokens: int
    prompt: dict[CacheWrite | None, int]
    unpriced_prompt: dict[CacheWrite | None, tuple[str, ...]]
    output: int | None
    web_search: int | None
    rounding_nanos: int


def _worked_out(rows: tuple[PriceRow, ...]) -> list[_Band]:
    """The bands of a model's variant at one time, lowest first."""
    ends = [*(row.over_prompt_tokens for row in rows[1:]), MAX_COUNT]
    return [_band(row, most) for row, most in zip(rows, ends, strict=True)]


def _band(row: PriceRow, most_prompt_tokens: int) -> _Band:
    written = {"5m": row.cache_write_5m_picos, "1h": row.cache_write_1h_picos}
    prompt: dict[CacheWrite | None, int] = {}
    unpriced: dict[CacheWrite | None, tuple[str, ...]] = {}
    for asked in CACHE_WRITES:
        writes = {kind: price for kind, price in written.items() if asked in (kind, "any")}
        prices = (row.input_picos, row.cache_read_picos, *writes.values())
        prompt[asked] = max(price or 0 for price in prices)
        gaps = [] if row.input_picos is not None else ["input"]
        if asked in written and written[asked] is None:
            gaps.append(f"cache_write_{asked}")
        unpriced[asked] = tuple(gaps)
    return _Band(
        row.over_prompt_tokens,
        most_prompt_tokens,
        prompt,
        unpriced,
        row.output_picos,
        row.web_search_picos,
        0 if _is_whole(row) else ROUNDED_PARTS // 2,
    )


def _cost(call: Expected, band: _Band) -> int | Unpriced:
    prompt = min(call.input_tokens, band.most_prompt_tokens)
    output, searches = call.max_output_tokens, call.web_searches
    missing = band.unpriced_prompt[call.cache_write] if prompt else ()
    if output and band.output is None:
        missing += ("output",)
    if searches and band.web_search is None:
        missing += ("web_search",)
    if missing:
        return _unpriced(call, missing)
    picos = prompt * band.prompt[call.cache_write]
    picos += output * (band.output or 0) + searches * (band.web_search or 0)
    return -(-picos // PICOS_PER_NANO) + band.rounding_nanos


def _is_whole(row: PriceRow) -> bool:
    """Whether every price is whole in nano-USD, so that nothing is ever rounded."""
    prices = (
        *(row.input_picos, row.output_picos, row.cache_read_picos),
        *(row.cache_write_5m_picos, row.cache_write_1h_picos, row.web_search_picos),
    )
    return not any((price or 0) % PICOS_PER_NANO for price in prices)


def _unpriced(call: Expected, missing: tuple[str, ...]) -> Unpriced:
    what = call.model if missing == ("model",) else f"{', '.join(missing)} of {call.model}"
    return Unpriced(
        missing,
        f"no price for {what} (tier {call.service_tier}, speed {call.speed}, region {call.region})",
        None,
    )
