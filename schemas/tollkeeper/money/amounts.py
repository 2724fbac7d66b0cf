"""Money as integers: nano-USD for amounts, pico-USD for prices of one unit. No float anywhere.

Must not know events, rate cards or storage.
"""

from __future__ import annotations

import re

from tollkeeper.errors import InvalidInput, InvalidPrice

NANOS_PER_USD = 1_000_000_000
NANOS_PER_CENT = 10_000_000
PICOS_PER_NANO = 1_000
PICOS_PER_USD = 1_000_000_000_000
# The gate counts in micro-USD inside doubles, exact to 2^53; a larger cap couldn't be enforced.
MAX_CAP_NANOS = 2**53 * 1_000
MAX_NANOS = 2**63 - 1
_MAX_DIGITS = 19
# ASCII digits; the exponent is for price maps, which write 1.5e-07.
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?=\.?[0-9])(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?"
    r"(?:[eE](?P<exponent>[+-]?[0-9]{1,3}))?"
)


def usd_to_nanos(text: str, *, field: str = "usd") -> int:
    """Decimal USD as text ("12.5") to integer nano-USD; refuses what isn't exact in nano-USD."""
    return _scaled(text, 9, InvalidInput, field, "nano-USD")


def nanos_to_usd(nanos: int) -> str:
    """Integer nano-USD to an exact decimal string, at least two decimals ("-0.50", "1.000000001")."""
    sign = "-" if nanos < 0 else ""
    whole, rest = divmod(abs(nanos), NANOS_PER_USD)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"


def price_per_million_to_picos(text: str, *, field: str = "price") -> int:
    """USD per million tokens as text to integer pico-USD per token ("0.06875" is 68750)."""
    return _scaled(text, 6, InvalidPrice, field, "pico-USD per token")


def price_per_unit_to_picos(text: str, *, field: str = "price") -> int:
    """USD per single unit (one token, one request) as text to integer pico-USD ("0.01" is 10^10)."""
    return _scaled(text, 12, InvalidPrice, field, "pico-USD")


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


def _scaled(text: str, places: int, error: type[InvalidInput], field: str, unit: str) -> int:
    """`text` times ten to the power of `places`, in integers: a Decimal's product is rounded."""
    parts = _NUMBER.fullmatch(text.strip()) if isinstance(text, str) else None
    if parts is None:
        raise error(field, f"must be a decimal number in USD, not {_shown(text)}")
    whole, fraction = parts["whole"] or "", parts["fraction"] or ""
    digits = (whole + fraction).strip("0")
    if parts["sign"] == "-" and digits:
        raise error(field, f"must be zero or more, not {_shown(text)}")
    if not digits:
        return 0
    trailing = len(whole + fraction) - len((whole + fraction).rstrip("0"))
    shift = trailing - len(fraction) + int(parts["exponent"] or "0") + places
    if shift < 0:
        raise error(field, f"must be exact in {unit}, which {_shown(text)} isn't")
    scaled = int(digits + "0" * shift) if len(digits) + shift <= _MAX_DIGITS else MAX_NANOS + 1
    if scaled > MAX_NANOS:
        raise error(field, f"is out of range: {_shown(text)}")
    return scaled


def _shown(text: object) -> str:
    return ascii(text)[:60]
