"""Examples of what the gate decides, on Redis and on Valkey."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from gate.scenarios_copy import COPY
from gate.scenarios_enforcement import ENFORCEMENT
from gate.scenarios_following import FOLLOWING
from gate.scenarios_money import MONEY
from gate.scenarios_trust import TRUST
from gate.servers import Server, told_the_time
from gate.world import World
from services.finding import Service


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    service: Service = request.getfixturevalue(request.param)
    with told_the_time(service.address) as server:
        yield server


@pytest.mark.parametrize(
    "scenario", [*MONEY, *COPY, *TRUST, *FOLLOWING, *ENFORCEMENT], ids=lambda one: one.__name__
)
def test_scenario(scenario: Callable[[World], None], server: Server) -> None:
    scenario(World(server))
