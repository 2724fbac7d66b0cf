"""What product services are told through Redis: the rate card, and what to do when the gate can't know.

Kept while Redis is away. Must not know SQL.
"""

from __future__ import annotations

import base64

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.codec import decode
from tollkeeper.events.prices import PricesPublished
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.sdk.policies import CLOSED, EVERYBODY, Policy, parse_policy
from tollkeeper.gate.sdk.ports import Functions
from tollkeeper.rating.card import RateCard
from tollkeeper.rating.worst_case import WorstCases


class Published:
    """`prices` is None until any were read."""

    def __init__(self) -> None:
        self.prices: WorstCases | None = None
        self.policies: dict[str, Policy] = {}
        self._prices_version = 0
        self._policies_version = 0

    def policy_of(self, organization: str, now: int) -> Policy:
        """The policy in force; its own goes before everybody's."""
        for name in (organization, EVERYBODY):
            policy = self.policies.get(name)
            if policy is not None and (policy.until is None or now < policy.until):
                return policy
        return CLOSED

    def read(self, functions: Functions, touched: a.Touched, *, tag: str) -> None:
        """Read what is newer. A server that was just begun has nothing yet: what was read stays."""
        if touched.prices_version > self._prices_version:
            found = functions.run(encoding.published("prices", tag=tag))
            self.prices = WorstCases(RateCard(_publication(item) for item in found.items))
            self._prices_version = found.version
        if touched.policies_version > self._policies_version:
            found = functions.run(encoding.published("policies", tag=tag))
            self.policies = dict(parse_policy(item) for item in found.items)
            self._policies_version = found.version


def _publication(item: str) -> PricesPublished:
    event = decode(base64.b64decode(item))
    if not isinstance(event, PricesPublished):
        raise BrokenInvariant(f"a {type(event).__name__} is published among the prices")
    return event
