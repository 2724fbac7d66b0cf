"""Without threads the same code does the same, step by step, on the thread of whoever drives it."""

from __future__ import annotations

import errno
import os
import random
import tempfile
import threading
from pathlib import Path

import pytest
from metering.fake_log import MemoryLog, assert_no_gaps, ids_on, usage, usages_on
from metering.lives import assert_retired_last, held, retired_on, started_on

from tollkeeper import failpoints
from tollkeeper.errors import SpoolFull, Unavailable
from tollkeeper.metering import spool
from tollkeeper.metering.drain import drain_spools
from tollkeeper.metering.emitter import Emitter, EmitterSettings
from tollkeeper.metering.spool import emitter_directories
from tollkeeper.metering.surroundings import Surroundings
from tollkeeper.metering.usage import Usage

SETTINGS = EmitterSettings(segment_bytes=700, batch_records=2)


class Ticks:
    """A clock that only moves when it is told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def stepped(log: MemoryLog, spool: Path, *, settings: EmitterSettings = SETTINGS) -> Emitter:
    """An emitter without threads, whose time stands still."""
    surroundings = Surroundings(monotonic=Ticks(), has_threads=False)
    return Emitter(log.open, spool, settings=settings, surroundings=surroundings)


def test_emit_writes_at_once_and_only_a_step_sends(tmp_path: Path) -> None:
    log, threads = MemoryLog(), threading.active_count()
    emitter = stepped(log, tmp_path)
    ids = [emitter.emit(usage(n)) for n in range(3)]
    assert (emitter.stats().spooled_records, log.opened) == (3, 0)
    assert emitter.send_step()
    assert ids_on(log) == ids[:2]
    assert emitter.send_step()
    assert not emitter.send_step()
    assert ids_on(log) == ids
    identity = emitter.identity()
    assert emitter.send_step()
    assert list(started_on(log)) == [identity]
    assert emitter.close()
    assert list(retired_on(log)) == [identity]
    assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []


def test_nothing_waits_while_time_stands_still(tmp_path: Path) -> None:
    log = MemoryLog()
    log.is_away = True
    emitter = stepped(log, tmp_path, settings=EmitterSettings(max_spool_bytes=2_000))
    with pytest.raises(SpoolFull):
        for number in range(100):
            emitter.emit(usage(number))
    assert not emitter.send_step()
    assert (emitter.flush(1_000), emitter.stats().send_failures) == (False, 2)
    log.is_away = False
    assert emitter.flush(0)
    assert emitter.close(0)


def test_an_abandoned_emitter_is_taken_over_like_a_dead_ones(tmp_path: Path) -> None:
    log = MemoryLog()
    dead, heir = stepped(log, tmp_path), stepped(log, tmp_path)
    identity = dead.identity()
    accepted = [dead.emit(held(identity, n)) for n in range(5)]
    assert not heir.send_step()
    dead.abandon()
    heir.emit(usage())
    assert heir.close()
    assert drain_spools(tmp_path, log, timeout_s=10).owned == 0
    assert set(accepted) < set(ids_on(log))
    assert list(retired_on(log)) == [identity]


class Crash(BaseException):
    """The process is killed at a failpoint."""


class World:
    """Processes on one spool directory and one log, each with an emitter and open holds."""

    def __init__(self, spool: Path, processes: int) -> None:
        self.spool = spool
        self.log = MemoryLog(partition_count=2)
        self.ticks = Ticks()
        self.fails_next_sync = False
        self.crash_in = 0
        self.accepted: set[str] = set()
        self.announced: set[str] = set()
        self.holds: list[list[str]] = [[] for _ in range(processes)]
        self.emitters = [self._start(n) for n in range(processes)]
        self._number = 0

    def do(self, process: int, action: str) -> None:
        """One action of one process, which may die amid it."""
        try:
            getattr(self, f"_{action}")(process)
        except Crash:
            self.crash_in = 0
            self._die(process)
        except Unavailable:
            assert action in ("settle", "report", "hold"), action

    def end(self) -> None:
        """Peace: every hold is settled, every process ends, and what is left is drained."""
        self.crash_in, self.log.is_away, self.fails_next_sync = 0, False, False
        for process, emitter in enumerate(self.emitters):
            while self.holds[process]:
                self._settle(process)
            assert emitter.close()
        drain_spools(self.spool, self.log, timeout_s=20)

    def pass_failpoint(self, _name: str) -> None:
        """What stands in for `failpoints` while this world turns."""
        self.crash_in -= 1
        if self.crash_in == 0:
            raise Crash

    def _start(self, process: int) -> Emitter:
        surroundings = Surroundings(monotonic=self.ticks, sync=self._sync, has_threads=False)
        emitter = Emitter(self.log.open, self.spool, settings=SETTINGS, surroundings=surroundings)
        holds = self.holds[process] = []
        emitter.ask_before_retiring(lambda who: any(hold == who for hold in holds))
        return emitter

    def _sync(self, _descriptor: int) -> None:
        if self.fails_next_sync:
            self.fails_next_sync = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _hold(self, process: int) -> None:
        identity = self.emitters[process].identity()
        self.announced.add(identity)
        self.holds[process].append(identity)

    def _settle(self, process: int) -> None:
        if self.holds[process]:
            self._emit(process, held(self.holds[process][0], *self._next()))
            self.holds[process].pop(0)

    def _report(self, process: int) -> None:
        self._emit(process, usage(*self._next()))

    def _emit(self, process: int, reported: Usage) -> None:
        self.accepted.add(self.emitters[process].emit(reported))

    def _next(self) -> tuple[int, str]:
        self._number += 1
        return self._number, f"org-{self._number % 3}"

    def _send(self, process: int) -> None:
        self.emitters[process].send_step()

    def _look(self, process: int) -> None:
        self.ticks.now_s += SETTINGS.takeover_interval_s
        self.emitters[process].send_step()

    def _anew(self, process: int) -> None:
        emitter = self.emitters[process]
        if self.announced:
            emitter.begin_anew(max(self.announced))

    def _die(self, process: int) -> None:
        self.emitters[process].abandon()
        self.emitters[process] = self._start(process)

    def _close(self, process: int) -> None:
        self.emitters[process].close()
        self.emitters[process] = self._start(process)

    def _drain(self, _process: int) -> None:
        if not self.log.is_away:
            drain_spools(self.spool, self.log, timeout_s=20, settings=SETTINGS)

    def _turn_log(self, _process: int) -> None:
        self.log.is_away = not self.log.is_away

    def _break_disk(self, _process: int) -> None:
        self.fails_next_sync = True


ACTIONS = {
    "hold": 4,
    "settle": 6,
    "report": 2,
    "send": 8,
    "look": 3,
    "anew": 1,
    "die": 1,
    "close": 1,
    "drain": 1,
    "turn_log": 2,
    "break_disk": 1,
}
CRASH_IN = [0] * 12 + [1, 2, 3, 5]


@pytest.mark.parametrize("first_seed", range(0, 200, 50))
def test_whatever_happens_ends_are_told_last_and_nothing_is_lost(first_seed: int) -> None:
    others = set(spool._open_fds)
    for seed in range(first_seed, first_seed + 50):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
            world = World(Path(folder), processes=2)
            patched.setattr(failpoints, "_armed", {"any": ("kill", 1)})
            patched.setattr(failpoints, "_pass", world.pass_failpoint)
            patched.setattr(os, "fsync", lambda _descriptor: None)
            _turn(world, random.Random(seed), steps=150)
            assert world.accepted <= set(ids_on(world.log)), seed
            assert world.announced | set(started_on(world.log)) <= set(retired_on(world.log)), seed
            assert_retired_last(world.log)
            assert_no_gaps(usages_on(world.log))
            assert list(emitter_directories(world.spool)) == [], seed
            assert spool._open_fds <= others, f"{seed}: a dead one's lock would be held for ever"


def _turn(world: World, chance: random.Random, *, steps: int) -> None:
    names, weights = list(ACTIONS), list(ACTIONS.values())
    for _step in range(steps):
        (action,) = chance.choices(names, weights)
        world.crash_in = chance.choice(CRASH_IN)
        world.do(chance.randrange(len(world.emitters)), action)
    world.end()
