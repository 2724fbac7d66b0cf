"""Consumers of one group, killed, stopped and continued at random: each event is charged once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from random import Random

import pytest
from on_kafka.conftest import Install
from on_kafka.disturbing import Disturber
from on_kafka.installation import PARTITIONS, Installation
from on_kafka.watching import Watch
from sqlalchemy import make_url
from support.waiting import eventually

MEMBERS = 3
PER_SECOND = 240
TAKEN_OVER_S = 2.0
"""How long taking over may take after the session's end."""
GOING_S = 60.0


@pytest.mark.parametrize(
    ("sql_url", "seed", "session_timeout_s", "duration_s"),
    [
        pytest.param("postgresql", 1, 2.0, 12.0, id="postgresql"),
        *(
            pytest.param(
                store, 2, 6.0, 120.0, id=f"{store}-long",
                marks=[pytest.mark.soak, pytest.mark.timeout(600)],
            )
            for store in ("postgresql", "sqlite")
        ),
    ],
    indirect=["sql_url"],
)  # fmt: skip
def test_three_consumers_under_attack_charge_each_event_once_and_leave_no_partition_for_long(
    install: Install, sql_url: str, seed: int, session_timeout_s: float, duration_s: float
) -> None:
    installation = install(session_timeout_s=session_timeout_s)
    installation.set_up()
    watch = Watch(installation)
    disturber = Disturber(installation, watch, members=MEMBERS, is_holding_up=_lock_of(sql_url))
    services = [installation.service(seed * 10 + n, PER_SECOND // 2) for n in range(2)]
    _wait_until_all_are_folded_on(installation)
    watch.disturb()
    watch.start()
    disturber.run(Random(seed), session_timeout_s, duration_s)
    accepted = [usage for service in services for usage in service.stop()]
    installation.wait_until_folded()
    watch.stop()
    assert disturber.finish() == [0] * MEMBERS
    _say(seed, disturber, watch)
    installation.assert_charged(accepted)
    assert watch.samples > duration_s  # else nothing was measured
    bound_s = session_timeout_s + TAKEN_OVER_S
    late = [wait for wait in watch.worst.values() if wait.undisturbed_s > bound_s]
    assert late == [], f"waited longer than {bound_s} s: {late}"


def _say(seed: int, disturber: Disturber, watch: Watch) -> None:
    """What happened: shown when the test fails, and by `pytest -s`."""
    waits = [f"{wait.undisturbed_s:.1f}" for _, wait in sorted(watch.worst.items())]
    print(  # noqa: T201 - a random test says what it did
        f"seed {seed}: {[plan.what for plan in disturber.done]}; longest undisturbed wait of each "
        f"partition {waits} s, of any {watch.longest_s:.1f} s; {watch.samples} samples"
    )


def _wait_until_all_are_folded_on(installation: Installation) -> None:
    """The members have joined: every partition moves."""
    before = installation.next_offsets()
    eventually(
        lambda: all(
            installation.next_offsets()[partition] > before[partition]
            for partition in range(PARTITIONS)
        ),
        GOING_S,
        what="every partition is folded on",
    )


def _lock_of(sql_url: str) -> Callable[[], bool]:
    """Whether somebody holds SQLite's one lock right now; PostgreSQL has none that stops all."""
    url = make_url(sql_url)
    if url.get_backend_name() != "sqlite":
        return lambda: False

    def is_held() -> bool:
        with closing(sqlite3.connect(str(url.database), timeout=0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.execute("ROLLBACK")
            return False

    return is_held
