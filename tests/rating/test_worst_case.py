"""What a call can cost at most: never less than any of the usages that it can become (ENFORCEMENT)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.rating.card import RateCard, Rated, Unpriced
from tollkeeper.rating.worst_case import WINDOW_MICROS, Expected, WorstCases

NOW = 1_793_880_000_000_000
HOUR = 3_600_000_000


def row(**changes: Any) -> PriceRow:
    """Prices in pico-USD: 2 nano-USD for a token in, 10 for one out."""
    given: dict[str, Any] = {
        "model": "m",
        "input_picos": 2_000,
        "output_picos": 10_000,
        "cache_read_picos": 1_000,
        "cache_write_5m_picos": 3_000,
        "cache_write_1h_picos": 4_000,
        "web_search_picos": 10_000_000,
    }
    return PriceRow(**(given | changes))


def published(*rows: PriceRow, at: int = NOW - HOUR, name: str = "p-1") -> PricesPublished:
    """A publication in force from `at` on."""
    return PricesPublished(
        publication_id=name,
        effective_from=at,
        source="test",
        source_date="2026-11-01",
        prices=rows,
        command_id=f"cmd-{name}",
        actor="operator",
        occurred_at=at,
    )


def worst(card: RateCard, *, now: int = NOW, **call: Any) -> int | Unpriced:
    """Of a call of `m`."""
    given: dict[str, Any] = {"model": "m", "input_tokens": 0, "max_output_tokens": 0}
    return WorstCases(card).worst_case(Expected(**(given | call)), now)


def test_uncached_input_and_all_the_output() -> None:
    card = RateCard([published(row())])
    assert worst(card, input_tokens=1_000, max_output_tokens=100) == 1_000 * 2 + 100 * 10
    assert worst(card) == 0


def test_a_prompt_that_may_be_written_to_the_cache_is_priced_as_written() -> None:
    card = RateCard([published(row())])
    assert worst(card, input_tokens=1_000, cache_write="5m") == 3_000
    assert worst(card, input_tokens=1_000, cache_write="1h") == 4_000
    assert worst(card, input_tokens=1_000, web_searches=3) == 2_000 + 3 * 10_000


def test_reading_the_cache_counts_where_that_is_dearer() -> None:
    card = RateCard([published(row(cache_read_picos=3_000))])
    assert worst(card, input_tokens=1_000) == 3_000


@pytest.mark.parametrize(
    ("input_tokens", "nanos"), [(199_999, 399_998), (200_000, 400_000), (200_001, 1_000_005)]
)
def test_a_band_counts_as_soon_as_the_prompt_can_reach_it(input_tokens: int, nanos: int) -> None:
    card = RateCard([published(row(), row(over_prompt_tokens=200_000, input_picos=5_000))])
    assert worst(card, input_tokens=input_tokens) == nanos


def test_a_cheaper_band_doesn_t_hide_a_shorter_and_dearer_prompt() -> None:
    card = RateCard([published(row(), row(over_prompt_tokens=200_000, input_picos=1_000))])
    assert worst(card, input_tokens=200_001) == 200_000 * 2, "200,000 tokens cost more than 200,001"


@pytest.mark.parametrize(
    ("call", "missing"),
    [
        ({"model": "other"}, ("model",)),
        ({"service_tier": "priority"}, ("model",)),
        ({"region": "us"}, ("model",)),
        ({"max_output_tokens": 1}, ("output",)),
        ({"input_tokens": 1, "cache_write": "1h"}, ("cache_write_1h",)),
        ({"web_searches": 1}, ("web_search",)),
    ],
)
def test_what_has_no_price_is_unpriced_by_name(
    call: dict[str, Any], missing: tuple[str, ...]
) -> None:
    card = RateCard(
        [published(row(output_picos=None, cache_write_1h_picos=None, web_search_picos=None))]
    )
    found = worst(card, **call)
    assert isinstance(found, Unpriced)
    assert found.missing == missing
    assert worst(card, input_tokens=1) == 2, "what the call doesn't consume needs no price"


@pytest.mark.parametrize(
    ("ahead", "nanos"),
    [
        (-1, 7_000),
        (0, 7_000),
        (1, 7_000),
        (2 * WINDOW_MICROS, 2_000),
        (2 * WINDOW_MICROS - 1, 7_000),
    ],
)
def test_a_price_that_takes_effect_before_the_grant_can_arrive_counts_already(
    ahead: int, nanos: int
) -> None:
    card = RateCard(
        [published(row()), published(row(input_picos=7_000), at=NOW + ahead, name="p-2")]
    )
    assert worst(card, input_tokens=1_000) == nanos


def test_a_price_that_falls_counts_in_full_until_it_has_fallen() -> None:
    card = RateCard([published(row()), published(row(input_picos=1_000), at=NOW, name="p-2")])
    assert worst(card, input_tokens=1_000, now=NOW - 1) == 2_000
    assert worst(card, input_tokens=1_000, now=NOW) == 1_000


def test_what_was_looked_up_is_looked_up_again_when_its_time_is_over() -> None:
    rising = published(row(input_picos=7_000), at=NOW + 25_000_000, name="p-2")
    cases = WorstCases(RateCard([published(row()), rising]))
    call = Expected(model="m", input_tokens=1_000, max_output_tokens=0)
    assert cases.worst_case(call, NOW) == 2_000
    assert cases.worst_case(call, NOW + WINDOW_MICROS - 1) == 2_000
    assert cases.worst_case(call, NOW + WINDOW_MICROS) == 7_000
    assert cases.worst_case(call, NOW) == 2_000, "a clock that was set back asks anew"


def test_prices_of_less_than_a_nano_usd_leave_room_for_the_rounding_of_each_part() -> None:
    card = RateCard([published(row(input_picos=1_499))])
    assert worst(card, input_tokens=1) == 2 + 3


def used(counts: tuple[int, int, int, int, int]) -> UsageRecorded:
    """Usage of so many tokens: in, out, read, written for 5 minutes and for an hour."""
    input_, output, read, written_5m, written_1h = counts
    return UsageRecorded(
        event_id="e-1",
        organization="acme",
        member="ann",
        surface="web",
        model="m",
        input_tokens=input_,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_5m_tokens=written_5m,
        cache_write_1h_tokens=written_1h,
        web_search_requests=0,
        service_tier="standard",
        speed="standard",
        region="global",
        usage_source="reported",
        request_id=None,
        hold_id=None,
        occurred_at=NOW,
        emitter="em-1",
        sequence=1,
    )


COUNTS = st.integers(0, 400_000)
PICOS = st.integers(0, 100_001)


@example(parts=(1, 1, 1, 1), output=1, picos=[1_499] * 5, over=2, dearer=[1_501] * 5, write="1h")
@given(
    parts=st.tuples(COUNTS, COUNTS, COUNTS, COUNTS),
    output=COUNTS,
    picos=st.lists(PICOS, min_size=5, max_size=5),
    over=st.integers(1, 500_000),
    dearer=st.lists(PICOS, min_size=5, max_size=5),
    write=st.sampled_from([None, "5m", "1h"]),
)
def test_no_usage_that_the_call_can_become_costs_more(
    parts: tuple[int, int, int, int],
    output: int,
    picos: list[int],
    over: int,
    dearer: list[int],
    write: Any,
) -> None:
    """Rounded as each is: whatever the prompt is made of, and however much shorter it turns out."""
    names = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
    bands = [
        row(
            over_prompt_tokens=bound,
            **{f"{n}_picos": p for n, p in zip(names, prices, strict=True)},
        )
        for bound, prices in ((0, picos), (over, dearer))
    ]
    card = RateCard([published(*bands)])
    uncached, read, written_5m, written_1h = parts
    written_5m, written_1h = (written_5m * (write == "5m"), written_1h * (write == "1h"))
    prompt = uncached + read + written_5m + written_1h
    rated = card.rate(used((uncached, output, read, written_5m, written_1h)))
    assert isinstance(rated, Rated)
    for longer in (0, 1, 100_000):
        found = worst(
            card, input_tokens=prompt + longer, max_output_tokens=output, cache_write=write
        )
        assert isinstance(found, int)
        assert rated.charge_nanos <= found
