"""Prices times factors, exactly: a product that isn't whole in pico-USD is refused, never rounded.

Must not use floats or `decimal`, which rounds to 28 digits and takes what is too small for zero.
"""

from __future__ import annotations

import re
from fractions import Fraction

from tollkeeper.errors import InvalidPrice
from tollkeeper.events.rules import MAX_REQUEST_PICOS, MAX_TOKEN_PICOS
from tollkeeper.money.amounts import PICOS_PER_USD, price_per_unit_to_picos

MAX_FACTOR = 100
_FACTOR = re.compile(r"[0-9]{1,3}(\.[0-9]{1,12})?")


def read_factor(text: str, *, field: str) -> Fraction:
    """A factor such as "0.5" or "1.1", above 0 and at most `MAX_FACTOR`."""
    if _FACTOR.fullmatch(text) is None:
        raise InvalidPrice(field, f"must be a decimal number such as 1.1, not {ascii(text)[:60]}")
    factor = Fraction(text)
    if not 0 < factor <= MAX_FACTOR:
        raise InvalidPrice(field, f"must be above 0 and at most {MAX_FACTOR}, not {text}")
    return factor


def token_price(picos: int, factor: Fraction, *, field: str) -> int:
    """The price of one token times a factor, in pico-USD."""
    product = picos * factor
    if product.denominator != 1:
        raise InvalidPrice(
            field, f"must be exact in pico-USD per token, which {picos} times {factor} isn't"
        )
    return _bounded(int(product), MAX_TOKEN_PICOS, "token", field)


def request_price(text: str, *, field: str) -> int:
    """The price of one request, from USD as text."""
    return _bounded(price_per_unit_to_picos(text, field=field), MAX_REQUEST_PICOS, "request", field)


def _bounded(picos: int, most_picos: int, unit: str, field: str) -> int:
    if picos > most_picos:
        raise InvalidPrice(field, f"must be at most {most_picos // PICOS_PER_USD} USD a {unit}")
    return picos
