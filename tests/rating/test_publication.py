"""What may be published and withdrawn: a price that covers an instant never changes there (R16)."""

from __future__ import annotations

from typing import Any

import pytest
from support.events import MODEL, NOON, prices

from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.money.instants import MICROS_PER_HOUR
from tollkeeper.rating.publication import (
    WITHDRAWAL_NOTICE_MICROS,
    Proposal,
    changes,
    decide_publication,
    decide_withdrawal,
)

NOW = NOON
HOUR = MICROS_PER_HOUR


def known(effective_from: int = NOW - 24 * HOUR, **fields: object) -> PricesPublished:
    row = PriceRow(model=MODEL, input_picos=1_000)
    return prices(**{"effective_from": effective_from, "prices": (row,), **fields})


def proposal(effective_from: int, row: PriceRow | None = None, **fields: object) -> Proposal:
    given: dict[str, Any] = {
        "publication_id": "p-2",
        "effective_from": effective_from,
        "source": "test",
        "source_date": "2026-11-01",
        "prices": (row or PriceRow(model=MODEL, input_picos=2_000),),
        **fields,
    }
    return Proposal(**given)


@pytest.mark.parametrize(("ahead", "allowed"), [(HOUR - 1, False), (HOUR, True), (HOUR + 1, True)])
def test_r16_a_changed_price_takes_effect_an_hour_ahead_at_least(ahead: int, allowed: bool) -> None:
    refusal = decide_publication([known()], proposal(NOW + ahead), now=NOW)
    assert (refusal is None) == allowed
    if refusal is not None:
        (reason,) = refusal.reasons
        assert (reason.reason, reason.rule, reason.who_can_lift) == (
            "effective_from",
            "R16",
            ("operator",),
        )
        assert f"input of {MODEL}" in reason.message
        assert "2026-11-05T13:00:00" in reason.next_step


@pytest.mark.parametrize(
    "row",
    [
        PriceRow(model="new", input_picos=1),
        PriceRow(model=MODEL, output_picos=1),
        PriceRow(model=MODEL, service_tier="batch", input_picos=1),
        PriceRow(model=MODEL, region="us", input_picos=1),
        PriceRow(model=MODEL, speed="fast", input_picos=1),
    ],
)
def test_r16_a_first_price_may_be_back_dated(row: PriceRow) -> None:
    assert decide_publication([known()], proposal(0, row), now=NOW) is None


@pytest.mark.parametrize(("before", "allowed"), [(1, True), (0, False), (-1, False)])
def test_r16_an_older_price_may_fill_in_up_to_where_the_first_begins(
    before: int, allowed: bool
) -> None:
    first = NOW - 24 * HOUR
    refusal = decide_publication([known(first)], proposal(first - before), now=NOW)
    assert (refusal is None) == allowed


def test_r16_a_published_id_is_taken_for_good() -> None:
    refusal = decide_publication([known()], proposal(NOW + 9 * HOUR, publication_id="p-1"), now=NOW)
    assert refusal is not None
    assert "a published price never changes" in refusal.reasons[0].message


@pytest.mark.parametrize(("ahead", "allowed"), [(-1, False), (0, True), (1, True)])
def test_r16_only_what_is_not_nearly_in_force_is_withdrawn(ahead: int, allowed: bool) -> None:
    effective_from = NOW + WITHDRAWAL_NOTICE_MICROS + ahead
    refusal = decide_withdrawal([known(effective_from)], "p-1", now=NOW)
    assert (refusal is None) == allowed


def test_r16_what_is_unknown_or_withdrawn_cannot_be_withdrawn() -> None:
    refusal = decide_withdrawal([known(NOW + 9 * HOUR)], "p-7", now=NOW)
    assert refusal is not None
    assert "p-7" in refusal.reasons[0].message


@pytest.mark.parametrize(
    ("new", "is_large"), [(500, False), (499, True), (1_500, False), (1_501, True), (1_000, False)]
)
def test_a_change_of_more_than_half_is_large(new: int, is_large: bool) -> None:
    (change,) = changes([known()], proposal(NOW, PriceRow(model=MODEL, input_picos=new)))
    assert (change.old_picos, change.new_picos, change.is_large) == (1_000, new, is_large)


def test_a_first_price_is_no_change() -> None:
    (change,) = changes([known()], proposal(NOW, PriceRow(model="new", input_picos=10**9)))
    assert (change.old_picos, change.is_large) == (None, False)


def test_r16_the_id_of_a_withdrawn_publication_is_taken_too() -> None:
    """The fold knows the id: other prices under it would be refused there, after the caller's *done*."""
    late = proposal(NOW + 9 * HOUR, publication_id="gone")
    assert decide_publication([known()], late, now=NOW) is None
    refusal = decide_publication([known()], late, now=NOW, withdrawn={"gone"})
    assert refusal is not None
    assert "gone was withdrawn" in refusal.reasons[0].message


def test_r16_a_new_band_of_a_price_in_force_is_a_change() -> None:
    row = PriceRow(model=MODEL, over_prompt_tokens=100_000, input_picos=9)
    refusal = decide_publication([known()], proposal(NOW, row), now=NOW)
    assert refusal is not None
    assert f"1 prices that are in force already, the first is input of {MODEL}" in (
        refusal.reasons[0].message
    )


BANDS = (
    PriceRow(model=MODEL, input_picos=1_000, output_picos=7),
    PriceRow(model=MODEL, over_prompt_tokens=100_000, input_picos=5_000),
)


def test_a_band_that_a_new_price_leaves_out_is_shown_with_what_it_costs_then() -> None:
    """Prices of a token type are replaced as a whole: else nobody would see the cheaper long prompt."""
    found = changes([known(prices=BANDS)], proposal(NOW, PriceRow(model=MODEL, input_picos=1_100)))
    shown = [
        (one.token_type, one.over_prompt_tokens, one.old_picos, one.new_picos) for one in found
    ]
    assert shown == [("input", 0, 1_000, 1_100), ("input", 100_000, 5_000, 1_100)]
    assert [one.is_large for one in found] == [False, True]


def test_prompts_that_a_new_price_leaves_without_one_are_shown() -> None:
    row = PriceRow(model=MODEL, over_prompt_tokens=100_000, input_picos=5_000)
    first, second = changes([known(prices=BANDS)], proposal(NOW, row))
    assert (first.over_prompt_tokens, first.old_picos, first.new_picos) == (0, 1_000, None)
    assert first.is_large
    assert (second.old_picos, second.new_picos, second.is_large) == (5_000, 5_000, False)
