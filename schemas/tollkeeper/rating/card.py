"""The rate card: which price holds for a usage event, and what the event costs (RULES R15, R16). Pure.

A card is immutable; a publication or a withdrawal gives a new one. Everything that doesn't depend on the
single event is worked out then, so that rating is one look-up and a few multiplications.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import msgspec

from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.events.usage import TOKEN_TYPES, UsageRecorded

Nanos = tuple[int, int, int, int, int, int]
ModelKey = tuple[str, str, str, str]
"""(model, service tier, speed, region)."""

LIST_VARIANT = ("standard", "standard", "global")
"""The service tier, speed and region whose price says what an unpriced variant puts at risk."""


class Rated(msgspec.Struct, frozen=True, gc=False):
    """What an event costs in nano-USD: each token type's part, rounded half to even, and their sum.

    `publication_id` is the newest publication among those that made the prices in force.
    """

    parts: Nanos
    charge_nanos: int
    publication_id: str


class Unpriced(msgspec.Struct, frozen=True):
    """Usage without a price: what is missing, and the amount at risk where a list price is known."""

    missing: tuple[str, ...]
    detail: str
    amount_at_risk_nanos: int | None


class _Band(msgspec.Struct, frozen=True):
    """Prices for prompts of more than `over_prompt_tokens`; `gaps` are the places without a price.

    `nanos` are the prices in nano-USD a token where all are whole, as list prices mostly are: then
    nothing is to be rounded.
    """

    over_prompt_tokens: int
    picos: Nanos
    nanos: Nanos | None
    gaps: tuple[int, ...]


class _Segment(msgspec.Struct, frozen=True):
    """The prices in force from an instant on, until the next segment's; the dearest band first."""

    from_micros: int
    publication_id: str
    bands: tuple[_Band, ...]


class RateCard:
    """The prices that one partition has seen, in the order in which it saw them."""

    EMPTY: ClassVar[RateCard]

    def __init__(self, publications: Iterable[PricesPublished] = ()) -> None:
        self._publications = tuple(publications)
        entries: dict[ModelKey, list[_Entry]] = {}
        for order, publication in enumerate(self._publications):
            rank = (publication.effective_from, order)
            for row in publication.prices:
                key = (row.model, row.service_tier, row.speed, row.region)
                entry = _Entry(rank, publication.publication_id, row)
                entries.setdefault(key, []).append(entry)
        self._segments = {key: _segments(found) for key, found in entries.items()}

    @property
    def publications(self) -> tuple[PricesPublished, ...]:
        """What the card was made of, withdrawn ones left out."""
        return self._publications

    def published(self, publication: PricesPublished) -> RateCard:
        """The card with one more publication."""
        return RateCard((*self._publications, publication))

    def withdrawn(self, publication_id: str) -> RateCard:
        """The card without a publication; the same card when it never had it."""
        return RateCard(
            publication
            for publication in self._publications
            if publication.publication_id != publication_id
        )

    def rate(self, usage: UsageRecorded) -> Rated | Unpriced:
        """What the event costs by the prices in force when it occurred; never zero for want of a price.

        The prompt that chooses the band is uncached input, cache reads and cache writes together.
        """
        counts = (
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_5m_tokens,
            usage.cache_write_1h_tokens,
            usage.web_search_requests,
        )
        segments = self._segments.get(
            (usage.model, usage.service_tier, usage.speed, usage.region), ()
        )
        for segment in segments:
            if segment.from_micros <= usage.occurred_at:
                break
        else:
            return self._unpriced(usage, ("model",))
        band = segment.bands[0]
        if band.over_prompt_tokens:
            prompt = counts[0] + counts[2] + counts[3] + counts[4]
            band = next(
                (b for b in segment.bands if b.over_prompt_tokens < prompt), segment.bands[-1]
            )
        if band.gaps and any(counts[gap] for gap in band.gaps):
            missing = tuple(TOKEN_TYPES[gap] for gap in band.gaps if counts[gap])
            return self._unpriced(usage, missing)
        parts = _parts(counts, band)
        return Rated(parts, sum(parts), segment.publication_id)

    def prices_at(self, key: ModelKey, micros: int) -> tuple[PriceRow, ...]:
        """The prices of a model's variant in force at an instant, lowest band first; () when none."""
        for segment in self._segments.get(key, ()):
            if segment.from_micros <= micros:
                return tuple(_row(key, band) for band in reversed(segment.bands))
        return ()

    def prices_between(
        self, key: ModelKey, start_micros: int, end_micros: int
    ) -> tuple[tuple[PriceRow, ...], ...]:
        """All prices in force at some instant from `start_micros` up to `end_micros`, newest first.

        Each lowest band first; from before the first price nothing is there.
        """
        found = []
        for segment in self._segments.get(key, ()):
            if segment.from_micros < end_micros:
                found.append(tuple(_row(key, band) for band in reversed(segment.bands)))
            if segment.from_micros <= start_micros:
                break
        return tuple(found)

    def variants(self) -> tuple[ModelKey, ...]:
        """Every model and variant that ever had a price."""
        return tuple(sorted(self._segments))

    def _unpriced(self, usage: UsageRecorded, missing: tuple[str, ...]) -> Unpriced:
        variant = (usage.service_tier, usage.speed, usage.region)
        at_risk = None
        if variant != LIST_VARIANT:
            tier, speed, region = LIST_VARIANT
            plain = msgspec.structs.replace(usage, service_tier=tier, speed=speed, region=region)
            listed = self.rate(plain)
            at_risk = listed.charge_nanos if isinstance(listed, Rated) else None
        what = usage.model if missing == ("model",) else f"{', '.join(missing)} of {usage.model}"
        return Unpriced(
            missing,
            f"no price for {what} (tier {variant[0]}, speed {variant[1]}, region {variant[2]}) "
            f"at the time of use",
            at_risk,
        )


RateCard.EMPTY = RateCard()


def _parts(counts: Nanos, band: _Band) -> Nanos:
    """Each count times its price, rounded half to even."""
    input_, output, read, write_5m, write_1h, searches = counts
    nanos = band.nanos
    if nanos is not None:
        a, b, c, d, e, f = nanos
        return (input_ * a, output * b, read * c, write_5m * d, write_1h * e, searches * f)
    a, b, c, d, e, f = band.picos
    return (
        _rounded(input_ * a),
        _rounded(output * b),
        _rounded(read * c),
        _rounded(write_5m * d),
        _rounded(write_1h * e),
        _rounded(searches * f),
    )


def _rounded(picos: int) -> int:
    """Pico-USD to nano-USD, half to even: 499 and the quotient's parity carry where it goes up."""
    return (picos + 499 + (picos // 1_000 & 1)) // 1_000


class _Entry(msgspec.Struct, frozen=True):
    """One row of one publication; `rank` orders publications by effect, then by arrival."""

    rank: tuple[int, int]
    publication_id: str
    row: PriceRow


def _segments(entries: list[_Entry]) -> tuple[_Segment, ...]:
    """One variant's segments, the newest first: an event mostly falls into that."""
    starts = sorted({entry.rank[0] for entry in entries}, reverse=True)
    return tuple(_segment(entries, start) for start in starts)


def _segment(entries: list[_Entry], start: int) -> _Segment:
    """Each token type has the price of the latest publication in force that speaks of it."""
    tables: list[dict[int, int]] = []
    newest: tuple[tuple[int, int], str] = ((-1, -1), "")
    for name in TOKEN_TYPES:
        priced = [
            (entry, price)
            for entry in entries
            if entry.rank[0] <= start and (price := getattr(entry.row, f"{name}_picos")) is not None
        ]
        best = max((entry.rank for entry, _ in priced), default=None)
        winners = [(entry, price) for entry, price in priced if entry.rank == best]
        tables.append({entry.row.over_prompt_tokens: price for entry, price in winners})
        newest = max([newest, *((entry.rank, entry.publication_id) for entry, _ in winners)])
    return _Segment(start, newest[1], _bands(tables))


def _bands(tables: list[dict[int, int]]) -> tuple[_Band, ...]:
    """The bands of all token types laid over each other, the one of the longest prompts first."""
    bounds = sorted({0}.union(*tables), reverse=True)
    return tuple(_band(tables, bound) for bound in bounds)


def _band(tables: list[dict[int, int]], bound: int) -> _Band:
    found = [
        max(((over, price) for over, price in table.items() if over <= bound), default=None)
        for table in tables
    ]
    a, b, c, d, e, f = picos = tuple(0 if entry is None else entry[1] for entry in found)
    gaps = tuple(place for place, entry in enumerate(found) if entry is None)
    nanos: Nanos | None = None
    if not any(price % 1_000 for price in picos):
        nanos = (a // 1_000, b // 1_000, c // 1_000, d // 1_000, e // 1_000, f // 1_000)
    return _Band(bound, (a, b, c, d, e, f), nanos, gaps)


def _row(key: ModelKey, band: _Band) -> PriceRow:
    prices = {
        f"{name}_picos": None if place in band.gaps else band.picos[place]
        for place, name in enumerate(TOKEN_TYPES)
    }
    return PriceRow(
        model=key[0],
        service_tier=key[1],
        speed=key[2],
        region=key[3],
        over_prompt_tokens=band.over_prompt_tokens,
        **prices,
    )
