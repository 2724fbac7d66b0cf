"""A product service that takes one hold in each organization and then only lives, until it is killed.

`python -m at_the_cap.child_holder USD ORGANIZATION…`; says `held` when it has them.
"""

from __future__ import annotations

import sys

from at_the_cap.service import MEMBERS, MODEL, READY_S, SURFACE, say

from tollkeeper.gate.sdk import Gate, GateSettings

PATIENT = GateSettings(warm_wait_s=30.0)


def main(usd: str, *organizations: str) -> None:
    """Hold, and wait."""
    gate = Gate.open(settings=PATIENT)
    assert gate.wait_until_ready(READY_S), gate.stats().trouble
    holds = [
        gate.hold(
            organization=name, member=MEMBERS[0], surface=SURFACE, model=MODEL, max_cost_usd=usd
        )
        for name in organizations
    ]
    say("held")
    sys.stdin.read()
    assert len(holds) == len(organizations)


if __name__ == "__main__":
    main(*sys.argv[1:])
