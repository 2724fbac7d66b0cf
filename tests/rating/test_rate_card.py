"""Rating: exact, rounded half to even part by part, by the prices in force when the usage occurred."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import MODEL, NOON, prices, usage

from tollkeeper.events.prices import PriceRow
from tollkeeper.events.rules import MAX_REQUEST_PICOS, MAX_TOKEN_PICOS
from tollkeeper.events.usage import MAX_COUNT
from tollkeeper.money.amounts import MAX_NANOS
from tollkeeper.rating.card import RateCard, Rated, Unpriced

COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "web_search_requests",
)
PICOS = (
    "input_picos",
    "output_picos",
    "cache_read_picos",
    "cache_write_5m_picos",
    "cache_write_1h_picos",
    "web_search_picos",
)
_picos = st.one_of(st.integers(0, 10**11), st.integers(0, 10**8).map(lambda nanos: nanos * 1_000))


def card(*rows: PriceRow, **fields: object) -> RateCard:
    return RateCard.EMPTY.published(prices(prices=rows, **fields))


def row_of(picos: Mapping[str, int]) -> PriceRow:
    prices_by_name: dict[str, Any] = dict(picos)
    return PriceRow(model=MODEL, **prices_by_name)


def rated(found: Rated | Unpriced) -> Rated:
    assert isinstance(found, Rated), found
    return found


@given(
    counts=st.tuples(*[st.integers(0, MAX_COUNT)] * 6),
    picos=st.tuples(*[_picos] * 6),
)
def test_r15_each_part_is_rounded_half_to_even_and_the_charge_is_their_sum(
    counts: tuple[int, ...], picos: tuple[int, ...]
) -> None:
    """Against exact fractions, whose `round` is half to even; whole and broken prices alike."""
    row = row_of(dict(zip(PICOS, picos, strict=True)))
    found = rated(card(row).rate(usage(**dict(zip(COUNTS, counts, strict=True)))))
    exact = tuple(round(Fraction(n * p, 1_000)) for n, p in zip(counts, picos, strict=True))
    assert found.parts == exact
    assert found.charge_nanos == sum(exact)


@pytest.mark.parametrize(
    ("tokens", "picos", "nanos"),
    [(1, 499, 0), (1, 500, 0), (1, 501, 1), (3, 500, 2), (1, 1_499, 1), (1, 1_500, 2), (5, 500, 2)],
)
def test_r15_a_half_goes_to_the_even_neighbour(tokens: int, picos: int, nanos: int) -> None:
    row = PriceRow(model=MODEL, input_picos=picos, output_picos=0)
    assert rated(card(row).rate(usage(input_tokens=tokens, output_tokens=0))).charge_nanos == nanos


@pytest.mark.parametrize("place", range(6))
def test_r15_a_token_type_without_a_price_is_not_free(place: int) -> None:
    known = {name: 1_000 for number, name in enumerate(PICOS) if number != place}
    one_call = usage(**{**dict.fromkeys(COUNTS, 0), COUNTS[place]: 1})
    found = card(row_of(known)).rate(one_call)
    assert isinstance(found, Unpriced)
    assert found.missing == (COUNTS[place].removesuffix("_tokens").removesuffix("_requests"),)
    without = usage(**dict.fromkeys(COUNTS, 0))
    assert rated(card(row_of(known)).rate(without)).charge_nanos == 0


def test_r15_a_variant_that_lacks_a_token_type_puts_the_list_price_at_risk() -> None:
    """An imported batch price often says nothing of the cache; the whole event waits for its price."""
    known = card(
        PriceRow(model=MODEL, input_picos=2_000, cache_read_picos=1_000),
        PriceRow(model=MODEL, service_tier="batch", input_picos=1_000),
    )
    call = {**dict.fromkeys(COUNTS, 0), "input_tokens": 7, "cache_read_tokens": 3}
    found = known.rate(usage(service_tier="batch", **call))
    assert isinstance(found, Unpriced)
    assert (found.missing, found.amount_at_risk_nanos) == (("cache_read",), 17)
    both = known.rate(usage(service_tier="batch", **{**call, "output_tokens": 1}))
    assert isinstance(both, Unpriced)
    assert both.amount_at_risk_nanos is None


def test_r15_a_price_of_zero_is_a_price() -> None:
    row = PriceRow(model=MODEL, input_picos=0, output_picos=0)
    assert rated(card(row).rate(usage())).charge_nanos == 0


@pytest.mark.parametrize(("occurred_at", "nanos"), [(NOON - 1, 1), (NOON, 2), (NOON + 1, 2)])
def test_r16_a_price_holds_from_its_instant_on(occurred_at: int, nanos: int) -> None:
    one = card(PriceRow(model=MODEL, input_picos=1_000), effective_from=0)
    two = one.published(
        prices(
            publication_id="p-2",
            effective_from=NOON,
            prices=(PriceRow(model=MODEL, input_picos=2_000),),
        )
    )
    found = rated(two.rate(usage(input_tokens=1, output_tokens=0, occurred_at=occurred_at)))
    assert (found.charge_nanos, found.publication_id) == (nanos, f"p-{nanos}")


def test_r16_a_publication_leaves_alone_what_it_does_not_name() -> None:
    one = card(PriceRow(model=MODEL, input_picos=1_000, output_picos=5_000), effective_from=0)
    two = one.published(
        prices(
            publication_id="p-2",
            effective_from=NOON,
            prices=(PriceRow(model=MODEL, input_picos=2_000),),
        )
    )
    found = rated(two.rate(usage(input_tokens=1, output_tokens=1)))
    assert found.parts[:2] == (2, 5)


def test_r16_a_withdrawn_publication_was_never_there() -> None:
    one = card(PriceRow(model=MODEL, input_picos=1_000, output_picos=0), effective_from=0)
    two = one.published(
        prices(
            publication_id="p-2",
            effective_from=NOON,
            prices=(PriceRow(model=MODEL, input_picos=2_000),),
        )
    )
    back = two.withdrawn("p-2")
    assert rated(back.rate(usage())) == rated(one.rate(usage()))
    assert back.withdrawn("unknown").rate(usage()) == one.rate(usage())


def test_the_dearest_event_possible_fits_64_bits() -> None:
    tokens = dict.fromkeys(PICOS, MAX_TOKEN_PICOS) | {"web_search_picos": MAX_REQUEST_PICOS}
    dearest = usage(**dict.fromkeys(COUNTS, MAX_COUNT))
    assert 0 < rated(card(row_of(tokens)).rate(dearest)).charge_nanos <= MAX_NANOS


def test_a_card_without_prices_prices_nothing() -> None:
    found = RateCard.EMPTY.rate(usage())
    assert isinstance(found, Unpriced)
    assert found.amount_at_risk_nanos is None
