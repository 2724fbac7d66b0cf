"""How long real model calls are: quantiles of two public traces, and sampling tables made of them.

Computed from the files by nearest rank; a test repeats it where the files are at hand:
- Azure LLM inference trace 2023, conversation (Microsoft, CC-BY 4.0; Patel et al., "Splitwise", ISCA
  2024): 19,366 calls. Short prompts, no cache.
- Mooncake conversation trace (FAST'25, Apache-2.0): 12,031 calls. Long prompts with a prefix cache.

Between two quantiles values are taken as evenly spread, in integers: logarithms differ in the last digit
from one C library to another, and a workload has to be the same everywhere.
"""

from __future__ import annotations

from bisect import bisect_left

PER_MILLE = (
    *(0, 1, 10, 25, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500),
    *(550, 600, 650, 700, 750, 800, 850, 900, 950, 975, 990, 999, 1000),
)
"""At which thousandth of the sorted calls each quantile below stands; 0 is the least."""

AZURE_CONTEXT_TOKENS = (
    *(2, 8, 29, 120, 181, 207, 372, 387, 396, 403, 414, 703, 984, 1020),
    *(1045, 1071, 1097, 1130, 1189, 1315, 1877, 2735, 4083, 4092, 4142, 6212, 14050),
)
AZURE_GENERATED_TOKENS = (
    *(7, 12, 16, 28, 41, 54, 67, 77, 85, 91, 96, 103, 113, 129),
    *(151, 177, 217, 384, 395, 400, 411, 424, 451, 522, 601, 954, 1000),
)
MOONCAKE_INPUT_LENGTH = (
    *(891, 892, 894, 896, 901, 964, 1261, 1662, 2306, 3263, 4250, 4993, 5870, 6909),
    *(8187, 9570, 11239, 13196, 15368, 17869, 21467, 27367, 39552, 59009, 85401, 121301, 126195),
)
MOONCAKE_OUTPUT_LENGTH = (
    *(1, 1, 3, 3, 10, 24, 46, 100, 156, 213, 256, 291, 322, 350),
    *(375, 399, 423, 447, 472, 504, 543, 597, 698, 836, 1120, 2000, 2000),
)
MOONCAKE_READ_PER_MILLE = (
    *(0, 4, 7, 11, 17, 27, 37, 50, 66, 83, 111, 142, 234, 333),
    *(352, 500, 500, 500, 666, 793, 875, 928, 964, 979, 994, 1000, 1000),
)
"""Of a prompt's blocks, how many thousandths were in the cache (rounded down)."""

SAMPLES = 4_096


def sampling_table(quantiles: tuple[int, ...]) -> tuple[int, ...]:
    """SAMPLES values spread as the quantiles say: an evenly drawn one has their distribution."""
    return tuple(_at(quantiles, 2 * place + 1) for place in range(SAMPLES))


def _at(quantiles: tuple[int, ...], halves: int) -> int:
    """The value at halves / (2 * SAMPLES) of the whole, on the line between its two neighbours."""
    whole = 2 * SAMPLES
    right = bisect_left(PER_MILLE, halves * 1_000 / whole)
    low, high = PER_MILLE[right - 1], PER_MILLE[right]
    # All in units of 1 / (1000 * whole), so that nothing is rounded before the division.
    way, gap = halves * 1_000 - low * whole, (high - low) * whole
    return quantiles[right - 1] + (quantiles[right] - quantiles[right - 1]) * way // gap
