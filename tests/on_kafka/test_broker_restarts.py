"""A broker that dies or is stopped, and comes back on its data, under load: nothing lost or doubled."""

from __future__ import annotations

import random
import signal

import pytest
from on_kafka.conftest import Install
from on_kafka.installation import Installation
from services.kafka_local import LocalKafka
from support.waiting import eventually

from tollkeeper.pipeline.settings import GROUP

SEED = 41
RECOVERED_S = 30.0


@pytest.mark.parametrize(
    "restarts",
    [2, pytest.param(16, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_a_broker_restarted_under_load_loses_nothing_and_doubles_nothing(
    install: Install, broker: LocalKafka, restarts: int
) -> None:
    """SIGKILL and SIGTERM in turn, each while records wait, are on their way and are being folded."""
    installation = install()
    installation.set_up()
    chance = random.Random(SEED)
    for _ in range(2):
        installation.consumer()
    services = [installation.service(seed, 300) for seed in (SEED, SEED + 1)]
    try:
        for number in range(restarts):
            _wait_for_more(installation, chance.randrange(50, 400))
            committed = _committed(installation)
            broker.kill(signal.SIGKILL if number % 2 else signal.SIGTERM)
            broker.start()
            _assert_committed_since(committed, installation)
    finally:
        if not broker.is_running:
            broker.start()
    accepted = [usage for service in services for usage in service.stop()]
    installation.wait_until_folded()
    installation.assert_charged(accepted)


def _wait_for_more(installation: Installation, records: int) -> None:
    goal = sum(installation.next_offsets().values()) + records
    eventually(
        lambda: sum(installation.next_offsets().values()) >= goal,
        RECOVERED_S,
        what=f"{records} more records are folded",
    )


def _committed(installation: Installation) -> dict[int, int]:
    """What the group committed, once it has; a second may pass after the first fold."""
    log = installation.app.log
    eventually(lambda: log.committed(GROUP), RECOVERED_S, what="progress is published")
    return log.committed(GROUP)


def _assert_committed_since(before: dict[int, int], installation: Installation) -> None:
    """A broker that still loads its groups must not look like one where nothing was committed."""
    now = installation.app.log.committed(GROUP)
    assert all(now.get(partition, 0) >= offset for partition, offset in before.items()), (
        before,
        now,
    )
