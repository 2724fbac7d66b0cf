"""Facts about prices, written to *every* partition, so that a partition's own order decides."""

from __future__ import annotations

import msgspec


class PriceRow(msgspec.Struct, frozen=True, kw_only=True):
    """The prices of one model at one service tier, speed, region and prompt-length band.

    The band holds for prompts (uncached input + cache reads + cache writes) of *more than*
    `over_prompt_tokens`; 0 is the lowest band. Prices are pico-USD for one token, and for one
    request in `web_search_picos`; None: this row says nothing about that token type.
    """

    model: str
    service_tier: str = "standard"
    speed: str = "standard"
    region: str = "global"
    over_prompt_tokens: int = 0
    input_picos: int | None = None
    output_picos: int | None = None
    cache_read_picos: int | None = None
    cache_write_5m_picos: int | None = None
    cache_write_1h_picos: int | None = None
    web_search_picos: int | None = None


class PricesPublished(msgspec.Struct, frozen=True, kw_only=True):
    """A publication of prices in force from `effective_from` on; never changed afterwards (R16)."""

    publication_id: str
    effective_from: int
    source: str
    source_date: str
    prices: tuple[PriceRow, ...]
    command_id: str
    actor: str
    occurred_at: int


class PricesWithdrawn(msgspec.Struct, frozen=True, kw_only=True):
    """A publication that wasn't yet in force was taken back."""

    publication_id: str
    command_id: str
    actor: str
    occurred_at: int


PriceEvent = PricesPublished | PricesWithdrawn
