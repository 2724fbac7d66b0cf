"""`AsyncEmitter` keeps the promises of `Emitter` and never blocks the event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from metering.fake_log import MemoryLog, assert_no_gaps, ids_on, usage, usages_on
from metering.lives import assert_retired_last, held, reached, retired_on, started_on

from tollkeeper.errors import Misuse, SpoolFailed, SpoolFull
from tollkeeper.metering.aio import AsyncEmitter
from tollkeeper.metering.emitter import EmitterSettings, InvalidUsage

LONGEST_BLOCK_S = 2.0  # a blocked loop would stand still for 10 s; a busy machine may take some


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, with a bound."""
    asyncio.run(asyncio.wait_for(work, 30))


async def until(predicate: Callable[[], object]) -> None:
    """Let the loop turn until the predicate is true."""
    async with asyncio.timeout(10):
        while not predicate():
            await asyncio.sleep(0.001)


class Watch:
    """Measures the longest time for which the event loop didn't turn."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.turns = 0

    async def watch(self) -> None:
        last = monotonic()
        while True:
            await asyncio.sleep(0.001)
            self.longest_s = max(self.longest_s, monotonic() - last)
            last = monotonic()
            self.turns += 1


def test_emitted_usage_reaches_the_log(tmp_path: Path) -> None:
    async def work() -> None:
        log = MemoryLog()
        async with AsyncEmitter(log.open, tmp_path) as emitter:
            ids = await asyncio.gather(*(emitter.emit(usage(n)) for n in range(50)))
            ids += await emitter.emit_many([usage(n) for n in range(50)])
            assert await emitter.flush(10)
            assert emitter.stats().acknowledged == 100
        assert sorted(ids_on(log)) == sorted(ids)
        assert_no_gaps(usages_on(log))
        with pytest.raises(Misuse):
            await emitter.emit(usage())

    run(work())


def test_a_slow_disk_does_not_block_the_event_loop(tmp_path: Path) -> None:
    gate, is_syncing = threading.Event(), threading.Event()

    def slow_sync(descriptor: int) -> None:
        is_syncing.set()
        gate.wait(10)
        os.fdatasync(descriptor)

    async def work() -> None:
        watch = Watch()
        watching = asyncio.create_task(watch.watch())
        emitter = AsyncEmitter(MemoryLog().open, tmp_path, sync=slow_sync)
        emits = [asyncio.create_task(emitter.emit(usage(n))) for n in range(20)]
        await until(is_syncing.is_set)
        turns = watch.turns
        await until(lambda: watch.turns > turns + 50)
        assert not any(task.done() for task in emits)
        assert watch.longest_s < LONGEST_BLOCK_S
        gate.set()
        await asyncio.gather(*emits)
        assert await emitter.close()
        watching.cancel()

    run(work())


def test_a_log_that_is_away_does_not_block_the_event_loop(tmp_path: Path) -> None:
    async def work() -> None:
        log = MemoryLog()
        log.is_away = True
        watch = Watch()
        watching = asyncio.create_task(watch.watch())
        emitter = AsyncEmitter(log.open, tmp_path, settings=EmitterSettings(first_backoff_s=0.01))
        await emitter.emit(usage())
        turns = watch.turns
        assert not await emitter.flush(0.2)
        assert watch.turns > turns + 5
        turns = watch.turns
        assert not await emitter.close(0.2)
        assert watch.turns > turns + 5
        watching.cancel()

    run(work())


def test_invalid_usage_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with AsyncEmitter(MemoryLog().open, tmp_path) as emitter:
            with pytest.raises(InvalidUsage, match="input_tokens"):
                await emitter.emit(usage(-1))

    run(work())


def test_back_pressure_is_awaited_and_ends_in_a_refusal(tmp_path: Path) -> None:
    gate = threading.Event()
    settings = EmitterSettings(max_waiting_records=2, full_timeout_s=0.1)

    async def work() -> None:
        log = MemoryLog()
        emitter = AsyncEmitter(log.open, tmp_path, settings=settings, sync=lambda _d: _wait(gate))
        first = asyncio.create_task(emitter.emit_many([usage(1), usage(2)]))
        await until(lambda: emitter.stats().waiting_records == 2)
        with pytest.raises(SpoolFull, match="2 usages wait"):
            await emitter.emit(usage(3))
        gate.set()
        await first
        await asyncio.gather(*(emitter.emit(usage(n)) for n in range(30)))
        assert await emitter.close()
        assert len(ids_on(log)) == 32

    run(work())


def test_a_full_spool_is_awaited_and_ends_in_a_refusal(tmp_path: Path) -> None:
    settings = EmitterSettings(max_spool_bytes=2_000, full_timeout_s=0.05, first_backoff_s=0.01)

    async def work() -> None:
        log = MemoryLog()
        log.is_away = True
        async with AsyncEmitter(log.open, tmp_path, settings=settings) as emitter:
            with pytest.raises(SpoolFull, match="max_spool_bytes"):
                for n in range(100):
                    await emitter.emit(usage(n))
            log.is_away = False
            assert await emitter.flush(10)
            await emitter.emit(usage())

    run(work())


def test_a_disk_that_never_answers_ends_in_a_refusal(tmp_path: Path) -> None:
    gate = threading.Event()
    settings = EmitterSettings(full_timeout_s=0.02, sync_timeout_s=0.02)

    async def work() -> None:
        emitter = AsyncEmitter(
            MemoryLog().open, tmp_path, settings=settings, sync=lambda _d: _wait(gate)
        )
        with pytest.raises(SpoolFailed, match="may still be accepted"):
            await emitter.emit(usage())
        with pytest.raises(SpoolFailed, match="nothing was accepted"):
            await emitter.emit(usage())
        gate.set()
        assert await emitter.close()

    run(work())


def test_cancelling_before_the_writer_took_it_withdraws_the_usage(tmp_path: Path) -> None:
    gate, is_syncing = threading.Event(), threading.Event()

    def sync(_descriptor: int) -> None:
        is_syncing.set()
        gate.wait(10)

    async def work() -> None:
        log = MemoryLog()
        settings = EmitterSettings(max_waiting_records=2)
        emitter = AsyncEmitter(log.open, tmp_path, settings=settings, sync=sync)
        taken = asyncio.create_task(emitter.emit(usage(event_id="taken")))
        await until(is_syncing.is_set)
        queued = asyncio.create_task(emitter.emit(usage(event_id="queued")))
        await until(lambda: emitter.stats().waiting_records == 2)
        waiting = asyncio.create_task(emitter.emit(usage(event_id="waiting")))
        await asyncio.sleep(0)
        for task in (taken, queued, waiting):
            task.cancel()
        results = await asyncio.gather(taken, queued, waiting, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert not emitter.emitter.start()._intake._room_waiters, "a cancelled task is remembered"
        gate.set()
        assert await emitter.emit(usage(event_id="later")) == "later"
        assert await emitter.flush(10)
        assert emitter.stats().waiting_records == 0
        assert ids_on(log) == ["taken", "later"]
        assert [event.sequence for event in usages_on(log)] == [1, 2]
        assert await emitter.close()

    run(work())


def test_one_emitter_serves_two_event_loops(tmp_path: Path) -> None:
    log = MemoryLog()
    emitter = AsyncEmitter(log.open, tmp_path)

    async def emit() -> None:
        await emitter.emit(usage())

    run(emit())
    run(emit())

    async def close() -> None:
        assert await emitter.close()

    run(close())
    assert len(ids_on(log)) == 2


def _wait(gate: threading.Event) -> None:
    gate.wait(10)


def test_lives_and_other_facts_are_told_as_with_threads(tmp_path: Path) -> None:
    async def work() -> None:
        log, in_use = MemoryLog(), set[str]()
        emitter = AsyncEmitter(log.open, tmp_path, settings=EmitterSettings(first_backoff_s=0.01))
        emitter.ask_before_retiring(in_use.__contains__)
        first, again = await asyncio.gather(emitter.identity(), emitter.identity())
        assert first == again == await emitter.identity() == emitter.emitter.identity()
        in_use.add(first)
        assert await emitter.begin_anew(first)
        assert not await emitter.begin_anew(first)
        second = await emitter.identity()
        await emitter.emit(held(first))
        await emitter.report(reached())
        assert await emitter.flush(10)
        assert (set(started_on(log)), retired_on(log)) == ({first, second}, {})
        in_use.clear()
        assert await emitter.close()
        assert set(retired_on(log)) == {first, second}
        assert_retired_last(log)
        with pytest.raises(Misuse):
            await emitter.identity()

    run(work())


def test_an_emitter_that_cannot_be_announced_refuses(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file is in the way")

    async def work() -> None:
        async with AsyncEmitter(MemoryLog().open, tmp_path / "spool") as emitter:
            with pytest.raises(SpoolFailed, match="isn't announced"):
                await emitter.identity()

    run(work())
