"""Import of LiteLLM's price map, the field's exchange format, into a proposal of prices.

Its JSON holds USD for one token as numbers; their text is read, never a float. What can't be carried over
exactly is listed with the reason, model by model, and never dropped in silence.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import product

import msgspec

from tollkeeper.errors import InvalidEvent, InvalidPrice
from tollkeeper.events.ids import check_key
from tollkeeper.events.prices import PriceRow
from tollkeeper.money.amounts import price_per_unit_to_picos
from tollkeeper.rating.exact import read_factor, request_price, token_price
from tollkeeper.rating.publication import Proposal, check_proposal

TOKEN_TYPE_OF_KEY = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "cache_creation_input_token_cost": "cache_write_5m",
}
"""The map's keys for token prices, the longer one of a common beginning first."""

TIER_OF_SUFFIX = {"": "standard", "batches": "batch", "priority": "priority", "flex": "flex"}
_SUFFIXES = re.compile(r"(?:_above_([1-9][0-9]{0,5})k_tokens)?(?:_(batches|priority|flex))?")
_NO_MODEL = frozenset({"sample_spec", "fallback_generalizations"})

Variant = tuple[str, int]
"""(service tier, prompt tokens above which the price holds)."""


class _Number(str):
    """A number of the JSON as it is written; text in quotes stays a plain `str`."""


class _Object(dict[str, object]):
    """A JSON object, and the keys that it holds more than once: nobody knows which is meant."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.twice = frozenset(
            key for key, count in Counter(k for k, _ in pairs).items() if count > 1
        )


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
            if model in entries.twice:
                raise InvalidPrice("model", "is in the price map twice")
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
    check_proposal(proposal)
    return Imported(proposal, skipped)


def _entries(text: str) -> _Object:
    try:
        found = json.loads(text, parse_float=_Number, parse_int=_Number, object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise InvalidPrice("price map", f"must be JSON: {error}") from error
    if not isinstance(found, _Object):
        raise InvalidPrice("price map", "must be one JSON object, a model a key")
    for name in _NO_MODEL:
        found.pop(name, None)
    return found


def _rows(model: str, entry: object) -> list[PriceRow]:
    try:
        check_key("model", model)
    except InvalidEvent as broken:
        raise InvalidPrice(broken.field, broken.rule) from broken
    if not isinstance(entry, _Object):
        raise InvalidPrice("model", "must be a JSON object")
    if entry.twice:
        raise InvalidPrice(min(entry.twice), "stands twice in one entry")
    prices = _prices(entry)
    if not any("input" in one or "output" in one for one in prices.values()):
        raise InvalidPrice("input_cost_per_token", "is missing: it isn't priced by the token")
    search = _search_price(entry)
    rows = []
    for (tier, over), by_type in sorted(prices.items()):
        for region, speed in product(
            _factors(entry, "us", "global"), _factors(entry, "fast", "standard")
        ):
            picos = {
                f"{token_type}_picos": token_price(
                    price, region[1] * speed[1], field=f"{token_type} of {model}"
                )
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


def _prices(entry: Mapping[str, object]) -> dict[Variant, dict[str, int]]:
    """Pico-USD a token by variant and token type."""
    prices: dict[Variant, dict[str, int]] = {}
    for key, value in entry.items():
        found = None if value is None else _variant(key)
        if found is not None:
            token_type, variant = found
            price = price_per_unit_to_picos(_number(key, value), field=key)
            prices.setdefault(variant, {})[token_type] = price
    return prices


def _variant(key: str) -> tuple[str, Variant] | None:
    """What a key prices; None for what isn't metered here.

    An unknown band is refused: without it the prices of a shorter prompt would be charged for a long one.
    """
    for beginning, token_type in TOKEN_TYPE_OF_KEY.items():
        if key.startswith(beginning):
            suffixes = _SUFFIXES.fullmatch(key, len(beginning))
            if suffixes is not None:
                thousands, tier = suffixes.groups(default="")
                return token_type, (TIER_OF_SUFFIX[tier], int(thousands or "0") * 1_000)
            if key.startswith("_above_", len(beginning)):
                raise InvalidPrice(
                    key[:100], "isn't understood: it prices prompts of another length"
                )
            return None
    return None


def _factors(entry: Mapping[str, object], name: str, plain: str) -> list[tuple[str, Fraction]]:
    """The plain variant, and the dearer one where the map gives its factor."""
    specific = entry.get("provider_specific_entry")
    factor = specific.get(name) if isinstance(specific, dict) else None
    if factor is None:
        return [(plain, Fraction(1))]
    field = f"provider_specific_entry.{name}"
    return [(plain, Fraction(1)), (name, read_factor(_number(field, factor), field=field))]


def _search_price(entry: Mapping[str, object]) -> int | None:
    """One web search, where the map has the same price for every context size."""
    field = "search_context_cost_per_query"
    costs = entry.get(field)
    if not isinstance(costs, dict) or not costs:
        return None
    prices = {request_price(_number(field, value), field=field) for value in costs.values()}
    return prices.pop() if len(prices) == 1 else None


def _number(key: str, value: object) -> str:
    if not isinstance(value, _Number):
        raise InvalidPrice(key, f"must be a number, not {ascii(value)[:60]}")
    return value


def _first(skipped: Mapping[str, str]) -> str:
    return next((f"{model}: {reason}" for model, reason in skipped.items()), "it is empty")
