"""Two replays at once: one of them ends by name, and the live ledger is always whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import select
from support import homes
from support.stores import Store

from tollkeeper.app.wiring import App
from tollkeeper.errors import Unavailable
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.ledger.tables import generation
from tollkeeper.log.port import Log
from tollkeeper.organizations.commands import OpenOrganization
from tollkeeper.outbox.database import reading, writing
from tollkeeper.replay import verify as verifying
from tollkeeper.replay.folding import fold_up_to
from tollkeeper.replay.verify import ReplayReport, rebuild, verify
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

ENDING_AT = 1_793_880_000_000_000
EVENTS = 600


@pytest.fixture(scope="module")
def filled(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = store.new(tmp_path_factory.mktemp("filled"))
    with homes.opened_app(home) as app:
        for number in range(1, 4):
            homes.handle(
                app,
                OpenOrganization(
                    organization=f"org-{number:03d}", plan="enterprise_self_serve", owner="o"
                ),
            )
        homes.emit(app, synthetic(SyntheticLoad(seed=4, events=EVENTS, ending_at=ENDING_AT)))
        homes.fold(app)
    return home


@pytest.fixture
def app(filled: Path, store: Store, tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(store.copied(filled, tmp_path / "home")) as opened:
        yield opened


def swap(app: App) -> ReplayReport:
    return rebuild(app.log, app.ledger, swap=True, now=app.clock(), progress=lambda _records: None)


def assert_whole(app: App, live: int) -> None:
    """This generation is live, at positions of its own, alone, and equal to a replay."""
    with reading(app.engine) as connection:
        assert live_generation(connection) == live
        assert set(positions(connection, live)) == set(range(app.log.partition_count))
    assert homes.charged(app) == EVENTS
    assert verify(app.log, app.ledger, now=app.clock(), progress=lambda _records: None).agrees
    assert_alone(app, live)


def assert_alone(app: App, live: int) -> None:
    with reading(app.engine) as connection:
        for table in ("charge", "consumer_offset", "organization"):
            found = connection.exec_driver_sql(f"SELECT DISTINCT generation FROM {table}")
            assert found.scalars().all() == [live]
        standing = select(generation.c.generation).where(generation.c.status != "dropped")
        assert connection.execute(standing).scalars().all() == [live]


@pytest.mark.parametrize("is_swapping", [True, False])
def test_a_replay_that_is_overtaken_while_it_folds_ends_by_name(
    app: App, is_swapping: bool
) -> None:
    others: list[ReplayReport] = []

    def overtake(_records: int) -> None:
        if not others:
            others.append(swap(app))

    with pytest.raises(Unavailable, match="another replay"):
        rebuild(app.log, app.ledger, swap=is_swapping, now=app.clock(), progress=overtake)
    assert others[0].swapped
    assert_whole(app, others[0].replayed_generation)


def test_a_replay_that_is_overtaken_before_it_swaps_ends_by_name(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = verifying._compare_under_lock
    others: list[ReplayReport] = []

    def late(log: Log, ledger: SqlLedger, replayed: int, *, swap_at: int | None) -> ReplayReport:
        if not others:
            monkeypatch.setattr(verifying, "_compare_under_lock", locked)
            others.append(globals()["swap"](app))
        return locked(log, ledger, replayed, swap_at=swap_at)

    monkeypatch.setattr(verifying, "_compare_under_lock", late)
    with pytest.raises(Unavailable, match="another replay"):
        swap(app)
    assert_whole(app, others[0].replayed_generation)


def test_a_replay_that_went_live_meanwhile_is_not_taken_for_a_dead_one(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = app.ledger.begin_generation(
        app.clock(), partitions=app.log.partition_count, log_identity=app.log.identity
    )
    ends = app.log.end_offsets()
    fold_up_to(app.log, app.ledger, other, ends, progress=lambda _records: None)
    drop = app.ledger.drop_generation

    def late(number: int) -> None:
        if number == other:
            monkeypatch.undo()
            with writing(app.engine) as connection:
                verifying._move_pointer(connection, 1, other)
        drop(number)

    monkeypatch.setattr(app.ledger, "drop_generation", late)
    report = swap(app)
    assert (report.live_generation, report.swapped) == (other, True)
    assert swap(app).swapped  # which drops what the other left
    assert_whole(app, 4)


def test_a_generation_number_is_never_used_again(app: App) -> None:
    """Else a replay that was overtaken would go on in, or drop, the generation of another."""
    numbers = []
    for _ in range(3):
        number = app.ledger.begin_generation(
            app.clock(), partitions=app.log.partition_count, log_identity=app.log.identity
        )
        numbers.append(number)
        app.ledger.drop_generation(number)
        app.ledger.drop_generation(number)  # as the one that was overtaken does
    assert numbers == sorted(set(numbers))
    assert_whole(app, 1)


def test_rebuilds_in_two_processes_leave_one_live_ledger(
    filled: Path, store: Store, tmp_path: Path
) -> None:
    home = store.copied(filled, tmp_path / "home")
    children = [homes.start(home, "rebuild", "--swap", "--json") for _ in range(2)]
    answers: list[Mapping[str, object]] = []
    try:
        for child in children:
            output, errors = child.communicate(timeout=60)
            assert child.returncode in (0, 3), errors
            if child.returncode == 0:
                answers.append(json.loads(output))
            else:
                assert "another replay" in errors
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert answers
    assert all(answer["swapped"] for answer in answers)
    with homes.opened_app(home) as app:
        with reading(app.engine) as connection:
            live = live_generation(connection)
        assert live in [answer["replayed_generation"] for answer in answers]
        assert_whole(app, live)
