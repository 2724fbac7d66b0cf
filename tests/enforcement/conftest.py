"""A service side on SQLite, with Redis 7 and with Valkey; some tests ask for PostgreSQL as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from enforcement.world import World, a_world
from services.finding import Service


@pytest.fixture(params=["redis", "valkey"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Nothing is folded yet, and no epoch was begun."""
    server: Service = request.getfixturevalue(request.param)
    with a_world(server.address, f"sqlite:///{tmp_path}/ledger.sqlite", tmp_path) as world:
        yield world


@pytest.fixture
def valkey_world(valkey: Service, tmp_path: Path) -> Iterator[World]:
    """The same, for what takes its time."""
    with a_world(valkey.address, f"sqlite:///{tmp_path}/ledger.sqlite", tmp_path) as world:
        yield world


@pytest.fixture(params=["sqlite", "postgresql"])
def either_world(
    request: pytest.FixtureRequest, valkey: Service, tmp_path: Path
) -> Iterator[World]:
    """The same, on either database."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    with a_world(valkey.address, url, tmp_path) as world:
        yield world
