"""Money is read and shown exactly, and what isn't exact or in range is refused by name."""

from __future__ import annotations

import decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.errors import InvalidInput, InvalidPrice
from tollkeeper.money.amounts import (
    MAX_NANOS,
    nanos_to_cents,
    nanos_to_usd,
    picos_to_nanos,
    price_per_million_to_picos,
    price_per_unit_to_picos,
    usd_to_nanos,
)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0", 0),
        ("0.00", 0),
        ("-0", 0),
        ("12.5", 12_500_000_000),
        (" 7 ", 7_000_000_000),
        ("+7.", 7_000_000_000),
        (".5", 500_000_000),
        ("0.000000001", 1),
        ("1.000000001000", 1_000_000_001),
        ("1e-9", 1),
        ("1.5E-07", 150),
        ("0e999", 0),
        ("100e-2", 1_000_000_000),
        ("9223372036.854775807", MAX_NANOS),
    ],
)
def test_usd_text_becomes_exact_nanos(text: str, nanos: int) -> None:
    assert usd_to_nanos(text) == nanos


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "decimal number"),
        (".", "decimal number"),
        ("e5", "decimal number"),
        ("twelve", "decimal number"),
        ("1,000", "decimal number"),
        ("1_000", "decimal number"),
        ("0x10", "decimal number"),
        ("1 2", "decimal number"),
        ("١٢", "decimal number"),
        ("NaN", "decimal number"),
        ("sNaN", "decimal number"),
        ("Infinity", "decimal number"),
        ("1e9999999999999999999", "decimal number"),
        ("1\x00", "decimal number"),
        ("\ud800", "decimal number"),
        ("-0.01", "zero or more"),
        ("-1e-900", "zero or more"),
        ("0.0000000001", "exact in nano-USD"),
        ("1e-999", "exact in nano-USD"),
        ("9223372036.854775808", "out of range"),
        ("1e11", "out of range"),
        ("1e999", "out of range"),
        ("9" * 100_000, "out of range"),
    ],
)
def test_text_that_is_no_exact_amount_is_refused_with_its_rule(text: str, rule: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        usd_to_nanos(text, field="credits")
    assert refused.value.field == "credits"
    assert rule in refused.value.rule
    assert str(refused.value).isascii() and len(str(refused.value)) < 200


@pytest.mark.parametrize("wrong", [1, 1.5, None, True, b"1", ["1"], decimal.Decimal("1")])
def test_what_isnt_text_is_refused_and_never_a_float_read_as_money(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="decimal number"):
        usd_to_nanos(wrong)


def test_an_amount_of_thirty_digits_isnt_rounded_into_an_exact_one() -> None:
    # Decimal's own product keeps 28 digits, so this one would pass as exactly 123456789 USD.
    with pytest.raises(InvalidInput, match="exact"):
        usd_to_nanos("123456789.000000000000000000001")


def test_the_callers_decimal_precision_changes_no_amount() -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        assert usd_to_nanos("1234.567890123") == 1_234_567_890_123


def test_r15_a_price_is_integer_pico_usd_a_unit() -> None:
    assert price_per_million_to_picos("0.06875") == 68_750
    assert price_per_million_to_picos("0.000001") == 1
    assert price_per_unit_to_picos("0.01") == 10_000_000_000
    assert price_per_unit_to_picos("1.5e-07") == 150_000


@pytest.mark.parametrize(
    "refused", [("0.0000001", price_per_million_to_picos), ("1e-13", price_per_unit_to_picos)]
)
def test_a_price_that_isnt_exact_in_picos_is_refused(refused: tuple[str, object]) -> None:
    text, read = refused
    assert callable(read)
    with pytest.raises(InvalidPrice, match="input_price: must be exact in pico-USD"):
        read(text, field="input_price")


@given(st.integers(min_value=-MAX_NANOS, max_value=MAX_NANOS))
def test_nanos_are_shown_exactly_with_at_least_two_decimals(nanos: int) -> None:
    text = nanos_to_usd(nanos)
    assert Fraction(text) * 10**9 == nanos
    assert len(text.partition(".")[2]) >= 2
    if nanos >= 0:
        assert usd_to_nanos(text) == nanos


@pytest.mark.parametrize(
    ("nanos", "text"), [(0, "0.00"), (-500_000_000, "-0.50"), (1_000_000_001, "1.000000001")]
)
def test_amounts_look_as_documented(nanos: int, text: str) -> None:
    assert nanos_to_usd(nanos) == text


@given(st.decimals(min_value=0, max_value=9_000_000_000, places=12, allow_nan=False))
def test_an_amount_is_read_exactly_or_refused(amount: decimal.Decimal) -> None:
    nanos = Fraction(amount) * 10**9
    if nanos.denominator == 1:
        assert usd_to_nanos(f"{amount:f}") == nanos
        assert usd_to_nanos(f"{amount:E}") == nanos
    else:
        with pytest.raises(InvalidInput, match="exact"):
            usd_to_nanos(f"{amount:f}")


@given(st.integers(min_value=0, max_value=10**24))
def test_picos_round_half_to_even(picos: int) -> None:
    assert picos_to_nanos(picos) == round(Fraction(picos, 1_000))


@given(st.integers(min_value=-(10**19), max_value=10**19))
def test_r31_cents_round_half_to_even_on_both_sides_of_zero(nanos: int) -> None:
    assert nanos_to_cents(nanos) == round(Fraction(nanos, 10_000_000))


@pytest.mark.parametrize(
    ("nanos", "cents"),
    [(4_999_999, 0), (5_000_000, 0), (5_000_001, 1), (15_000_000, 2), (-5_000_000, 0)],
)
def test_r31_a_half_cent_goes_to_the_even_cent(nanos: int, cents: int) -> None:
    assert nanos_to_cents(nanos) == cents
