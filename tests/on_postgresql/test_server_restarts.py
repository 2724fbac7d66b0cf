"""A PostgreSQL that is stopped or killed, and comes back on its data, under load: nothing lost or doubled."""

from __future__ import annotations

import random

import pytest
from on_kafka.installation import Installation, organization_of
from on_postgresql.buying import Buyer
from services.postgresql_local import LocalPostgres
from support.waiting import eventually

from tollkeeper.errors import StoreUnavailable

SEED = 43
RECOVERED_S = 30.0


@pytest.mark.parametrize(
    "restarts", [2, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_a_server_restarted_under_load_loses_nothing_and_doubles_nothing(
    installation: Installation, server: LocalPostgres, restarts: int
) -> None:
    """Killed and stopped in turn, while services emit, an owner buys, and relay and consumers work."""
    chance = random.Random(SEED)
    for _ in range(2):
        installation.consumer()
    installation.job("relay")
    services = [installation.service(seed, 300) for seed in (SEED, SEED + 1)]
    buyer = Buyer(installation.opened(), organization_of(0))
    try:
        with buyer.buying():
            for number in range(restarts):
                _wait_for_more(installation, chance.randrange(50, 400))
                (server.stop if number % 2 else server.kill)()
                server.start()
            _wait_for_more(installation, 50)
    finally:
        if not server.is_running:
            server.start()
    accepted = [usage for service in services for usage in service.stop()]
    installation.wait_until_folded()
    installation.assert_charged(accepted)
    assert buyer.interrupted > 0
    buyer.assert_bought(installation)


def _wait_for_more(installation: Installation, records: int) -> None:
    goal = _folded(installation) + records
    eventually(
        lambda: _folded(installation) >= goal,
        RECOVERED_S,
        what=f"{records} more records are folded",
    )


def _folded(installation: Installation) -> int:
    """How many records are folded; a server that is just starting may refuse to say."""
    try:
        return sum(installation.next_offsets().values())
    except StoreUnavailable:
        return 0
