"""A disk that fills up under spool, log or ledger: a clear refusal, and later each event charged once."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from replay.histories import load, replayed
from support import homes

from tollkeeper import failpoints
from tollkeeper.app.wiring import App
from tollkeeper.errors import SpoolFull, StoreUnavailable, Unavailable
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import OpenOrganization
from tollkeeper.outbox.database import reading

A_GROUP = 100


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system cuts off any file of this process there; SQLite's and the spool's alike."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def open_all(app: App) -> None:
    for number in range(1, 4):
        name = f"org-{number:03d}"
        homes.handle(
            app, OpenOrganization(organization=name, plan="enterprise_self_serve", owner="o")
        )


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(tmp_path / "home") as opened:
        open_all(opened)
        homes.fold(opened)
        yield opened


def in_groups(usages: list[Usage]) -> Iterator[list[Usage]]:
    for start in range(0, len(usages), A_GROUP):
        yield usages[start : start + A_GROUP]


def charged_ids(app: App) -> list[str]:
    with reading(app.engine) as connection:
        found = connection.exec_driver_sql("SELECT event_id FROM charge ORDER BY event_id")
        return list(found.scalars())


def assert_each_is_charged_once(app: App, usages: list[Usage]) -> None:
    assert homes.fold(app).halted == {}
    assert charged_ids(app) == sorted(str(one.event_id) for one in usages)
    assert replayed(app).agrees


def test_a_full_disk_under_the_spool_refuses_and_loses_nothing_that_was_accepted(app: App) -> None:
    usages = load(2_000, seed=21)
    accepted: list[Usage] = []
    with app.emitter() as emitter, files_of_at_most(20_000), pytest.raises(SpoolFull, match="disk"):
        for group in in_groups(usages):
            emitter.emit_many(group)
            accepted += group
    assert len(accepted) < len(usages)
    assert_each_is_charged_once(app, accepted)  # sent from the spool of the closed emitter
    homes.emit(app, usages)  # there is room again: what was refused, and all the rest once more
    assert_each_is_charged_once(app, usages)


@pytest.mark.parametrize("failpoint", ["log.before_append", "log.after_append"])
def test_a_full_disk_under_the_log_keeps_accepted_usage_in_the_spool(
    app: App, monkeypatch: pytest.MonkeyPatch, failpoint: str
) -> None:
    """After the append it stands on the log all the same, so sending it again makes duplicates."""
    usages = load(600, seed=22)
    with app.emitter() as emitter:
        monkeypatch.setattr(failpoints, "_armed", {failpoint: ("enospc", 1)})
        for group in in_groups(usages[:400]):
            emitter.emit_many(group)
        assert not emitter.flush(0.5)
        monkeypatch.undo()
        emitter.emit_many(usages[400:])
        assert emitter.flush(60)
    assert sum(app.log.end_offsets().values()) >= 600
    assert_each_is_charged_once(app, usages)


def test_a_command_that_finds_the_disk_full_is_refused_and_can_be_repeated(app: App) -> None:
    wal = app.settings.home / "ledger.sqlite-wal"
    command = OpenOrganization(organization="late", plan="enterprise_self_serve", owner="o")
    with files_of_at_most(wal.stat().st_size), pytest.raises(StoreUnavailable, match=r"room|full"):
        homes.handle(app, command)
    homes.handle(app, command)
    assert homes.fold(app).halted == {}
    assert replayed(app).agrees


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_one_full_disk_under_everything_loses_and_doubles_nothing(small_disk: Path) -> None:
    usages = load(12_000, seed=23)
    accepted: list[Usage] = []
    with homes.opened_app(small_disk / "home") as app:
        open_all(app)
        with app.emitter() as emitter:
            with pytest.raises(Unavailable):
                for group in in_groups(usages):
                    emitter.emit_many(group)
                    accepted += group
            emitter.close(0.2)  # the log has hardly any room either: what it has none for stays
        assert accepted
        with closing(app.pipeline()) as pipeline, pytest.raises(Unavailable):
            for _ in range(100):
                pipeline.step()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert_each_is_charged_once(app, accepted)
        homes.emit(app, usages)
        assert_each_is_charged_once(app, usages)
