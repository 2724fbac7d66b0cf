"""Any history of publications charges as a plain reading of R15 and R16 says, and never changes the past."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.events import MODEL, NOON, prices, usage

from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.money.instants import MICROS_PER_HOUR
from tollkeeper.rating.card import RateCard, Rated, Unpriced
from tollkeeper.rating.publication import Proposal, decide_publication, decide_withdrawal

HOUR = MICROS_PER_HOUR
TYPES = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "web_search": "web_search_requests",
}
PROMPT = ("input", "cache_read", "cache_write_5m", "cache_write_1h")
BANDS = (0, 100, 1_000)

_price = st.none() | st.integers(0, 5_000)
_hours = st.integers(-12, 12)
_counts = st.fixed_dictionaries({name: st.sampled_from((0, 1, 50, 99, 500)) for name in TYPES})


@st.composite
def _rows(draw: st.DrawFn) -> tuple[PriceRow, ...]:
    """One to three bands of one model, each with a price for some of the token types."""
    rows = []
    for over in sorted(draw(st.sets(st.sampled_from(BANDS), min_size=1))):
        found: dict[str, Any] = {f"{name}_picos": draw(_price) for name in TYPES}
        if all(value is None for value in found.values()):
            found["input_picos"] = 1
        rows.append(PriceRow(model=MODEL, over_prompt_tokens=over, **found))
    return tuple(rows)


_publications = st.lists(st.tuples(_hours, _rows()), min_size=1, max_size=5)


def published(number: int, hours: int, rows: tuple[PriceRow, ...]) -> PricesPublished:
    return prices(publication_id=f"p-{number}", effective_from=NOON + hours * HOUR, prices=rows)


def price_of(
    name: str, known: Sequence[PricesPublished], prompt: int, occurred_at: int
) -> int | None:
    """The price that holds: of the latest publication in force that speaks of the token type, its
    dearest band below the prompt."""
    speaking = [
        (one.effective_from, order, one)
        for order, one in enumerate(known)
        if one.effective_from <= occurred_at
        and any(getattr(row, f"{name}_picos") is not None for row in one.prices)
    ]
    if not speaking:
        return None
    latest = max(speaking, key=lambda found: found[:2])[2]
    fitting = [
        (row.over_prompt_tokens, getattr(row, f"{name}_picos"))
        for row in latest.prices
        if getattr(row, f"{name}_picos") is not None
        and (row.over_prompt_tokens == 0 or row.over_prompt_tokens < prompt)
    ]
    return max(fitting)[1] if fitting else None


@settings(max_examples=150, deadline=None)
@given(_publications, _counts, _hours, st.integers(-1, 1))
def test_r15_r16_every_charge_is_what_the_rules_say(
    publications: list[tuple[int, tuple[PriceRow, ...]]],
    counts: dict[str, int],
    hours: int,
    micros: int,
) -> None:
    """Also a microsecond before, at and after each instant of effect; bands just at and above."""
    known = [published(n, *one) for n, one in enumerate(publications)]
    occurred_at = NOON + hours * HOUR + micros
    event = usage(occurred_at=occurred_at, **{field: counts[name] for name, field in TYPES.items()})
    prompt = sum(counts[name] for name in PROMPT)
    expected = {name: price_of(name, known, prompt, occurred_at) for name in TYPES}
    found = RateCard(known).rate(event)
    missing = tuple(name for name in TYPES if counts[name] and expected[name] is None)
    if not any(one.effective_from <= occurred_at for one in known):
        assert isinstance(found, Unpriced)
        assert found.missing == ("model",)
    elif missing:
        assert isinstance(found, Unpriced)
        assert found.missing == missing
    else:
        assert isinstance(found, Rated)
        exact = [round(Fraction(counts[name] * (expected[name] or 0), 1_000)) for name in TYPES]
        assert list(found.parts) == exact
        assert found.charge_nanos == sum(exact)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), _hours, _rows()), min_size=2, max_size=6),
    _counts,
)
def test_r16_nothing_that_is_allowed_changes_what_an_instant_costs(
    steps: list[tuple[int, bool, int, tuple[PriceRow, ...]]], counts: dict[str, int]
) -> None:
    """Whoever publishes and withdraws whatever, as time goes on: a charge of the past stays."""
    known: list[PricesPublished] = []
    seen: set[str] = set()
    now = NOON
    fields = {field: counts[name] for name, field in TYPES.items()}
    for number, (later, is_withdrawal, hours, rows) in enumerate(steps):
        now += later * HOUR
        before = RateCard(known)
        if is_withdrawal and known:
            if decide_withdrawal(known, known[-1].publication_id, now=now) is None:
                known.pop()
        else:
            one = published(number, hours, rows)
            proposal = Proposal(
                publication_id=one.publication_id,
                effective_from=one.effective_from,
                source=one.source,
                source_date=one.source_date,
                prices=rows,
            )
            if decide_publication(known, proposal, now=now, withdrawn=seen) is None:
                known.append(one)
                seen.add(one.publication_id)
        after = RateCard(known)
        for moment in range(-13, 13):
            event = usage(occurred_at=min(NOON + moment * HOUR, now), **fields)
            was = before.rate(event)
            if isinstance(was, Rated):
                is_now = after.rate(event)
                assert isinstance(is_now, Rated)
                assert is_now.parts == was.parts
