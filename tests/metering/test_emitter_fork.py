"""An emitter survives a fork: the child has an id, a spool, threads and locks of its own."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from metering.fake_log import MemoryLog, assert_no_gaps, ids_on, usage, usages_on
from support.waiting import eventually

from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.metering.drain import drain_spools
from tollkeeper.metering.emitter import Emitter, EmitterSettings
from tollkeeper.metering.spool import LOCK, emitter_directories

SETTINGS = EmitterSettings(takeover_interval_s=0.02, first_backoff_s=0.01)


def in_child(work: Callable[[], object]) -> int:
    """Fork; the child does `work` and ends without any clean-up, as a killed one would."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())  # nobody else would ever see it
            raise
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    """The child's exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_parent_and_children_emit_under_their_own_ids(tmp_path: Path) -> None:
    log_file, spool = tmp_path / "log.db", tmp_path / "spool"
    emitter = Emitter(lambda: SqliteLog(log_file), spool, settings=SETTINGS)
    accepted = [emitter.emit(usage(0))]
    children = []
    for number in range(3):
        ids = [f"child-{number}-{n}" for n in range(10)]
        accepted += ids

        def work(ids: list[str] = ids) -> None:
            for event_id in ids:
                emitter.emit(usage(event_id=event_id))
            emitter.close(20)

        children.append(in_child(work))
    accepted += [emitter.emit(usage(n)) for n in range(10)]
    assert [ended(child) for child in children] == [0, 0, 0]
    assert emitter.close(20)
    log = SqliteLog(log_file)
    events = usages_on(log)
    assert {event.event_id for event in events} == set(accepted)
    assert len({event.emitter for event in events}) == 4
    assert_no_gaps(events)
    assert list(spool.iterdir()) == []
    log.close()


def test_forked_while_threads_emit(tmp_path: Path) -> None:
    """Locks may be held by threads that the child doesn't have: it must not wait for them."""
    log_file, spool = tmp_path / "log.db", tmp_path / "spool"
    emitter = Emitter(lambda: SqliteLog(log_file), spool, settings=SETTINGS)
    accepted: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            accepted.append(emitter.emit(usage()))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(accepted) > 20)
    children = []
    for number in range(15):
        ids = [f"child-{number}-{n}" for n in range(3)]

        def work(ids: list[str] = ids) -> None:
            for event_id in ids:
                emitter.emit(usage(event_id=event_id))

        children.append(in_child(work))
        accepted += ids
    codes = [ended(child) for child in children]
    stop.set()
    for thread in threads:
        thread.join(20)
    assert codes == [0] * 15
    assert emitter.close(20)
    log = SqliteLog(log_file)
    result = drain_spools(spool, log, timeout_s=20)
    assert (result.left, result.owned, result.damaged, result.torn) == (0, 0, 0, 0)
    assert set(ids_on(log)) == set(accepted)
    assert_no_gaps(usages_on(log))
    log.close()


def test_forked_while_every_lock_is_held(tmp_path: Path) -> None:
    log = MemoryLog()
    emitter = Emitter(log.open, tmp_path, settings=SETTINGS)
    emitter.emit(usage())
    engine = emitter.start()

    def work() -> None:
        signal.alarm(20)  # instead of waiting for ever
        emitter.emit(usage())
        assert emitter.close(10)

    with emitter._lock, engine._intake._changed, engine.sender._changed:
        child = in_child(work)
    assert ended(child) == 0
    assert emitter.close(10)


def test_the_parents_lock_is_free_once_it_dies_although_its_child_lives(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    to_child, from_parent = os.pipe()
    said, say = os.pipe()

    def parent() -> None:
        log = MemoryLog()
        log.is_away = True
        emitter = Emitter(log.open, spool)
        emitter.emit(usage(event_id="of-the-parent"))

        def live_on() -> None:
            os.write(say, f"{os.getpid()}\n".encode())  # only now has the fork been left behind
            os.read(to_child, 1)

        in_child(live_on)
        os.kill(os.getpid(), signal.SIGKILL)

    child = in_child(parent)
    assert ended(child) == -signal.SIGKILL
    grandchild = int(os.read(said, 20))
    try:
        log = MemoryLog()
        assert Path(f"/proc/{grandchild}").exists()
        assert drain_spools(spool, log, timeout_s=10).sent == 1
        assert ids_on(log) == ["of-the-parent"]
    finally:
        os.write(from_parent, b"x")
        for descriptor in (to_child, from_parent, said, say):
            os.close(descriptor)


def test_a_child_that_never_emits_leaves_the_parents_spool_alone(tmp_path: Path) -> None:
    log = MemoryLog()
    log.is_away = True
    with Emitter(log.open, tmp_path, settings=SETTINGS) as emitter:
        emitter.emit(usage())
        child = in_child(lambda: None)
        assert ended(child) == 0
        (path,) = emitter_directories(tmp_path)
        with (path / LOCK).open("r+b") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        log.is_away = False
        assert emitter.flush(10)


def _worker(emitter: Emitter, number: int) -> None:
    for n in range(5):
        emitter.emit(usage(event_id=f"worker-{number}-{n}"))
    emitter.close(20)


def test_workers_forked_by_multiprocessing_share_a_preloaded_emitter(tmp_path: Path) -> None:
    log_file, spool = tmp_path / "log.db", tmp_path / "spool"
    emitter = Emitter(lambda: SqliteLog(log_file), spool, settings=SETTINGS)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_worker, args=(emitter, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    log = SqliteLog(log_file)
    assert set(ids_on(log)) == {f"worker-{w}-{n}" for w in range(3) for n in range(5)}
    assert emitter.close()
    log.close()


def test_a_closed_emitter_stays_closed_in_the_child(tmp_path: Path) -> None:
    emitter = Emitter(MemoryLog().open, tmp_path)
    emitter.close()
    assert ended(in_child(lambda: emitter.emit(usage()))) == 1
