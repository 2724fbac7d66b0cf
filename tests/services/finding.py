"""Real services for tests: an address in the environment, a container, or one that is started here.

Where none can be had the test is skipped and the reason printed; with TOLLKEEPER_REQUIRE_SERVICES set
(CI does) that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NoReturn, Protocol

import msgspec
import pytest

REQUIRED = "TOLLKEEPER_REQUIRE_SERVICES"
ONLY = "TOLLKEEPER_TEST_SERVICES"
"""`environment`, `container` or `local`: look for services in this way alone."""

Way = tuple[str, Callable[[], str | None], Callable[[], AbstractContextManager[str]]]
"""A name, why the way isn't open (None: it is), and what gives the service's address."""


class Service(msgspec.Struct, frozen=True):
    """A service that answers, and in which way it was found.

    The address is `host:port` of Kafka, a SQLAlchemy URL of PostgreSQL, a URL of Redis.
    """

    address: str
    way: str


@contextmanager
def found(service: str, ways: list[Way]) -> Iterator[Service]:
    """The service in the first way that is open."""
    reasons = []
    for way, why_not, provide in ways:
        if os.environ.get(ONLY, way) != way:
            reasons.append(f"{way}: not wanted by {ONLY}")
            continue
        reason = why_not()
        if reason is None:
            with provide() as address:
                yield Service(address, way)
            return
        reasons.append(f"{way}: {reason}")
    skip_or_fail(f"{service} isn't at hand ({'; '.join(reasons)})")


def skip_or_fail(missing: str) -> NoReturn:
    """Skip the test, or fail it where everything must be there."""
    if os.environ.get(REQUIRED):
        pytest.fail(missing)
    pytest.skip(missing)


def from_environment(variable: str) -> Way:
    """An address that was set."""

    @contextmanager
    def provide() -> Iterator[str]:
        yield os.environ[variable]

    return "environment", lambda: None if os.environ.get(variable) else f"no {variable}", provide


class LocalServer(Protocol):
    """A server of this machine that a test starts and ends."""

    @property
    def address(self) -> str:
        """Where it answers, known before it is started."""

    def start(self) -> None:
        """Start it, on the data that it left, and wait until it answers."""

    def close(self) -> None:
        """End it and remove its data."""


def from_here(why_not: Callable[[], str | None], make: Callable[[], LocalServer]) -> Way:
    """A server started on this machine."""

    @contextmanager
    def provide() -> Iterator[str]:
        server = make()
        try:
            server.start()
            yield server.address
        finally:
            server.close()

    return "local", why_not, provide
