"""Price files: list prices as people read them, expanded into exact prices of one unit (R15).

Prices are decimal strings in USD per million tokens (`web_search`: USD per request). Each entry holds for
every combination of its service tiers, regions and speeds; a tier, region or speed named in
`[multipliers]` multiplies the token prices. What isn't exact in pico-USD is refused by name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from fractions import Fraction
from importlib.resources import files
from itertools import product
from typing import Annotated

import msgspec

from tollkeeper.errors import InvalidEvent, InvalidPrice
from tollkeeper.events.ids import check_id, check_key, check_label
from tollkeeper.events.prices import PriceRow
from tollkeeper.money.amounts import price_per_million_to_picos
from tollkeeper.money.instants import parse_instant
from tollkeeper.rating.exact import read_factor, request_price, token_price
from tollkeeper.rating.publication import Proposal, check_proposal

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
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidPrice("price file", str(error)) from error
    except RecursionError as error:
        raise InvalidPrice("price file", "must not be nested so deeply") from error
    factors = _factors(written)
    rows: dict[tuple[str, str, str, str, int], PriceRow] = {}
    for entry in written.prices:
        for row in _expand(entry, written, factors):
            key = (row.model, row.service_tier, row.speed, row.region, row.over_prompt_tokens)
            if key in rows:
                raise InvalidPrice(
                    "models", f"names {row.model} twice for the same variant and band"
                )
            rows[key] = row
    _check_ids(written)
    proposal = Proposal(
        publication_id=written.publication_id,
        effective_from=parse_instant(written.effective_from, field="effective_from"),
        source=written.source,
        source_date=written.source_date,
        prices=tuple(rows.values()),
    )
    check_proposal(proposal)
    return proposal


def built_in_proposals() -> tuple[Proposal, ...]:
    """The list prices that come with this release, in the order in which to publish them."""
    folder = files("tollkeeper.rating") / "data"
    return tuple(read_price_file((folder / name).read_text(encoding="utf-8")) for name in BUILT_IN)


def _expand(entry: Entry, written: PriceFile, factors: Mapping[str, Fraction]) -> list[PriceRow]:
    rows = []
    variants = product(entry.models, entry.service_tiers, entry.regions, entry.speeds)
    for model, tier, region, speed in variants:
        if Variant(tier, speed) in written.not_offered:
            continue
        factor = Fraction(1)
        for name in (tier, region, speed):
            factor *= factors.get(name, 1)
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
                else request_price(entry.web_search, field=f"web_search of {model}"),
            )
        )
    return rows


def _token_price(price: str | None, factor: Fraction, field: str) -> int | None:
    """The list price itself must be a price, and so must the product."""
    if price is None:
        return None
    return token_price(price_per_million_to_picos(price, field=field), factor, field=field)


def _factors(written: PriceFile) -> dict[str, Fraction]:
    """Every factor by its name; one that multiplies nothing is a slip that would charge the plain price."""
    tiers = {name for entry in written.prices for name in entry.service_tiers}
    regions = {name for entry in written.prices for name in entry.regions}
    speeds = {name for entry in written.prices for name in entry.speeds}
    factors = {}
    for name, text in written.multipliers.items():
        field = f"multipliers.{name}"
        uses = sum(name in names for names in (tiers, regions, speeds))
        if uses == 0:
            raise InvalidPrice(field, "names no service tier, region or speed of this file")
        if uses > 1:
            raise InvalidPrice(field, "must mean one thing, not both a tier and a speed or region")
        factors[name] = read_factor(text, field=field)
    for variant in written.not_offered:
        if variant.service_tier not in tiers or variant.speed not in speeds:
            raise InvalidPrice(
                "not_offered", f"names {variant.service_tier}, {variant.speed}: not in this file"
            )
    return factors


def _check_ids(written: PriceFile) -> None:
    try:
        check_id("publication_id", written.publication_id)
        for entry in written.prices:
            for model in entry.models:
                check_key("models", model)
            for label in (*entry.service_tiers, *entry.regions, *entry.speeds):
                check_label("variants", label)
    except InvalidEvent as broken:
        raise InvalidPrice(broken.field, broken.rule) from broken
