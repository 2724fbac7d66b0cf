"""A desk at a real server, on Redis and on Valkey."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from gate.servers import Server, told_the_time
from gate_sdk.desk import Desk
from services.finding import Service

from tollkeeper.gate.sdk import GateSettings

DeskMaker = Callable[..., Desk]


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    service: Service = request.getfixturevalue(request.param)
    with told_the_time(service.address) as server:
        yield server


@pytest.fixture
def make_desk(server: Server, tmp_path: Path) -> Iterator[DeskMaker]:
    """Desks that aren't ready yet, each with a world and a spool of its own."""
    made: list[Desk] = []
    numbers = count()

    def make(settings: GateSettings | None = None) -> Desk:
        made.append(Desk(server, tmp_path / f"spool-{next(numbers)}", settings))
        return made[-1]

    yield make
    for desk in made:
        desk.emitter.abandon()


@pytest.fixture
def desk(make_desk: DeskMaker) -> Desk:
    """One that is ready: the organization's cap is 50, its members' 30, its credits 100 micro-USD."""
    return make_desk().ready()
