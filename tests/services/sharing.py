"""Which ways lead to each service, in their order: for the tests' fixtures and for the benchmarks."""

from __future__ import annotations

from contextlib import AbstractContextManager

from services import containers, kafka_local, postgresql_local, redis_local
from services.containers import from_container
from services.finding import Service, found, from_environment, from_here


def a_kafka() -> AbstractContextManager[Service]:
    """A broker, `host:port`; TOLLKEEPER_TEST_KAFKA names one that runs already."""
    ways = [
        from_environment("TOLLKEEPER_TEST_KAFKA"),
        from_container(containers.KAFKA_IMAGE, containers.kafka),
        from_here(kafka_local.why_unavailable, kafka_local.LocalKafka),
    ]
    return found("Kafka", ways)


def a_postgresql() -> AbstractContextManager[Service]:
    """A server, a SQLAlchemy URL; TOLLKEEPER_TEST_POSTGRESQL names one that runs already."""
    ways = [
        from_environment("TOLLKEEPER_TEST_POSTGRESQL"),
        from_container(containers.POSTGRESQL_IMAGE, containers.postgresql),
        from_here(postgresql_local.why_unavailable, postgresql_local.LocalPostgres),
    ]
    return found("PostgreSQL", ways)


def a_redis() -> AbstractContextManager[Service]:
    """A server, a URL; TOLLKEEPER_TEST_REDIS names one that runs already."""
    ways = [
        from_environment("TOLLKEEPER_TEST_REDIS"),
        from_container(containers.REDIS_IMAGE, containers.redis),
        from_here(redis_local.why_unavailable, redis_local.LocalRedis),
    ]
    return found("Redis", ways)


def a_valkey() -> AbstractContextManager[Service]:
    """A server, a URL; TOLLKEEPER_TEST_VALKEY names one that runs already."""
    ways = [
        from_environment("TOLLKEEPER_TEST_VALKEY"),
        # Its wheel is among what every test run has installed, so no container is asked for.
        from_here(lambda: None, redis_local.local_valkey),
    ]
    return found("Valkey", ways)
