"""How reports show money and time in documents (CLI.md: integer nanos and an exact decimal twin)."""

from __future__ import annotations

from tollkeeper.money.amounts import PICOS_PER_USD, nanos_to_usd
from tollkeeper.money.instants import format_instant


def money(name: str, nanos: int | None) -> dict[str, object]:
    """`{name}_nanos` and its decimal twin `{name}_usd`; null stays null."""
    return {f"{name}_nanos": nanos, f"{name}_usd": None if nanos is None else nanos_to_usd(nanos)}


def price(picos: int) -> dict[str, object]:
    """The price of one unit: integer pico-USD and the exact decimal twin."""
    whole, rest = divmod(picos, PICOS_PER_USD)
    decimals = f"{rest:012d}".rstrip("0").ljust(2, "0")
    return {"price_picos": picos, "price_usd": f"{whole}.{decimals}"}


def instant(micros: int | None) -> str | None:
    """RFC 3339 in UTC; null stays null."""
    return None if micros is None else format_instant(micros)
