"""Price files: list prices as people read them, expanded into exact prices of one unit (R15).

Prices are decimal strings in USD per million tokens (`web_search`: USD per request). Each entry holds for
every combination of its service tiers, regions and speeds; a tier, region or speed named in
`[multipliers]` multiplies the token prices. What isn't exact in pico-USD is refused by name.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from itertools import product
from typing import Annotated

import msgspec

from tollkeeper.errors import InvalidEvent, InvalidPrice
from tollkeeper.events.ids import check_id, check_key, check_label
from tollkeeper.events.prices import PriceRow
from tollkeeper.money.amounts import price_per_million_to_picos, price_per_unit_to_picos
from tollkeeper.money.instants import parse_instant
from tollkeeper.rating.publication import Proposal

BUILT_IN = ("claude-2026-10-07.toml", "claude-2023-01-01.toml")
"""The built-in price files, in the order in which they are published: an older price fills in before."""

Price = Annotated[str, msgspec.Meta(max_length=40)]


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A combination of service tier and speed that isn't sold."""

    service_tier: str
    speed: str


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[prices]]` table."""

    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    over_prompt_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    service_tiers: tuple[str, ...] = ("standard",)
    regions: tuple[str, ...] = ("global",)
    speeds: tuple[str, ...] = ("standard",)
    input: Price | None = None
    output: Price | None = None
    cache_read: Price | None = None
    cache_write_5m: Price | None = None
    cache_write_1h: Price | None = None
    web_search: Price | None = None


class PriceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A price file as it is written."""

    publication_id: str
    effective_from: str
    source: str
    source_date: str
    prices: Annotated[tuple[Entry, ...], msgspec.Meta(min_length=1)]
    multipliers: dict[str, str] = {}
    not_offered: tuple[Variant, ...] = ()


def read_price_file(text: str) -> Proposal:
    """The publication that a price file in TOML proposes. InvalidPrice names the entry and the rule."""
    try:
        written = msgspec.convert(tomllib.loads(text), PriceFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidPrice("price file", str(error)) from error
    rows: dict[tuple[str, str, str, str, int], PriceRow] = {}
    for entry in written.prices:
        for row in _expand(entry, written):
            key = (row.model, row.service_tier, row.speed, row.region, row.over_prompt_tokens)
            if key in rows:
                raise InvalidPrice(
                    "models", f"names {row.model} twice for the same variant and band"
                )
            rows[key] = row
    _check(written, rows.values())
    return Proposal(
        publication_id=written.publication_id,
        effective_from=parse_instant(written.effective_from, field="effective_from"),
        source=written.source,
        source_date=written.source_date,
        prices=tuple(rows.values()),
    )


def built_in_proposals() -> tuple[Proposal, ...]:
    """The list prices that come with this release, in the order in which to publish them."""
    folder = files("tollkeeper.rating") / "data"
    return tuple(read_price_file((folder / name).read_text(encoding="utf-8")) for name in BUILT_IN)


def _expand(entry: Entry, written: PriceFile) -> list[PriceRow]:
    rows = []
    variants = product(entry.models, entry.service_tiers, entry.regions, entry.speeds)
    for model, tier, region, speed in variants:
        if Variant(tier, speed) in written.not_offered:
            continue
        factor = Decimal(1)
        for name in (tier, region, speed):
            factor *= _factor(written.multipliers.get(name, "1"), name)
        rows.append(
            PriceRow(
                model=model,
                service_tier=tier,
                speed=speed,
                region=region,
                over_prompt_tokens=entry.over_prompt_tokens,
                input_picos=_token_price(entry.input, factor, f"input of {model}"),
                output_picos=_token_price(entry.output, factor, f"output of {model}"),
                cache_read_picos=_token_price(entry.cache_read, factor, f"cache_read of {model}"),
                cache_write_5m_picos=_token_price(
                    entry.cache_write_5m, factor, f"cache_write_5m of {model}"
                ),
                cache_write_1h_picos=_token_price(
                    entry.cache_write_1h, factor, f"cache_write_1h of {model}"
                ),
                web_search_picos=None
                if entry.web_search is None
                else price_per_unit_to_picos(entry.web_search, field=f"web_search of {model}"),
            )
        )
    return rows


def _token_price(price: str | None, factor: Decimal, field: str) -> int | None:
    if price is None:
        return None
    price_per_million_to_picos(price, field=field)  # the list price itself must be a price
    return price_per_million_to_picos(format(Decimal(price) * factor, "f"), field=field)


def _factor(text: str, name: str) -> Decimal:
    try:
        factor = Decimal(text)
    except InvalidOperation:
        raise InvalidPrice(
            f"multipliers.{name}", f"must be a decimal number, not {text!r}"
        ) from None
    if not factor.is_finite() or not 0 < factor <= 100:
        raise InvalidPrice(f"multipliers.{name}", "must be above 0 and at most 100")
    return factor


def _check(written: PriceFile, rows: object) -> None:
    try:
        check_id("publication_id", written.publication_id)
        for entry in written.prices:
            for model in entry.models:
                check_key("models", model)
            for label in (*entry.service_tiers, *entry.regions, *entry.speeds):
                check_label("variants", label)
    except InvalidEvent as broken:
        raise InvalidPrice(broken.field, broken.rule) from broken
