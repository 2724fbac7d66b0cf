"""Amounts and ids of the gate: never laxer than the exact sum, and an id says what it is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.errors import InvalidInput
from tollkeeper.events.ids import new_emitter_id
from tollkeeper.gate import encoding
from tollkeeper.gate.amounts import MAX_MICROS, cap_micros, purchased_micros, spent_micros
from tollkeeper.gate.commands import Request
from tollkeeper.gate.hold_ids import HoldId, hold_id, parse_hold_id
from tollkeeper.money.amounts import MAX_CAP_NANOS, MAX_NANOS

nanos = st.integers(0, MAX_NANOS)


@given(spent=nanos, held=nanos, cap=st.integers(0, MAX_CAP_NANOS))
def test_what_fits_in_micros_fits_in_nanos(spent: int, held: int, cap: int) -> None:
    if (
        spent_micros(spent) + spent_micros(held) <= cap_micros(cap)
        and max(spent, held) <= MAX_CAP_NANOS
    ):
        assert spent + held <= cap


@given(used=nanos, bought=nanos)
def test_micros_show_no_credits_that_aren_t_there(used: int, bought: int) -> None:
    if purchased_micros(bought) > spent_micros(used):
        assert bought > used


@pytest.mark.parametrize(
    ("nano", "up", "down"),
    [
        (0, 0, 0),
        (1, 1, 0),
        (999, 1, 0),
        (1_000, 1, 1),
        (1_001, 2, 1),
        (MAX_CAP_NANOS, 2**53, 2**53),
    ],
)
def test_rounding(nano: int, up: int, down: int) -> None:
    assert spent_micros(nano) == up
    assert purchased_micros(nano) == cap_micros(nano) == down


def test_beyond_what_is_exact_it_is_closed() -> None:
    assert spent_micros(MAX_NANOS) == MAX_MICROS
    assert purchased_micros(MAX_NANOS) == MAX_MICROS
    with pytest.raises(InvalidInput, match=r"cap: must be at most 9007199254\.740992 USD"):
        cap_micros(MAX_CAP_NANOS + 1)


def test_a_hold_id_carries_organization_emitter_and_time() -> None:
    emitter = new_emitter_id()
    text = hold_id("acme", emitter, issued_millis=1_793_500_000_000, suffix="7")
    assert parse_hold_id(text) == HoldId("acme", emitter, 1_793_500_000_000, "7")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme/em/1",
        "acme/em/x/1",
        "acme//1/1",
        "acme/em/1/1/1",
        "a" * 130 + "/em/1/1",
        "a b/em/1/1",
    ],
)
def test_what_is_no_hold_id_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match="hold_id"):
        parse_hold_id(text)


@pytest.mark.parametrize("micros", [-1, 2**53 + 1])
def test_amounts_that_can_t_be_exact_aren_t_sent(micros: int) -> None:
    with pytest.raises(InvalidInput, match="amount"):
        encoding.hold("acme", Request(micros, "ann", "web"), hold_id="x", emitter="e", epoch=1)
