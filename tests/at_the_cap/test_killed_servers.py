"""500 callers at the edge of a cap, while Redis and the consumer are killed and come back."""

from __future__ import annotations

from pathlib import Path

import pytest
from at_the_cap.installation import Installation, installation
from at_the_cap.servers import REDIS_FIRST, new_server, started
from services.redis_local import LocalRedis

pytestmark = pytest.mark.timeout(1_200)  # of which a quiet machine takes few

STEP_MICROS = 15_000
"""What 500 callers may well hold at once."""


def killed_amid_holds(made: Installation, server: LocalRedis, rounds: int) -> None:
    """Each round the cap is raised, and Redis and the consumer die while it is used up, and when it is."""
    consumer = made.consume()
    services = [made.serve(200, "asyncio"), made.serve(200, "asyncio"), made.serve(100, "threads")]
    for service in services:
        service.wait_until_ready()
    for number in range(1, rounds + 1):
        made.raise_caps("acme", number * STEP_MICROS)
        made.wait_for_grants(50, what="holds")
        server.kill()
        server.start()
        made.wait_for_the_edge()
        consumer.kill()
        server.kill()
        server.start()
        consumer = made.consume()
        made.wait_for_the_edge()
    figures = [service.stop() for service in services]
    assert all(one["closed"] for one in figures), figures
    assert all(one["began_anew"] == 0 for one in figures), "nobody who lives is retired"


@pytest.mark.parametrize("kind", REDIS_FIRST)
@pytest.mark.parametrize("rounds", [1, pytest.param(8, marks=pytest.mark.soak)])
def test_kills_of_redis_and_of_the_consumer_admit_no_hold_too_many(
    kind: str, rounds: int, tmp_path: Path
) -> None:
    server = new_server(kind)
    with started(server), installation(tmp_path, server.address, "acme") as made:
        killed_amid_holds(made, server, rounds)
        assert made.assert_all_is_right().grants > 100 * rounds
