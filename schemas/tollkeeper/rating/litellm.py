"""Import of LiteLLM's price map, the field's exchange format, into a proposal of prices.

Its JSON holds USD for one token as numbers; they are read as decimals, never through a float. What can't
be carried over exactly is listed with the reason, model by model, and never dropped in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import product

import msgspec

from tollkeeper.errors import InvalidEvent, InvalidPrice
from tollkeeper.events.ids import check_key
from tollkeeper.events.prices import PriceRow
from tollkeeper.money.amounts import price_per_unit_to_picos
from tollkeeper.rating.publication import Proposal

TOKEN_TYPE_OF_KEY = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "cache_creation_input_token_cost": "cache_write_5m",
}
"""The map's keys for token prices, the longer one of a common beginning first."""

TIER_OF_SUFFIX = {"": "standard", "batches": "batch", "priority": "priority", "flex": "flex"}
_SUFFIXES = re.compile(r"(?:_above_([0-9]+)k_tokens)?(?:_(batches|priority|flex))?")
_NO_MODEL = frozenset({"sample_spec", "fallback_generalizations"})

Variant = tuple[str, int]
"""(service tier, prompt tokens above which the price holds)."""


class Imported(msgspec.Struct, frozen=True):
    """The proposal, and why each model that isn't in it was left out."""

    proposal: Proposal
    skipped: dict[str, str]


def read_litellm(
    text: str,
    *,
    publication_id: str,
    effective_from: int,
    source_date: str,
    models: Iterable[str] = (),
) -> Imported:
    """Read a price map. `models` chooses some of its models; without, all are taken.

    InvalidPrice when it is no price map, names an absent model, or holds no price at all.
    """
    entries = _entries(text)
    chosen = set(models)
    missing = sorted(chosen - set(entries))
    if missing:
        raise InvalidPrice("--model", f"names {missing[0]}, which isn't in the price map")
    rows: list[PriceRow] = []
    skipped: dict[str, str] = {}
    for model, entry in entries.items():
        if chosen and model not in chosen:
            continue
        try:
            rows += _rows(model, entry)
        except InvalidPrice as reason:
            skipped[model] = str(reason)
    if not rows:
        raise InvalidPrice("price map", "holds no price by the token: " + _first(skipped))
    proposal = Proposal(
        publication_id=publication_id,
        effective_from=effective_from,
        source="LiteLLM price map",
        source_date=source_date,
        prices=tuple(rows),
    )
    return Imported(proposal, skipped)


def _entries(text: str) -> dict[str, Mapping[str, object]]:
    try:
        found = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise InvalidPrice("price map", f"must be JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidPrice("price map", "must be one JSON object, a model a key")
    return {
        model: entry if isinstance(entry, dict) else {}
        for model, entry in found.items()
        if model not in _NO_MODEL
    }


def _rows(model: str, entry: Mapping[str, object]) -> list[PriceRow]:
    try:
        check_key("model", model)
    except InvalidEvent as broken:
        raise InvalidPrice(broken.field, broken.rule) from broken
    prices: dict[Variant, dict[str, Decimal]] = {}
    for key, value in entry.items():
        found = _variant(key)
        if found is not None and value is not None:
            token_type, variant = found
            prices.setdefault(variant, {})[token_type] = _number(key, value)
    if not any("input" in one or "output" in one for one in prices.values()):
        raise InvalidPrice("input_cost_per_token", "is missing: it isn't priced by the token")
    search = _search_price(entry)
    rows = []
    for (tier, over), by_type in sorted(prices.items()):
        for region, speed in product(
            _factors(entry, "us", "global"), _factors(entry, "fast", "standard")
        ):
            factor = region[1] * speed[1]
            picos = {
                f"{token_type}_picos": _picos(price * factor, f"{token_type} of {model}")
                for token_type, price in by_type.items()
            }
            rows.append(
                PriceRow(
                    model=model,
                    service_tier=tier,
                    speed=speed[0],
                    region=region[0],
                    over_prompt_tokens=over,
                    web_search_picos=search,
                    **picos,
                )
            )
    return rows


def _variant(key: str) -> tuple[str, Variant] | None:
    for beginning, token_type in TOKEN_TYPE_OF_KEY.items():
        if key.startswith(beginning):
            suffixes = _SUFFIXES.fullmatch(key, len(beginning))
            if suffixes is None:
                return None
            thousands, tier = suffixes.groups(default="")
            return token_type, (TIER_OF_SUFFIX[tier], int(thousands or "0") * 1_000)
    return None


def _factors(entry: Mapping[str, object], name: str, plain: str) -> list[tuple[str, Decimal]]:
    """The plain variant, and the dearer one where the map gives its factor."""
    specific = entry.get("provider_specific_entry")
    factor = specific.get(name) if isinstance(specific, dict) else None
    if factor is None:
        return [(plain, Decimal(1))]
    return [(plain, Decimal(1)), (name, _number(f"provider_specific_entry.{name}", factor))]


def _search_price(entry: Mapping[str, object]) -> int | None:
    """One web search, where the map has the same price for every context size."""
    costs = entry.get("search_context_cost_per_query")
    if not isinstance(costs, dict) or not costs:
        return None
    prices = {_number("search_context_cost_per_query", value) for value in costs.values()}
    if len(prices) > 1:
        return None
    return _picos(prices.pop(), "search_context_cost_per_query")


def _number(key: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise InvalidPrice(key, f"must be a number, not {value!r}")
    return Decimal(value)


def _picos(price: Decimal, field: str) -> int:
    return price_per_unit_to_picos(format(price, "f"), field=field)


def _first(skipped: Mapping[str, str]) -> str:
    return next((f"{model}: {reason}" for model, reason in skipped.items()), "it is empty")
