"""A made-up workload, seeded: shaped like the public traces, with everything a rate card prices.

The same load gives the same usage, byte for byte, on every machine and Python: of the random generator
only `random()` is used, whose sequence Python promises to keep, and no logarithm or power is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import accumulate
from random import Random

import msgspec

from tollkeeper.errors import InvalidInput
from tollkeeper.events.rules import instant
from tollkeeper.metering.usage import Usage
from tollkeeper.money.instants import MICROS_PER_DAY
from tollkeeper.workloads import shape
from tollkeeper.workloads.arrivals import arrivals
from tollkeeper.workloads.event_ids import time_ordered_id
from tollkeeper.workloads.mooncake import BLOCK_TOKENS
from tollkeeper.workloads.population import (
    MODELS,
    SURFACES,
    Population,
    draw,
    numbered_organizations,
    zipf_weights,
)

US_MODELS = frozenset(MODELS) - {"claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"}
"""Models with a price for the region `us`."""

FAST_MODELS = frozenset({"claude-opus-5", "claude-opus-4-8", "claude-opus-5-5"})
"""Models with a price for the speed `fast`."""

AGENT_SURFACES = frozenset({"claude_code", "cowork"})
"""Here prompts are long and cached, as in the Mooncake trace; elsewhere short, as in Azure's."""

MAX_EVENTS = 2**28
MAX_DAYS = 3_660
_LONG_CACHE_SHARE = 0.2  # of the calls with a cache, how many write for an hour
_SEARCH_SHARE = 0.04  # of the calls without one, how many search the web


Counts = tuple[int, int, int, int, int, int]
"""In the order of events.usage.TOKEN_TYPES."""


class SyntheticLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What to make up. `ending_at` is in microseconds since the epoch; the shares are of all calls.

    A call is batch, or in the region `us`, or fast, or none of these: never two at once. Models that
    have no such price make up for it with standard calls.
    """

    seed: int
    events: int
    organizations: int = 3
    members_per_organization: int = 25
    days: int = 30
    ending_at: int
    batch_share: float = 0.08
    us_share: float = 0.10
    fast_share: float = 0.03

    def __post_init__(self) -> None:
        instant("ending_at", self.ending_at)
        _within("events", self.events, 0, MAX_EVENTS)
        _within("organizations", self.organizations, 1, 100_000)
        _within("days", self.days, 1, MAX_DAYS)
        instant("days", self.ending_at - self.days * MICROS_PER_DAY)
        shares = (self.batch_share, self.us_share, self.fast_share)
        if min(shares) < 0 or not sum(shares) <= 1:
            raise InvalidInput(
                "batch_share", "and us_share and fast_share must add up to at most 1"
            )
        _ = self.population  # which has rules of its own

    @property
    def population(self) -> Population:
        """Who there is in this load: to open the organizations and add the members beforehand."""
        return Population(
            organizations=numbered_organizations(self.organizations),
            members_per_organization=self.members_per_organization,
            seed=self.seed,
        )


def synthetic(load: SyntheticLoad) -> Iterator[Usage]:
    """The load's usage in order of time, with event ids that sort the same way."""
    random = Random(load.seed).random
    organizations, members = load.population.organizations, load.population.members
    by_organization, by_member = zipf_weights(len(organizations)), zipf_weights(len(members))
    scenes, by_scene = _scenes()
    salt, tables = _salt(load), _Tables()
    calls = arrivals(load.events, ending_at=load.ending_at, days=load.days, random=random)
    for number, occurred_at in enumerate(calls):
        surface, model, is_agent = scenes[draw(by_scene, random())]
        call = tables.agent_call(random) if is_agent else tables.chat_call(random)
        tier, speed, region = _variant(load, model, random())
        yield Usage(
            event_id=time_ordered_id(occurred_at, salt + number),
            organization=organizations[draw(by_organization, random())],
            member=members[draw(by_member, random())],
            surface=surface,
            model=model,
            input_tokens=call[0],
            output_tokens=call[1],
            cache_read_tokens=call[2],
            cache_write_5m_tokens=call[3],
            cache_write_1h_tokens=call[4],
            web_search_requests=call[5],
            service_tier=tier,
            speed=speed,
            region=region,
            occurred_at=occurred_at,
        )


class _Tables:
    """Lengths to draw from, each in one step."""

    def __init__(self) -> None:
        self._prompt = shape.sampling_table(shape.AZURE_CONTEXT_TOKENS)
        self._answer = shape.sampling_table(shape.AZURE_GENERATED_TOKENS)
        self._long_prompt = shape.sampling_table(shape.MOONCAKE_INPUT_LENGTH)
        self._long_answer = shape.sampling_table(shape.MOONCAKE_OUTPUT_LENGTH)
        self._read = shape.sampling_table(shape.MOONCAKE_READ_PER_MILLE)

    def chat_call(self, random: Callable[[], float]) -> Counts:
        """A short prompt without a cache; now and then with one to three web searches."""
        prompt = self._prompt[int(random() * shape.SAMPLES)]
        answer = self._answer[int(random() * shape.SAMPLES)]
        search = random()
        searches = 1 + int(search / _SEARCH_SHARE * 3) if search < _SEARCH_SHARE else 0
        return prompt, answer, 0, 0, 0, searches

    def agent_call(self, random: Callable[[], float]) -> Counts:
        """A long prompt: its leading full blocks are read, the others written, the rest is uncached."""
        prompt = self._long_prompt[int(random() * shape.SAMPLES)]
        answer = self._long_answer[int(random() * shape.SAMPLES)]
        share = self._read[int(random() * shape.SAMPLES)]
        blocks, rest = divmod(prompt, BLOCK_TOKENS)
        read = blocks * share // 1_000
        write = (blocks - read) * BLOCK_TOKENS
        if random() < _LONG_CACHE_SHARE:
            return rest, answer, read * BLOCK_TOKENS, 0, write, 0
        return rest, answer, read * BLOCK_TOKENS, write, 0, 0


def _scenes() -> tuple[list[tuple[str, str, bool]], list[float]]:
    """Every surface with every model, and the running sums of how often each pair comes."""
    scenes = [
        (surface, model, surface in AGENT_SURFACES) for surface in SURFACES for model in MODELS
    ]
    weights = (
        1 / (surface * model)
        for surface in range(1, len(SURFACES) + 1)
        for model in range(1, len(MODELS) + 1)
    )
    return scenes, list(accumulate(weights))


def _variant(load: SyntheticLoad, model: str, fraction: float) -> tuple[str, str, str]:
    """Service tier, speed and region."""
    if fraction < load.batch_share:
        return "batch", "standard", "global"
    fraction -= load.batch_share
    if fraction < load.us_share:
        return "standard", "standard", "us" if model in US_MODELS else "global"
    if fraction - load.us_share < load.fast_share:
        return "standard", "fast" if model in FAST_MODELS else "standard", "global"
    return "standard", "standard", "global"


def _salt(load: SyntheticLoad) -> int:
    """The first id's tail: other loads begin elsewhere in 62 bits, and count up for MAX_EVENTS."""
    digest = blake2b(msgspec.json.encode(load), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2 & ~(MAX_EVENTS - 1)


def _within(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidInput(field, f"must be from {low} to {high}")
