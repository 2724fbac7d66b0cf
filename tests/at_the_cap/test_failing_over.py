"""500 callers at the edge of a cap, while a replica that lags is promoted and the old primary lives on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from at_the_cap.installation import QUIET_S, Installation, Service, installation
from at_the_cap.servers import (
    VALKEY_FIRST,
    Address,
    cut_clients,
    follow,
    new_server,
    promote,
    started,
)
from services.redis_local import LocalRedis
from support.waiting import eventually

pytestmark = pytest.mark.timeout(1_200)  # of which a quiet machine takes few

STEP_MICROS = 15_000


class Pair:
    """A primary and its replica, and two addresses of the primary: one of them is led over late."""

    def __init__(self, primary: LocalRedis, replica: LocalRedis) -> None:
        self.primary, self.replica = primary, replica
        self.address, self.late = Address(primary), Address(primary)
        follow(replica, primary)

    def fail_over(self) -> None:
        """The primary lives on for who is led over late, whoever was at it."""
        self.address.lead_to(self.replica)
        cut_clients(self.primary)

    def heal(self) -> None:
        """Who was late is led over, too."""
        self.late.lead_to(self.replica)
        cut_clients(self.primary)

    def change_places(self) -> None:
        """The old primary follows the new one; what it alone had is gone."""
        follow(self.primary, self.replica)
        self.primary, self.replica = self.replica, self.primary

    def close(self) -> None:
        """The addresses."""
        self.address.close()
        self.late.close()


@pytest.fixture(params=VALKEY_FIRST)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two servers of this test's own."""
    with ExitStack() as stack:
        servers = [new_server(request.param) for _ in range(2)]
        stack.enter_context(started(*servers))
        made = Pair(*servers)
        stack.callback(made.close)
        yield made


def refuses(service: Service, since_ns: int) -> None:
    """It was at work on the old primary, until its lease was over."""
    eventually(
        lambda: service.count("refused", since_ns=since_ns, reasons=["unavailable"]) >= 10,
        QUIET_S,
        what="the end of the old primary's lease",
    )


def failed_over_amid_holds(made: Installation, pair: Pair, rounds: int) -> None:
    """Each round the replica lacks the last holds, and some are granted at the old primary after that."""
    made.consume()
    if rounds > 1:  # one that sees the old primary while the other keeps the new one
        made.consume(redis=pair.late.url)
    late = made.serve(200, "asyncio", redis=pair.late.url)
    services = [late, made.serve(200, "asyncio"), made.serve(100, "threads")]
    for service in services:
        service.wait_until_ready()
    for number in range(1, rounds + 1):
        made.raise_caps("acme", number * STEP_MICROS)
        made.wait_for_grants(30, what="holds")
        promote(pair.replica)
        made.wait_for_the_edge()  # with holds that the replica doesn't have
        since = time.monotonic_ns()
        pair.fail_over()
        refuses(late, since)
        pair.heal()
        made.wait_for_the_edge()
        pair.change_places()
    figures = [service.stop() for service in services]
    assert all(one["closed"] for one in figures), figures
    assert all(one["began_anew"] == 0 for one in figures), "nobody who lives is retired"


def test_who_is_still_connected_to_the_old_primary_finds_the_new_one(
    pair: Pair, tmp_path: Path
) -> None:
    """It lives, it answers, and nobody cuts what is open to it; only the address leads elsewhere."""
    with installation(tmp_path, pair.address.url, "acme") as made:
        consumer = made.consume()
        services = [made.serve(20, "asyncio"), made.serve(20, "threads")]
        for service in services:
            service.wait_until_ready()
        made.raise_caps("acme", STEP_MICROS)
        made.wait_for_grants(30, what="holds")
        promote(pair.replica)
        pair.address.lead_to(pair.replica)
        consumer.kill()
        made.consume()
        made.wait_for_epoch(2)
        made.raise_caps("acme", 2 * STEP_MICROS)
        for service in services:
            made.wait_for_grants(30, what="holds at the new primary", by=[service])
        for service in services:
            service.stop()
        made.assert_all_is_right()


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.soak)])
def test_a_replica_that_lags_admits_no_hold_too_many(
    pair: Pair, rounds: int, tmp_path: Path
) -> None:
    with installation(tmp_path, pair.address.url, "acme") as made:
        failed_over_amid_holds(made, pair, rounds)
        assert made.assert_all_is_right().grants > 60 * rounds
