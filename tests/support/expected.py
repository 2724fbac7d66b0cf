"""What usage must cost: an independent sum, from a price list of its own and in exact fractions."""

from __future__ import annotations

from fractions import Fraction

from tollkeeper.metering.usage import Usage

# USD per million tokens: input, output, read, write 5m, write 1h; as published in November 2026.
PRICES = {
    "claude-fable-5-1": ("10", "50", "0.25", "12.50", "20"),
    "claude-mythos-5-1": ("10", "50", "0.25", "12.50", "20"),
    "claude-fable-5": ("10", "50", "1", "12.50", "20"),
    "claude-mythos-5": ("10", "50", "1", "12.50", "20"),
    "claude-opus-5-5": ("4", "20", "0.20", "5", "8"),
    "claude-sonnet-5-5": ("2", "10", "0.10", "2.50", "4"),
    "claude-sonnet-5": ("2", "10", "0.20", "2.50", "4"),
    "claude-sonnet-4-6": ("3", "15", "0.30", "3.75", "6"),
    "claude-sonnet-4-5": ("3", "15", "0.30", "3.75", "6"),
    "claude-haiku-5-5": ("0.10", "0.50", "0.01", "0.125", "0.20"),
    "claude-haiku-4-5": ("1", "5", "0.10", "1.25", "2"),
    **{
        f"claude-opus-{version}": ("5", "25", "0.50", "6.25", "10")
        for version in ("5", "4-8", "4-7", "4-6", "4-5")
    },
}
TOKEN_TYPES = (
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "web_search",
)
FACTORS = {"batch": Fraction(1, 2), "us": Fraction(11, 10), "fast": Fraction(2)}


def expected_nanos(usage: Usage) -> int:
    """What the call costs."""
    return sum(expected_parts(usage).values())


def expected_parts(usage: Usage) -> dict[str, int]:
    """What each token type costs, rounded half to even to nano-USD."""
    prompt = (
        usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_5m_tokens
        + usage.cache_write_1h_tokens
    )
    factor = Fraction(5 if usage.model == "claude-haiku-5-5" and prompt > 100_000 else 1)
    for variant in (usage.service_tier, usage.region, usage.speed):
        factor *= FACTORS.get(variant, Fraction(1))
    counts = (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
    )
    parts = [
        round(Fraction(price) * factor * 1_000 * count)
        for price, count in zip(PRICES[usage.model], counts, strict=True)
    ]
    return dict(zip(TOKEN_TYPES, [*parts, usage.web_search_requests * 10_000_000], strict=True))
