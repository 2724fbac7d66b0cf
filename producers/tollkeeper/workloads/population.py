"""Who there is to use models in a workload, and how unevenly: few do most, as everywhere.

The n-th organization, member, surface or model is drawn in proportion to 1/n (Zipf's law with exponent
1: division is the same on every machine, powers aren't). Must not know traces or times.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate

import msgspec

from tollkeeper.errors import InvalidInput
from tollkeeper.events.ids import check_organization

SURFACES = ("claude_code", "web", "desktop", "cowork", "mobile")
MODELS = (
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-haiku-5-5",
    "claude-sonnet-5",
    "claude-opus-5",
    "claude-haiku-4-5",
    "claude-sonnet-4-6",
    "claude-opus-4-8",
    "claude-fable-5-1",
    "claude-opus-4-7",
    "claude-sonnet-4-5",
    "claude-opus-4-6",
    "claude-fable-5",
    "claude-opus-4-5",
    "claude-mythos-5-1",
    "claude-mythos-5",
)
"""Every model of the built-in rate card, the most used first."""

MAX_ORGANIZATIONS = 100_000
MAX_MEMBERS = 100_000
MAX_SEED = 2**63


class Population(msgspec.Struct, frozen=True, kw_only=True):
    """The organizations of a workload, the busiest first, and how many members each has."""

    organizations: tuple[str, ...]
    members_per_organization: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(set(self.organizations)) == len(self.organizations) <= MAX_ORGANIZATIONS:
            raise InvalidInput("organizations", f"must be 1 to {MAX_ORGANIZATIONS} different ids")
        for organization in self.organizations:
            check_organization("organizations", organization)
        if not 1 <= self.members_per_organization <= MAX_MEMBERS:
            raise InvalidInput("members_per_organization", f"must lie in 1 to {MAX_MEMBERS}")
        if not 0 <= self.seed < MAX_SEED:
            raise InvalidInput("seed", f"must be from 0 to below {MAX_SEED}")

    @property
    def members(self) -> tuple[str, ...]:
        """The members' ids, the busiest first: the same in every organization."""
        return tuple(f"member-{n:03d}" for n in range(1, self.members_per_organization + 1))


def numbered_organizations(count: int) -> tuple[str, ...]:
    """Ids of `count` made-up organizations: org-001, org-002, …"""
    return tuple(f"org-{n:03d}" for n in range(1, count + 1))


DEFAULT_POPULATION = Population(organizations=numbered_organizations(3))


class Cast(msgspec.Struct, frozen=True, gc=False):
    """Who made one call, where and with which model."""

    organization: str
    member: str
    surface: str
    model: str


class Casting:
    """Draws casts from a population. Two castings of equal populations agree on every call."""

    def __init__(self, population: Population) -> None:
        self._choices = (population.organizations, population.members, SURFACES, MODELS)
        self._weights = tuple(zipf_weights(len(choice)) for choice in self._choices)
        self._key = population.seed.to_bytes(8, "big")

    def cast(self, call: bytes) -> Cast:
        """The cast of the call that `call` identifies: the same for the same bytes and seed."""
        digest = blake2b(call, key=self._key, digest_size=32).digest()
        organization, member, surface, model = (
            self._pick(which, int.from_bytes(digest[8 * which : 8 * which + 8], "big"))
            for which in range(4)
        )
        return Cast(organization, member, surface, model)

    def _pick(self, which: int, bits: int) -> str:
        # 53 bits make a fraction below 1 that a float holds exactly.
        return self._choices[which][draw(self._weights[which], (bits >> 11) * 2.0**-53)]


def zipf_weights(count: int) -> list[float]:
    """The running sums of 1, 1/2, … 1/count."""
    return list(accumulate(1 / n for n in range(1, count + 1)))


def draw(weights: Sequence[float], fraction: float) -> int:
    """The place on which `fraction` (from 0 to below 1) falls among running sums."""
    return min(bisect_right(weights, fraction * weights[-1]), len(weights) - 1)
