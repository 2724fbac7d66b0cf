"""Money as integers: nano-USD for amounts, pico-USD for prices of one unit. No float anywhere.

Must not know events, rate cards or storage.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from tollkeeper.errors import InvalidInput, InvalidPrice

NANOS_PER_USD = 1_000_000_000
NANOS_PER_CENT = 10_000_000
PICOS_PER_NANO = 1_000
PICOS_PER_USD = 1_000_000_000_000
# The gate counts in micro-USD inside doubles, exact to 2^53; a larger cap couldn't be enforced.
MAX_CAP_NANOS = 2**53 * 1_000
MAX_NANOS = 2**63 - 1


def usd_to_nanos(text: str, *, field: str = "usd") -> int:
    """Decimal USD as text ("12.5") to integer nano-USD; refuses what isn't exact in nano-USD."""
    return _scaled(text, Decimal(NANOS_PER_USD), InvalidInput, field, "nano-USD")


def nanos_to_usd(nanos: int) -> str:
    """Integer nano-USD to an exact decimal string, at least two decimals ("-0.50", "1.000000001")."""
    sign = "-" if nanos < 0 else ""
    whole, rest = divmod(abs(nanos), NANOS_PER_USD)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def price_per_million_to_picos(text: str, *, field: str = "price") -> int:
    """USD per million tokens as text to integer pico-USD per token ("0.06875" is 68750)."""
    return _scaled(text, Decimal(1_000_000), InvalidPrice, field, "pico-USD per token")


def price_per_unit_to_picos(text: str, *, field: str = "price") -> int:
    """USD per single unit (one token, one request) as text to integer pico-USD ("0.01" is 10^10)."""
    return _scaled(text, Decimal(PICOS_PER_USD), InvalidPrice, field, "pico-USD")


def picos_to_nanos(picos: int) -> int:
    """Pico-USD to nano-USD, rounded half to even. `picos` must not be negative."""
    nanos, rest = divmod(picos, PICOS_PER_NANO)
    if rest > 500 or (rest == 500 and nanos & 1):
        nanos += 1
    return nanos


def nanos_to_cents(nanos: int) -> int:
    """Nano-USD to whole cents, rounded half to even: once per invoice total (RULES R31)."""
    cents, rest = divmod(nanos, NANOS_PER_CENT)
    half = NANOS_PER_CENT // 2
    if rest > half or (rest == half and cents & 1):
        cents += 1
    return cents


def _scaled(text: str, scale: Decimal, error: type[InvalidInput], field: str, unit: str) -> int:
    try:
        number = Decimal(text.strip())
    except (InvalidOperation, AttributeError):
        raise error(field, f"must be a decimal number in USD, not {text!r}") from None
    if not number.is_finite() or number < 0:
        raise error(field, f"must be a finite number of USD, zero or more, not {text!r}")
    if number.adjusted() > 12 or len(number.as_tuple().digits) > 30:
        raise error(field, f"is out of range: {text!r}")
    scaled = number * scale
    if scaled != scaled.to_integral_value():
        raise error(field, f"must be exact in {unit}, which {text!r} isn't")
    if scaled > MAX_NANOS:
        raise error(field, f"is out of range: {text!r}")
    return int(scaled)
