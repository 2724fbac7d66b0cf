"""A broker of these tests' own with a proxy before it, and an installation on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from on_kafka.installation import Installation
from services import kafka_local
from services.finding import found
from services.kafka_local import LocalKafka
from services.kafka_proxy import KafkaProxy

Install = Callable[..., Installation]


@pytest.fixture(scope="session")
def broker() -> Iterator[LocalKafka]:
    """A broker that tests may kill and spoil; each leaves it running."""
    brokers: list[LocalKafka] = []

    @contextmanager
    def local() -> Iterator[str]:
        broker = LocalKafka()
        try:
            broker.start()
            brokers.append(broker)
            yield broker.address
        finally:
            broker.close()

    with found("Kafka that tests may kill", [("local", kafka_local.why_unavailable, local)]):
        yield brokers[0]


@pytest.fixture
def proxy(broker: LocalKafka) -> Iterator[KafkaProxy]:
    """A proxy before the broker, that passes everything until it is told otherwise."""
    proxy = KafkaProxy(broker.proxy, broker.behind)
    proxy.accept()
    yield proxy
    proxy.refuse()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)])
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The database of a test, empty; `on_postgresql` asks for one of them alone."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    return f"sqlite:///{tmp_path}/ledger.sqlite"


@pytest.fixture
def install(broker: LocalKafka, sql_url: str, tmp_path: Path) -> Iterator[Install]:
    """Makes this test's installation; by default it speaks to the broker without a proxy."""
    with ExitStack() as stack:

        def made(*, address: str = broker.address, session_timeout_s: float = 2.0) -> Installation:
            home = tmp_path / "home"
            home.mkdir()
            installation = Installation(home, address, sql_url, session_timeout_s=session_timeout_s)
            stack.callback(installation.close)
            return installation

        yield made


@pytest.fixture
def installation(install: Install) -> Installation:
    """An installation that is set up: prices published, an organization on every partition."""
    made = install()
    made.set_up()
    return made
