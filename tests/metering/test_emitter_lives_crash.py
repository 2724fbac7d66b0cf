"""Whoever dies where: each emitter that may have holds gets its end, behind all its usage."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from metering import children
from metering.fake_log import assert_no_gaps, ids_on, usages_on
from metering.lives import assert_retired_last, retired_on, started_on
from support.waiting import eventually

from tollkeeper.log.port import Log
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.metering.drain import drain_spools
from tollkeeper.metering.emitter import Emitter, EmitterSettings
from tollkeeper.metering.spool import ANNOUNCED, LOCK, emitter_directories

ENDINGS = [
    f"{place}=kill@{passage}"
    for place in ("outlet.before_retired", "outlet.after_retired", "spool.in_remove")
    for passage in (1, 2)
]
PASSAGES = [
    "spool.after_announced=kill@1",
    "spool.after_announced=kill@2",
    "spool.before_rename=kill@2",
    "spool.after_rename=kill@2",
    "outlet.after_started=kill@1",
    "outlet.after_started=kill@2",
    *(f"log.{when}_append=kill@{n}" for when in ("before", "after") for n in (1, 2, 5, 9, 15)),
    *(f"sender.after_append=kill@{n}" for n in (1, 4, 12)),
    *(f"sender.after_cursor=kill@{n}" for n in (1, 4, 12)),
    *ENDINGS,
]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = SqliteLog(tmp_path / "log.db")
    yield log
    log.close()


@pytest.mark.parametrize("is_drained", [True, False])
@pytest.mark.parametrize("failpoints", PASSAGES)
def test_killed_anywhere_each_emitter_gets_its_end_behind_its_usage(
    tmp_path: Path, log: Log, failpoints: str, is_drained: bool
) -> None:
    spool = tmp_path / "spool"
    child = holder(tmp_path, 60, failpoints=failpoints)
    accepted, errors = children.finish(child)
    assert child.returncode == -signal.SIGKILL, errors
    announced = {path.name for path in spool.iterdir() if (path / ANNOUNCED).exists()}
    recover(tmp_path, log, is_drained=is_drained)
    assert set(accepted) <= set(ids_on(log))
    assert announced | set(started_on(log)) == set(retired_on(log))
    assert_all_told(log)
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("failpoints", ENDINGS)
def test_killed_while_it_ends_a_dead_one(tmp_path: Path, log: Log, failpoints: str) -> None:
    """The end may be told twice, and is never left out."""
    spool = tmp_path / "spool"
    accepted, errors = children.finish(
        holder(tmp_path, 60, failpoints="outlet.after_started=kill@2")
    )
    program = (
        "import sys; from pathlib import Path; from tollkeeper.log.sqlite import SqliteLog\n"
        "from tollkeeper.metering.drain import drain_spools\n"
        "drain_spools(Path(sys.argv[1]), SqliteLog(Path(sys.argv[2])), timeout_s=20)\n"
    )
    child = children.start_code(program, spool, tmp_path / "log.db", failpoints=failpoints)
    _printed, errors = children.finish(child)
    assert child.returncode == -signal.SIGKILL, errors
    recover(tmp_path, log, is_drained=True)
    assert set(accepted) <= set(ids_on(log))
    assert len(retired_on(log)) == 2
    assert_all_told(log)
    assert list(spool.iterdir()) == []


def test_several_processes_share_a_spool_directory_with_holds(tmp_path: Path, log: Log) -> None:
    running = [holder(tmp_path, 80) for _ in range(3)]
    dying = [
        holder(tmp_path, 80, failpoints=failpoints)
        for failpoints in ("outlet.before_retired=kill@1", "sender.after_append=kill@9")
    ]
    accepted: list[str] = []
    for child in [*running, *dying]:
        ids, errors = children.finish(child)
        assert child.returncode == (-signal.SIGKILL if child in dying else 0), errors
        accepted += ids
    recover(tmp_path, log, is_drained=True)
    assert set(accepted) <= set(ids_on(log))
    assert len(retired_on(log)) >= 8
    assert set(started_on(log)) <= set(retired_on(log))
    assert_all_told(log)


def test_a_stopped_process_is_not_retired_by_its_neighbours(tmp_path: Path, log: Log) -> None:
    """It lives: only who sees that it is unseen for long, or an operator, may retire it."""
    child = holder(tmp_path, 60, failpoints="sender.before_append=stop@3")
    eventually(lambda: _is_stopped(child.pid), 20, what="the child stopped itself")
    result = drain_spools(tmp_path / "spool", log, timeout_s=5)
    assert (result.owned > 0, retired_on(log)) == (True, {})
    child.send_signal(signal.SIGCONT)
    accepted, errors = children.finish(child)
    assert child.returncode == 0, errors
    assert (sorted(ids_on(log)), len(retired_on(log))) == (sorted(accepted), 2)
    assert_all_told(log)


def test_of_a_forked_child_only_its_own_emitter_ends(tmp_path: Path, log: Log) -> None:
    """The parent's holds are the parent's: the child neither keeps nor frees them."""
    open_log = lambda: SqliteLog(tmp_path / "log.db")  # noqa: E731 - short, and used at once
    emitter = Emitter(open_log, tmp_path / "spool", settings=QUICK)
    parents = emitter.identity()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(emitter.identity() == parents or not emitter.close(20))
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    (of_child,) = retired_on(log)
    assert of_child != parents == emitter.identity()
    assert emitter.close(20)
    assert set(retired_on(log)) == {parents, of_child}
    assert_all_told(log)


def test_the_spool_of_an_older_release_is_sent_without_a_word(tmp_path: Path, log: Log) -> None:
    spool = tmp_path / "spool"
    accepted, _errors = children.finish(
        children.start(spool, "-", 20, failpoints="spool.after_sync=kill@15")
    )
    (path,) = emitter_directories(spool)
    names = {entry.name for entry in path.iterdir() if entry.suffix != ".segment"}
    assert names == {LOCK, "cursor"}, "what older releases know, and can delete"
    recover(tmp_path, log, is_drained=False)
    assert set(accepted) <= set(ids_on(log))
    assert (started_on(log), retired_on(log)) == ({}, {})


def test_a_process_ends_in_time_whether_the_log_is_away_or_a_hold_is_open(tmp_path: Path) -> None:
    """What its exit can't tell any more, the mark keeps for the next one."""
    program = (
        "import sys; from pathlib import Path; from metering.fake_log import MemoryLog\n"
        "from tollkeeper.metering.emitter import Emitter\n"
        "log = MemoryLog(); log.is_away = 'away' in sys.argv\n"
        "emitter = Emitter(log.open, Path(sys.argv[1]))\n"
        "emitter.identity(); emitter.ask_before_retiring(lambda _emitter: 'held' in sys.argv)\n"
    )
    for state in ("away", "held"):
        spool = tmp_path / state
        child = children.start_code(program, spool, state)
        _printed, errors = children.finish(child, timeout_s=15)
        assert child.returncode == 0, errors
        announced = [path for path in emitter_directories(spool) if (path / ANNOUNCED).exists()]
        assert len(announced) == (1 if state == "away" else 0)


QUICK = EmitterSettings(takeover_interval_s=0.02, first_backoff_s=0.01)


def holder(folder: Path, events: int, *, failpoints: str = "") -> subprocess.Popen[str]:
    """A child that may have holds, on the log and spool in this folder."""
    arguments = (folder / "spool", folder / "log.db", events)
    return children.start(*arguments, failpoints=failpoints, program="child_holder.py")


def recover(folder: Path, log: Log, *, is_drained: bool) -> None:
    """Another process on the same directory sends and ends what is left."""
    spool = folder / "spool"
    if is_drained:
        result = drain_spools(spool, log, timeout_s=20)
        assert (result.left, result.owned) == (0, 0)
        return
    with Emitter(lambda: SqliteLog(folder / "log.db"), spool, settings=QUICK) as emitter:
        emitter.start()
        eventually(lambda: not list(emitter_directories(spool)), 20, what="all was sent")
        assert emitter.stats().damaged == 0


def assert_all_told(log: Log) -> None:
    """Each end is on every partition, and behind all that it has to be behind."""
    partitions = len(log.end_offsets())
    assert set(retired_on(log).values()) <= {partitions}
    assert_retired_last(log)
    assert_no_gaps(usages_on(log))


def _is_stopped(process: int) -> bool:
    return "State:\tT" in Path(f"/proc/{process}/status").read_text()
