"""Services that several test modules share, started once a run and only when a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings
from services.databases import new_database
from services.finding import Service
from services.sharing import a_kafka, a_postgresql, a_redis, a_valkey
from support.stores import Embedded, Postgresql, Store

# How long one example takes says something about the machine's other work, not about the code.
settings.register_profile("tollkeeper", deadline=None)
settings.load_profile("tollkeeper")


LONGEST = ("test_simulation.py",)
"""Files that begin first, so that no worker is left alone with one in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order in which files are handed out to workers."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Service]:
    """A Kafka broker, `host:port`; TOLLKEEPER_TEST_KAFKA names one that runs already."""
    with a_kafka() as service:
        yield service


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Service]:
    """A PostgreSQL server, a SQLAlchemy URL; TOLLKEEPER_TEST_POSTGRESQL names one that runs already."""
    with a_postgresql() as service:
        yield service


@pytest.fixture
def postgresql_url(postgresql: Service) -> Iterator[str]:
    """An empty database of this test's own."""
    with new_database(postgresql.address) as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Where the ledger stands: a test that asks for it runs on both."""
    yield from _store(request)


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)]
)
def either_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """The same, with PostgreSQL in the soak alone: for what mustn't differ and takes its time."""
    yield from _store(request)


def _store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "sqlite":
        yield Embedded()
        return
    server: Service = request.getfixturevalue("postgresql")
    with ExitStack() as stack:
        yield Postgresql(server.address, stack)


@pytest.fixture(scope="session")
def redis() -> Iterator[Service]:
    """A Redis server, a URL; TOLLKEEPER_TEST_REDIS names one that runs already."""
    with a_redis() as service:
        yield service


@pytest.fixture(scope="session")
def valkey() -> Iterator[Service]:
    """A Valkey server, a URL; TOLLKEEPER_TEST_VALKEY names one that runs already."""
    with a_valkey() as service:
        yield service
