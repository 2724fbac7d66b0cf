"""A full or failing disk ends in a clear refusal: nothing is lost, and no sequence is used twice."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from metering.fake_log import MemoryLog, assert_no_gaps, ids_on, usage, usages_on
from metering.spools import segments
from support.waiting import eventually

from tollkeeper import failpoints
from tollkeeper.errors import SpoolFailed, SpoolFull
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.metering.drain import drain_spools
from tollkeeper.metering.emitter import Emitter, EmitterSettings

QUICK = EmitterSettings(first_backoff_s=0.005, max_backoff_s=0.02, full_timeout_s=0.05)


class FailingSync:
    """Syncs, except at the given calls, counted from 1."""

    def __init__(self, *fails_at: int, error: int = errno.EIO) -> None:
        self._fails_at = fails_at
        self._error = error
        self.calls = 0

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        if self.calls in self._fails_at:
            raise OSError(self._error, os.strerror(self._error))
        os.fdatasync(descriptor)


def test_a_full_spool_refuses_after_the_timeout_and_accepts_again_once_sent(tmp_path: Path) -> None:
    log = MemoryLog()
    log.is_away = True
    settings = EmitterSettings(
        max_spool_bytes=4_000, full_timeout_s=0.05, first_backoff_s=0.005, max_backoff_s=0.02
    )
    accepted = []
    with Emitter(log.open, tmp_path, settings=settings) as emitter:
        with pytest.raises(SpoolFull, match="max_spool_bytes=4000"):
            for n in range(100):
                accepted.append(emitter.emit(usage(n)))
        assert 10 < len(accepted) < 40
        assert sum(p.stat().st_size for p in segments(tmp_path)) <= 4_000
        assert emitter.stats().refused == 1
        log.is_away = False
        eventually(lambda: emitter.flush(1))
        accepted += [emitter.emit(usage(n)) for n in range(100)]
        assert emitter.flush(10)
    assert ids_on(log) == accepted
    assert_no_gaps(usages_on(log))


def test_emit_waits_for_room_that_sending_makes(tmp_path: Path) -> None:
    log = MemoryLog()
    settings = EmitterSettings(max_spool_bytes=3_000, full_timeout_s=20)
    with Emitter(log.open, tmp_path, settings=settings) as emitter:
        accepted = [emitter.emit_many([usage(n)] * 5) for n in range(50)]
        assert emitter.flush(10)
    assert len(ids_on(log)) == 250 == sum(map(len, accepted))


def test_other_emitters_spools_count_too(tmp_path: Path) -> None:
    log = MemoryLog()
    log.is_away = True
    settings = EmitterSettings(max_spool_bytes=8_000, full_timeout_s=0.05, takeover_interval_s=0.02)
    with Emitter(log.open, tmp_path, settings=settings) as first:
        first.emit_many([usage()] * 25)
        with Emitter(log.open, tmp_path, settings=settings) as second:
            second.emit(usage())
            with pytest.raises(SpoolFull):
                eventually(lambda: not second.emit_many([usage()] * 5))
            assert second.stats().spooled_bytes < 4_000
            log.is_away = False
            assert second.flush(20)
        assert first.flush(20)


def test_memory_is_bounded_while_the_disk_hangs(tmp_path: Path) -> None:
    gate = threading.Event()
    settings = EmitterSettings(max_waiting_records=10, full_timeout_s=0.05)
    log = MemoryLog()
    emitter = Emitter(log.open, tmp_path, settings=settings, sync=lambda _d: _wait(gate))
    waiting = [threading.Thread(target=emitter.emit_many, args=([usage()] * 5,)) for _ in range(2)]
    for thread in waiting:
        thread.start()
    eventually(lambda: emitter.stats().waiting_records == 10)
    with pytest.raises(SpoolFull, match="10 usages wait"):
        emitter.emit(usage())
    gate.set()
    for thread in waiting:
        thread.join(10)
    emitter.emit(usage())
    assert emitter.close(10)
    assert len(ids_on(log)) == 11


def test_a_disk_that_never_answers_ends_in_a_refusal(tmp_path: Path) -> None:
    gate = threading.Event()
    settings = EmitterSettings(full_timeout_s=0.02, sync_timeout_s=0.02)
    emitter = Emitter(MemoryLog().open, tmp_path, settings=settings, sync=lambda _d: _wait(gate))
    with pytest.raises(SpoolFailed, match="may still be accepted"):
        emitter.emit(usage())
    with pytest.raises(SpoolFailed, match="nothing was accepted"):
        emitter.emit(usage())
    gate.set()
    assert emitter.close(10)


@pytest.mark.parametrize("place", ["spool.before_write", "spool.after_write"])
def test_a_write_that_fails_is_undone_and_its_sequence_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    log = MemoryLog()
    log.is_away = True
    with Emitter(log.open, tmp_path, settings=QUICK) as emitter:
        accepted = [emitter.emit(usage(1))]
        monkeypatch.setitem(failpoints._armed, place, ("enospc", 1))
        with pytest.raises(SpoolFull, match="No space left"):
            emitter.emit(usage(2))
        monkeypatch.delitem(failpoints._armed, place)
        accepted.append(emitter.emit(usage(3)))
        log.is_away = False
        assert emitter.flush(10)
    assert ids_on(log) == accepted
    assert [event.sequence for event in usages_on(log)] == [1, 2]
    assert len({event.emitter for event in usages_on(log)}) == 1


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_after_a_failed_sync_a_new_incarnation_begins(tmp_path: Path, error: int) -> None:
    log = MemoryLog()
    log.is_away = True
    sync = FailingSync(2, error=error)
    with Emitter(log.open, tmp_path, settings=QUICK, sync=sync) as emitter:
        accepted = [emitter.emit(usage(1))]
        refusal = SpoolFull if error == errno.ENOSPC else SpoolFailed
        with pytest.raises(refusal, match=str(tmp_path)):
            emitter.emit_many([usage(2)] * 3)
        accepted += [emitter.emit(usage(3)), emitter.emit(usage(4))]
        assert emitter.stats().spooled_records == 3
        log.is_away = False
        assert emitter.flush(10)
        eventually(lambda: len(list(tmp_path.iterdir())) == 1, what="the old directory is gone")
    assert ids_on(log) == accepted
    assert [event.sequence for event in usages_on(log)] == [1, 1, 2]
    assert_no_gaps(usages_on(log))
    assert list(tmp_path.iterdir()) == []


def test_bytes_behind_a_failed_sync_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The truncation fails too: the reader stops at what the disk confirmed."""
    log = MemoryLog()
    log.is_away = True

    def no_truncate(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Emitter(log.open, tmp_path, settings=QUICK, sync=FailingSync(2)) as emitter:
        accepted = [emitter.emit(usage(1))]
        with monkeypatch.context() as patched:
            patched.setattr("tollkeeper.metering.segments.os.ftruncate", no_truncate)
            with pytest.raises(SpoolFailed):
                emitter.emit(usage(2))
        log.is_away = False
        assert emitter.flush(10)
    assert ids_on(log) == accepted


def test_a_spool_directory_that_cannot_be_made_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.write_text("a file is in the way")
    log = MemoryLog()
    with Emitter(log.open, spool) as emitter:
        with pytest.raises(SpoolFailed):
            emitter.emit(usage())
        spool.unlink()
        ids = [emitter.emit(usage())]
        assert emitter.flush(10)
    assert ids_on(log) == ids


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"can't mount a small tmpfs: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk_refuses_and_recovers(small_disk: Path) -> None:
    log = MemoryLog()
    log.is_away = True
    settings = EmitterSettings(
        segment_bytes=20_000, full_timeout_s=0.05, first_backoff_s=0.005, max_backoff_s=0.02
    )
    spool = small_disk / "spool"
    accepted: list[str] = []
    with Emitter(log.open, spool, settings=settings) as emitter:
        refused = 0
        for _attempt in range(1_000):
            try:
                accepted += emitter.emit_many([usage()] * 20)
            except SpoolFull:
                refused += 1
                if refused > 5:
                    break
        assert refused > 5
        log.is_away = False
        assert emitter.flush(20)  # the cursor needs no new block
        accepted += emitter.emit_many([usage()] * 20)
        assert emitter.flush(20)
    assert ids_on(log) == accepted
    assert_no_gaps(usages_on(log))
    assert list(spool.iterdir()) == []


_LIMITED = """
import os, sys
from pathlib import Path
from metering.fake_log import MemoryLog, usage
from tollkeeper.errors import SpoolFull
from tollkeeper.metering.emitter import Emitter
log = MemoryLog()
log.is_away = True
emitter = Emitter(log.open, Path(sys.argv[1]))
refused = 0
while refused < 3:
    try:
        ids = emitter.emit_many([usage()] * 7)
    except SpoolFull:
        refused += 1
    else:
        sys.stdout.write("".join(f"{i}\\n" for i in ids))
        sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


def test_a_file_size_limit_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """A write that is cut short by the system, then death: what was accepted is still sent."""
    spool = tmp_path / "spool"
    child = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(spool)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=_limit_files_to(10_000),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    accepted = child.stdout.split()
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert len(accepted) > 7
    log = SqliteLog(tmp_path / "log.db")
    result = drain_spools(spool, log, timeout_s=20)
    assert (result.sent, result.damaged, result.torn) == (len(accepted), 0, 0)
    assert sorted(ids_on(log)) == sorted(accepted)
    log.close()


def _limit_files_to(size: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def _wait(gate: threading.Event) -> None:
    gate.wait(10)
