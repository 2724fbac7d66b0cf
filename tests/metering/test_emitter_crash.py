"""A process that dies anywhere loses no accepted usage and confuses no sequence."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from metering import children
from metering.fake_log import assert_no_gaps, ids_on, usage, usages_on
from support.waiting import eventually

from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.metering.drain import drain_spools
from tollkeeper.metering.emitter import Emitter, EmitterSettings

PLACES = [
    "spool.before_rename",
    "spool.after_rename",
    "spool.after_new_segment",
    "spool.before_write",
    "spool.after_write",
    "spool.after_sync",
    "spool.in_remove",
    "sender.before_append",
    "log.before_append",
    "log.after_append",
    "sender.after_append",
    "sender.after_cursor",
    "sender.after_delete",
]
ONCE = {"spool.before_rename", "spool.after_rename", "spool.in_remove"}


def _passages() -> list[str]:
    return [
        f"{place}=kill@{passage}"
        for place in PLACES
        for passage in ((1,) if place in ONCE else (1, 2, 4))
    ]


@pytest.mark.parametrize("failpoints", _passages())
def test_killed_anywhere_every_accepted_usage_reaches_the_log(
    tmp_path: Path, failpoints: str
) -> None:
    spool, log_file = tmp_path / "spool", tmp_path / "log.db"
    child = children.start(spool, log_file, 60, failpoints=failpoints)
    accepted, errors = children.finish(child)
    assert child.returncode == -signal.SIGKILL, errors
    _assert_recovered(spool, log_file, accepted)


@pytest.mark.parametrize("group", [7, 40])
@pytest.mark.parametrize("place", ["spool.before_write", "spool.after_write", "spool.after_sync"])
def test_killed_while_writing_a_group(tmp_path: Path, place: str, group: int) -> None:
    spool, log_file = tmp_path / "spool", tmp_path / "log.db"
    child = children.start(spool, log_file, 280, group, failpoints=f"{place}=kill@3")
    accepted, errors = children.finish(child)
    assert (child.returncode, len(accepted)) == (-signal.SIGKILL, 2 * group), errors
    _assert_recovered(spool, log_file, accepted)


def test_a_torn_write_was_never_accepted(tmp_path: Path) -> None:
    spool, log_file = tmp_path / "spool", tmp_path / "log.db"
    accepted, _errors = children.finish(
        children.start(spool, "-", 5, failpoints="spool.after_sync=kill@5")
    )
    (segment,) = spool.rglob("*.segment")
    segment.write_bytes(segment.read_bytes()[:-3])  # as if the last write had not been finished
    log = SqliteLog(log_file)
    result = drain_spools(spool, log, timeout_s=20)
    assert (result.sent, result.torn, result.damaged, result.left) == (4, 1, 0, 0)
    assert sorted(ids_on(log)) == sorted(accepted)
    assert not (spool / "damaged").exists()
    log.close()


def test_killed_while_it_takes_over_a_dead_ones_spool(tmp_path: Path) -> None:
    spool, log_file = tmp_path / "spool", tmp_path / "log.db"
    first = children.start(spool, "-", 30, failpoints="spool.after_sync=kill@20")
    accepted, _errors = children.finish(first)
    for failpoints in ("takeover.after_lock=kill", "sender.after_append=kill@2"):
        child = children.start(spool, log_file, 1, failpoints=failpoints)
        more, errors = children.finish(child)
        assert child.returncode == -signal.SIGKILL, errors
        accepted += more
    _assert_recovered(spool, log_file, accepted)


def test_several_processes_share_a_spool_directory(tmp_path: Path) -> None:
    spool, log_file = tmp_path / "spool", tmp_path / "log.db"
    running = [children.start(spool, log_file, 300, 3) for _ in range(3)]
    dying = children.start(spool, log_file, 300, 3, failpoints="sender.after_cursor=kill@7")
    accepted: list[str] = []
    for child in [*running, dying]:
        ids, errors = children.finish(child)
        assert child.returncode == (-signal.SIGKILL if child is dying else 0), errors
        accepted += ids
    assert len(accepted) >= 900
    _assert_recovered(spool, log_file, accepted)


def test_a_stopped_process_keeps_its_spool_and_goes_on(tmp_path: Path) -> None:
    spool, log_file = tmp_path / "spool", tmp_path / "log.db"
    child = children.start(spool, log_file, 60, failpoints="sender.before_append=stop@2")
    log = SqliteLog(log_file)
    eventually(lambda: _is_stopped(child.pid), 20, what="the child stopped itself")
    result = drain_spools(spool, log, timeout_s=5)
    assert (result.owned, result.sent) == (1, 0)
    child.send_signal(signal.SIGCONT)
    accepted, errors = children.finish(child)
    assert child.returncode == 0, errors
    assert sorted(ids_on(log)) == sorted(accepted)
    log.close()


def _is_stopped(process: int) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    return "State:\tT" in status


def _assert_recovered(spool: Path, log_file: Path, accepted: list[str]) -> None:
    """Another emitter on the same directory brings the rest to the log and leaves nothing."""
    log = SqliteLog(log_file)
    settings = EmitterSettings(takeover_interval_s=0.02)
    with Emitter(lambda: SqliteLog(log_file), spool, settings=settings) as emitter:
        emitter.emit(usage())
        eventually(lambda: _only_one_spool(spool), 20, what="the dead one's spool was sent")
        assert emitter.flush(20)
        assert emitter.stats().damaged == 0
    missing = set(accepted) - set(ids_on(log))
    assert not missing, f"{len(missing)} of {len(accepted)} accepted usages were lost"
    assert_no_gaps(usages_on(log))
    assert list(spool.iterdir()) == []
    log.close()


def _only_one_spool(spool: Path) -> bool:
    return len(list(spool.iterdir())) <= 1
