"""Services that several test modules share, started once a run and only when a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings
from services import containers, kafka_local, postgresql_local, redis_local
from services.containers import from_container
from services.databases import new_database
from services.finding import Service, found, from_environment, from_here
from support.stores import Embedded, Postgresql, Store

# How long one example takes says something about the machine's other work, not about the code.
settings.register_profile("tollkeeper", deadline=None)
settings.load_profile("tollkeeper")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Service]:
    """A Kafka broker, `host:port`; TOLLKEEPER_TEST_KAFKA names one that runs already."""
    ways = [
        from_environment("TOLLKEEPER_TEST_KAFKA"),
        from_container(containers.KAFKA_IMAGE, containers.kafka),
        from_here(kafka_local.why_unavailable, kafka_local.LocalKafka),
    ]
    with found("Kafka", ways) as service:
        yield service


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Service]:
    """A PostgreSQL server, a SQLAlchemy URL; TOLLKEEPER_TEST_POSTGRESQL names one that runs already."""
    ways = [
        from_environment("TOLLKEEPER_TEST_POSTGRESQL"),
        from_container(containers.POSTGRESQL_IMAGE, containers.postgresql),
        from_here(postgresql_local.why_unavailable, postgresql_local.LocalPostgres),
    ]
    with found("PostgreSQL", ways) as service:
        yield service


@pytest.fixture
def postgresql_url(postgresql: Service) -> Iterator[str]:
    """An empty database of this test's own."""
    with new_database(postgresql.address) as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Where the ledger stands: a test that asks for it runs on both."""
    if request.param == "sqlite":
        yield Embedded()
        return
    server: Service = request.getfixturevalue("postgresql")
    with ExitStack() as stack:
        yield Postgresql(server.address, stack)


@pytest.fixture(scope="session")
def redis() -> Iterator[Service]:
    """A Redis server, a URL; TOLLKEEPER_TEST_REDIS names one that runs already."""
    ways = [
        from_environment("TOLLKEEPER_TEST_REDIS"),
        from_container(containers.REDIS_IMAGE, containers.redis),
        from_here(redis_local.why_unavailable, redis_local.LocalRedis),
    ]
    with found("Redis", ways) as service:
        yield service
