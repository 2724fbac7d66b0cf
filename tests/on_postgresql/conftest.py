"""A PostgreSQL of these tests' own with a proxy before it, and an installation on it and an embedded log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from on_kafka.installation import Installation
from services import postgresql_local
from services.databases import new_database
from services.finding import found
from services.kafka_local import free_port
from services.postgresql_local import LocalPostgres
from services.postgresql_proxy import PostgresProxy
from sqlalchemy import make_url

Install = Callable[..., Installation]


@pytest.fixture(scope="session")
def server() -> Iterator[LocalPostgres]:
    """A server that tests may stop and kill; each leaves it running."""
    servers: list[LocalPostgres] = []

    @contextmanager
    def local() -> Iterator[str]:
        server = LocalPostgres()
        try:
            server.start()
            servers.append(server)
            yield server.address
        finally:
            server.close()

    with found(
        "PostgreSQL that tests may kill", [("local", postgresql_local.why_unavailable, local)]
    ):
        yield servers[0]


@pytest.fixture
def sql_url(server: LocalPostgres) -> Iterator[str]:
    """An empty database of this test's own on that server."""
    with new_database(server.address) as url:
        yield url


@pytest.fixture
def proxy(server: LocalPostgres) -> Iterator[PostgresProxy]:
    """A proxy before the server, that passes everything until it is told otherwise."""
    proxy = PostgresProxy(free_port(), server.port)
    proxy.accept()
    yield proxy
    proxy.refuse()


@pytest.fixture
def install(sql_url: str, tmp_path: Path) -> Iterator[Install]:
    """Makes this test's installation; by default it speaks to the server without a proxy."""
    with ExitStack() as stack:

        def made(*, name: str = "home", session_timeout_s: float = 2.0) -> Installation:
            home = tmp_path / name
            home.mkdir()
            installation = Installation(home, None, sql_url, session_timeout_s=session_timeout_s)
            stack.callback(installation.close)
            return installation

        yield made


@pytest.fixture
def installation(install: Install) -> Installation:
    """An installation that is set up: prices published, an organization on every partition."""
    made = install()
    made.set_up()
    return made


def behind(proxy: PostgresProxy, sql_url: str) -> str:
    """The database's URL through the proxy."""
    host, port = proxy.address.split(":")
    url = make_url(sql_url).set(host=host, port=int(port))
    return url.render_as_string(hide_password=False)
