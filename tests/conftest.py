"""Services that several test modules share, started once a run and only when a test asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import settings
from services import kafka_local
from services.finding import Service, found, from_environment

# How long one example takes says something about the machine's other work, not about the code.
settings.register_profile("tollkeeper", deadline=None)
settings.load_profile("tollkeeper")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Service]:
    """A Kafka broker, `host:port`; TOLLKEEPER_TEST_KAFKA names one that runs already."""

    @contextmanager
    def local() -> Iterator[str]:
        broker = kafka_local.LocalKafka()
        try:
            broker.start()
            yield broker.address
        finally:
            broker.close()

    ways = [
        from_environment("TOLLKEEPER_TEST_KAFKA"),
        ("local", kafka_local.why_unavailable, local),
    ]
    with found("Kafka", ways) as service:
        yield service
