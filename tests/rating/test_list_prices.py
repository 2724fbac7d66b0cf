"""The built-in prices are the vendor's list (FACTS), each model, token type and variant of it (R15, R16)."""

from __future__ import annotations

from fractions import Fraction

import pytest
from support.events import usage

from tollkeeper.events.prices import PricesPublished
from tollkeeper.money.instants import parse_instant
from tollkeeper.rating.card import RateCard, Rated, Unpriced
from tollkeeper.rating.files import built_in_proposals

MILLION = 1_000_000
TODAY = parse_instant("2026-11-21T00:00:00Z")
OLD, CHANGE = parse_instant("2026-10-06T23:59:59.999999Z"), parse_instant("2026-10-07T00:00:00Z")

# USD per million: input, output, write 5m, write 1h, read.
LIST = {
    "claude-fable-5-1": ("10", "50", "12.50", "20", "0.25"),
    "claude-mythos-5-1": ("10", "50", "12.50", "20", "0.25"),
    "claude-fable-5": ("10", "50", "12.50", "20", "1.00"),
    "claude-mythos-5": ("10", "50", "12.50", "20", "1.00"),
    "claude-opus-5-5": ("4", "20", "5", "8", "0.20"),
    "claude-opus-5": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-8": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-7": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-6": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-5": ("5", "25", "6.25", "10", "0.50"),
    "claude-sonnet-5-5": ("2", "10", "2.50", "4", "0.10"),
    "claude-sonnet-5": ("2", "10", "2.50", "4", "0.20"),
    "claude-sonnet-4-6": ("3", "15", "3.75", "6", "0.30"),
    "claude-sonnet-4-5": ("3", "15", "3.75", "6", "0.30"),
    "claude-haiku-5-5": ("0.10", "0.50", "0.125", "0.20", "0.01"),
    "claude-haiku-4-5": ("1", "5", "1.25", "2", "0.10"),
}
COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
)
NONE = dict.fromkeys((*COUNTS, "web_search_requests"), 0)
US = [
    model
    for model in LIST
    if model not in ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5")
]
FAST = ["claude-opus-5", "claude-opus-4-8", "claude-opus-5-5"]


@pytest.fixture(scope="module")
def card() -> RateCard:
    made = RateCard.EMPTY
    for proposal in built_in_proposals():
        made = made.published(
            PricesPublished(
                publication_id=proposal.publication_id,
                effective_from=proposal.effective_from,
                source=proposal.source,
                source_date=proposal.source_date,
                prices=proposal.prices,
                command_id="c",
                actor="operator",
                occurred_at=0,
            )
        )
    return made


def nanos(card: RateCard, *, occurred_at: int = TODAY, **fields: object) -> int:
    """What a call with nothing but these fields costs."""
    rated = card.rate(usage(**{**NONE, "occurred_at": occurred_at, **fields}))
    assert isinstance(rated, Rated), rated
    assert sum(rated.parts) == rated.charge_nanos
    return rated.charge_nanos


def usd(text: str, *factors: str) -> int:
    """Decimal USD, times factors, in nano-USD; exact or the test is wrong."""
    exact = Fraction(text) * 10**9
    for factor in factors:
        exact *= Fraction(factor)
    assert exact.denominator == 1
    return int(exact)


@pytest.mark.parametrize(("place", "count"), list(enumerate(COUNTS)))
@pytest.mark.parametrize("model", LIST)
def test_r15_every_token_type_costs_its_list_price(
    card: RateCard, model: str, place: int, count: str
) -> None:
    tokens = MILLION // 10  # a prompt of 100,000 is still in the lowest band
    charged = nanos(card, model=model, **{count: tokens})
    assert charged * 10 == usd(LIST[model][place])


@pytest.mark.parametrize("model", LIST)
def test_r15_batch_is_half_and_a_web_search_is_not(card: RateCard, model: str) -> None:
    assert nanos(card, model=model, output_tokens=MILLION, service_tier="batch") == usd(
        LIST[model][1], "0.5"
    )
    for tier in ("standard", "batch"):
        assert nanos(card, model=model, web_search_requests=3, service_tier=tier) == usd("0.03")


@pytest.mark.parametrize("model", US)
def test_r15_the_region_us_costs_a_tenth_more(card: RateCard, model: str) -> None:
    charged = nanos(card, model=model, input_tokens=MILLION // 10, region="us")
    assert charged * 10 == usd(LIST[model][0], "1.1")
    both = nanos(card, model=model, output_tokens=MILLION, region="us", service_tier="batch")
    assert both == usd(LIST[model][1], "1.1", "0.5")


@pytest.mark.parametrize("model", FAST)
def test_r15_fast_costs_double(card: RateCard, model: str) -> None:
    assert nanos(card, model=model, output_tokens=MILLION, speed="fast") == usd(LIST[model][1], "2")


@pytest.mark.parametrize(
    ("occurred_at", "price"), [(OLD, "0.20"), (CHANGE, "0.10"), (CHANGE + 1, "0.10")]
)
def test_r16_a_cache_read_of_sonnet_5_5_costs_what_it_did_then(
    card: RateCard, occurred_at: int, price: str
) -> None:
    charged = nanos(
        card, model="claude-sonnet-5-5", cache_read_tokens=MILLION, occurred_at=occurred_at
    )
    assert charged == usd(price)
    output = nanos(card, model="claude-sonnet-5-5", output_tokens=MILLION, occurred_at=occurred_at)
    assert output == usd("10")


@pytest.mark.parametrize("prompt", ["input_tokens", *COUNTS[2:]])
@pytest.mark.parametrize(
    ("tokens", "output"), [(99_999, "0.50"), (100_000, "0.50"), (100_001, "2.50")]
)
def test_r15_the_whole_prompt_chooses_the_band_cache_included(
    card: RateCard, prompt: str, tokens: int, output: str
) -> None:
    fields = {prompt: tokens, "output_tokens": MILLION}
    both = nanos(card, model="claude-haiku-5-5", **fields)
    band = 5 if tokens > 100_000 else 1
    assert both - nanos(card, model="claude-haiku-5-5", **{prompt: tokens}) == usd(output)
    unit = usd(LIST["claude-haiku-5-5"][COUNTS.index(prompt)]) * band
    assert Fraction(both - usd(output)) == Fraction(unit * tokens, MILLION)


@pytest.mark.parametrize(
    ("fields", "at_risk"),
    [
        ({"model": "claude-unheard-of"}, None),
        ({"service_tier": "priority"}, usd("10")),
        ({"speed": "fast"}, usd("10")),
        ({"region": "eu"}, usd("10")),
        ({"service_tier": "batch", "speed": "fast", "model": "claude-opus-5"}, usd("25")),
        ({"occurred_at": parse_instant("2022-12-31T23:59:59Z")}, None),
    ],
)
def test_r15_what_has_no_price_is_never_free(
    card: RateCard, fields: dict[str, object], at_risk: int | None
) -> None:
    """The amount at risk is what the list price says, where one is known."""
    call = {**NONE, "model": "claude-sonnet-5", "output_tokens": MILLION, **fields}
    found = card.rate(usage(**{"occurred_at": TODAY, **call}))
    assert isinstance(found, Unpriced)
    assert found.missing == ("model",)
    assert str(call["model"]) in found.detail
    assert found.amount_at_risk_nanos == at_risk
