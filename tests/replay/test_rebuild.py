"""`rebuild --swap`: the new fold becomes the live one only when both agree, whatever happens meanwhile."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import closing
from pathlib import Path

import pytest
from replay.histories import EVENTS, load, replayed, tables
from sqlalchemy import select
from support import homes
from support.stores import Store
from support.waiting import eventually

from tollkeeper.app.wiring import App
from tollkeeper.gate.commands import Incarnation
from tollkeeper.ledger.enforcing import open_epoch, raise_epoch, read_epochs
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.ledger.tables import PROJECTIONS, generation
from tollkeeper.log.port import Log
from tollkeeper.outbox.database import reading, writing
from tollkeeper.replay import verify as verifying
from tollkeeper.replay.verify import ReplayReport, rebuild


def test_a_rebuild_swaps_when_both_agree(app: App) -> None:
    before = tables(app)
    report = swapped(app)
    assert (report.agrees, report.swapped) == (True, True)
    with reading(app.engine) as connection:
        assert live_generation(connection) == report.replayed_generation != report.live_generation
        assert connection.execute(select(generation.c.generation)).scalars().all() == [
            report.replayed_generation
        ]
    assert tables(app) == before
    homes.emit(app, load(200, seed=6))
    assert homes.fold(app).counts.charged == 200
    assert replayed(app).agrees


def test_a_swap_raises_every_epoch_with_the_pointer_and_leaves_nothing_to_catch_up_on(
    app: App,
) -> None:
    with writing(app.engine) as connection:
        for tag in ("0", "1"):
            raise_epoch(
                connection, tag, expected=0, incarnation=Incarnation("r", "h"), now_micros=1
            )
            assert open_epoch(connection, tag, 1)
    now = app.clock()
    report = swapped(app)
    assert report.swapped
    with reading(app.engine) as connection:
        found = read_epochs(connection)
        places = positions(connection, report.replayed_generation)
    assert {one.tag: (one.epoch, one.phase) for one in found.values()} == dict.fromkeys(
        ("0", "1"), (2, "recovering")
    )
    assert all(now <= one.begun_at for one in found.values())
    assert all(place.applied_offset == place.next_offset for place in places.values())


@pytest.mark.parametrize("swap", [True, False], ids=["that differs", "that isn't to be swapped"])
def test_a_rebuild_raises_no_epoch(app: App, swap: bool) -> None:
    """Nobody has to wait for another epoch when nothing changes hands."""
    with writing(app.engine) as connection:
        raise_epoch(connection, "0", expected=0, incarnation=Incarnation("r", "h"), now_micros=1)
        assert open_epoch(connection, "0", 1)
        if swap:
            connection.exec_driver_sql("UPDATE spent SET charge_nanos = charge_nanos + 1")
    report = rebuild(
        app.log, app.ledger, swap=swap, now=app.clock(), progress=lambda _records: None
    )
    assert not report.swapped
    with reading(app.engine) as connection:
        assert [(one.epoch, one.phase) for one in read_epochs(connection).values()] == [(1, "open")]


def test_a_rebuild_that_differs_swaps_nothing(app: App) -> None:
    with app.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE spend SET output_nanos = output_nanos + 1")
    before = tables(app)
    report = swapped(app)
    assert (report.agrees, report.swapped) == (False, False)
    assert {one.organization for one in report.differences} == {"org-001", "org-002", "org-003"}
    assert report.untied == ()
    assert tables(app) == before


def test_a_change_between_comparison_and_lock_swaps_nothing(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was equal a moment ago is compared again where nobody can change it any more."""
    locked = verifying._compare_under_lock

    def late(log: Log, ledger: SqlLedger, replayed: int, *, swap_at: int | None) -> ReplayReport:
        with app.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE spend SET events = events + 1 WHERE generation = 1 "
                "AND organization = 'org-003'"
            )
        return locked(log, ledger, replayed, swap_at=swap_at)

    monkeypatch.setattr(verifying, "_compare_under_lock", late)
    report = swapped(app)
    assert (report.agrees, report.swapped) == (False, False)
    assert [one.organization for one in report.differences] == ["org-003"]
    with reading(app.engine) as connection:
        assert live_generation(connection) == report.live_generation == 1


def test_a_consumer_leaves_the_old_generation_though_nobody_drops_it(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that swapped may die before it drops the old one."""
    with closing(app.pipeline()) as pipeline:
        homes.emit(app, load(20, seed=14))
        eventually(
            lambda: pipeline.step() and homes.charged(app) == EVENTS + 20,
            10,
            what="it folds in the old generation",
        )
        monkeypatch.setattr(app.ledger, "drop_generation", lambda _number: None)
        assert swapped(app).swapped
        homes.emit(app, load(20, seed=15))
        eventually(
            lambda: pipeline.step() and homes.charged(app) == EVENTS + 40,
            10,
            what="it folds in the new generation",
        )


def test_a_live_consumer_goes_on_in_the_swapped_generation(
    filled: Path, either_store: Store, tmp_path: Path
) -> None:
    """It folds while the history is folded beside it, finds its fence lost, and takes up the new one."""
    home = either_store.copied(filled, tmp_path / "home")
    more = load(4_000, seed=8)
    consumer = homes.start(home, "run", "--only", "consume")
    try:
        with homes.opened_app(home) as app:
            homes.emit(app, more[:2_000])
            writer = threading.Thread(target=homes.emit, args=(app, more[2_000:]))
            writer.start()
            reports = [swapped(app) for _ in range(3)]
            writer.join(60)
            assert all(report.swapped for report in reports)
            eventually(lambda: homes.charged(app) == EVENTS + 4_000, 60, what="all is charged")
            assert replayed(app).agrees
        consumer.send_signal(signal.SIGTERM)
        _, errors = consumer.communicate(timeout=30)
        assert consumer.returncode == 0, errors
    finally:
        consumer.kill()
        consumer.communicate()


@pytest.mark.parametrize(
    ("failpoint", "live_after"),
    [
        ("pipeline.after_fold=kill@3", 1),
        ("replay.before_swap_commit=kill", 1),
        ("replay.before_drop=kill", 2),
        ("replay.in_drop=kill@4", 2),
    ],
)
def test_a_rebuild_that_is_killed_leaves_one_live_ledger(
    filled: Path, either_store: Store, tmp_path: Path, failpoint: str, live_after: int
) -> None:
    home = either_store.copied(filled, tmp_path / "home")
    killed = homes.run(home, "rebuild", "--swap", failpoints=failpoint)
    assert killed.returncode == homes.KILLED, killed.stderr
    with homes.opened_app(home) as app:
        with reading(app.engine) as connection:
            assert live_generation(connection) == live_after
        assert homes.charged(app) == EVENTS
    again = homes.run(home, "rebuild", "--swap", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["swapped"]
    with homes.opened_app(home) as app:
        with reading(app.engine) as connection:
            assert len(connection.execute(select(generation.c.generation)).all()) == 1
            for table in PROJECTIONS:
                found = connection.execute(select(table.c.generation).distinct())
                assert found.scalars().all() == [live_generation(connection)]
        assert replayed(app).agrees


def test_the_command_swaps_nothing_and_names_the_organization_when_they_differ(app: App) -> None:
    with app.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE credit SET credit_nanos = 5 WHERE organization = 'org-002'"
        )
    before = tables(app)
    ended = homes.run(app.settings.home, "rebuild", "--swap", "--json")
    assert ended.returncode == 1, ended.stderr
    (difference,) = json.loads(ended.stdout)["differences"]
    assert (difference["organization"], difference["table"]) == ("org-002", "credit")
    shown = homes.run(app.settings.home, "rebuild", "--swap")
    assert shown.returncode == 1
    assert "org-002" in shown.stdout
    with reading(app.engine) as connection:
        assert live_generation(connection) == 1
    assert tables(app) == before


def swapped(app: App) -> ReplayReport:
    return rebuild(app.log, app.ledger, swap=True, now=app.clock(), progress=lambda _records: None)
