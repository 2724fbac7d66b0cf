"""Whole gates: from the environment, with their threads, on an event loop, and across a fork."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gate_sdk.live import Consumer
from services.finding import skip_or_fail
from services.redis_local import LocalRedis, local_valkey, why_unavailable
from support.forking import ended_well, in_fork
from support.waiting import eventually

from tollkeeper.errors import InvalidInput, Misuse
from tollkeeper.gate.embedded import stop_embedded_gate
from tollkeeper.gate.sdk import AsyncGate, Gate, GateSettings, Refused, metered
from tollkeeper.metering.emitter import Emitter

CALL: dict[str, Any] = {
    "organization": "acme",
    "surface": "web",
    "model": "m",
    "max_cost_usd": "0.00001",
}
ENDS_IN_ORDER = """
import atexit
register = atexit.register
def said(ends, *rest):
    if ends.__module__.startswith("tollkeeper"):
        print(ends.__module__.split(".")[-1])
    return register(ends, *rest)
atexit.register = said
from tollkeeper.gate.sdk import Gate
Gate.open({"TOLLKEEPER_HOME": "/nowhere", "TOLLKEEPER_REDIS": "redis://127.0.0.1:1"})
"""
IMPATIENT = GateSettings(start_wait_s=0.05, warm_wait_s=0.05)


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[LocalRedis]:
    """A server of this test's own: whose epoch is about itself."""
    if request.param == "redis" and (reason := why_unavailable()):
        skip_or_fail(f"Redis isn't at hand (local: {reason})")
    server = LocalRedis() if request.param == "redis" else local_valkey()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def consumer(server: LocalRedis) -> Iterator[Consumer]:
    consumer = Consumer(server.address)
    yield consumer
    consumer.close()


def test_threads_that_hold_at_once_stay_below_the_cap_and_all_their_usage_arrives(
    server: LocalRedis, consumer: Consumer, tmp_path: Path
) -> None:
    gate = Gate(Emitter(consumer.log.open, tmp_path), server.address)
    consumer.until_ready(gate.core)

    def call(number: int) -> int:
        try:
            with metered(gate, member="ann" if number % 2 else "bob", **CALL) as call:
                call.response({"type": "message", "model": "m", "usage": usage_of(number)})
            return 1
        except Refused:
            return 0

    with ThreadPoolExecutor(8) as pool:
        granted = sum(pool.map(call, range(120)))
    assert granted == 50, "500 micro-USD are 50 holds, and nobody folds"
    assert consumer.held_micros() == 500
    stats = gate.stats()
    assert (stats.granted, stats.settled, stats.refused) == (50, 50, 70)
    assert gate.close()
    assert len({one.hold_id for one in consumer.usages()}) == 50
    assert {one.hold_id for one in consumer.open_holds()} == {
        one.hold_id for one in consumer.usages()
    }, "they are the fold's to end"
    with pytest.raises(Misuse, match="closed"):
        gate.hold(member="ann", **CALL)


def usage_of(number: int) -> dict[str, int]:
    """Of a message."""
    return {"input_tokens": number, "output_tokens": 0}


def test_tasks_that_hold_at_once_stay_below_the_cap_too(
    server: LocalRedis, consumer: Consumer, tmp_path: Path
) -> None:
    async def main() -> int:
        async with AsyncGate(Emitter(consumer.log.open, tmp_path), server.address) as gate:
            await asyncio.to_thread(consumer.until_ready, gate.core)

            async def call(number: int) -> int:
                try:
                    async with metered(gate, member="ann", **CALL) as call:
                        call.response({"type": "message", "model": "m", "usage": usage_of(number)})
                    return 1
                except Refused:
                    return 0

            return sum(await asyncio.gather(*(call(number) for number in range(60))))

    assert asyncio.run(main()) == 30, "her own cap is 300 micro-USD"
    assert len(consumer.usages()) == 30


def test_a_gate_that_is_closed_releases_its_holds_and_takes_its_leave(
    server: LocalRedis, consumer: Consumer, tmp_path: Path
) -> None:
    with Gate(Emitter(consumer.log.open, tmp_path), server.address) as gate:
        consumer.until_ready(gate.core)
        hold = gate.hold(member="ann", **CALL)
        assert consumer.held_micros() == 10
    assert consumer.held_micros() == 0
    assert type(consumer.events()[-1]).__name__ == "EmitterRetired"
    assert hold.hold_id is not None


def test_a_forked_child_has_an_emitter_a_thread_and_holds_of_its_own(
    server: LocalRedis, consumer: Consumer, tmp_path: Path
) -> None:
    gate = Gate(Emitter(consumer.log.open, tmp_path), server.address)
    consumer.until_ready(gate.core)
    of_parent = gate.hold(member="ann", **CALL)
    parent = gate.core.session.emitter

    def in_child() -> None:
        assert len(gate.core.session.book) == 0
        consumer.until_ready(gate.core)
        with gate.hold(member="ann", **CALL):
            assert gate.core.session.emitter != parent
            assert consumer.held_micros() == 20
        assert gate.close(10)
        assert consumer.held_micros() == 10, "the parent's is not the child's to release"

    assert ended_well(in_fork(in_child))
    assert gate.core.session.emitter == parent
    of_parent.release()
    assert gate.close()
    assert consumer.held_micros() == 0


def test_a_server_that_came_back_without_its_memory_grants_nothing(
    server: LocalRedis, consumer: Consumer, tmp_path: Path
) -> None:
    """Whatever its epoch key says: it may lack the last holds."""
    gate = Gate(Emitter(consumer.log.open, tmp_path), server.address, settings=IMPATIENT)
    consumer.until_ready(gate.core)
    gate.hold(member="ann", **CALL).release()
    server.kill()
    server.start()
    with pytest.raises(Refused) as refused:
        gate.hold(member="ann", **CALL)
    assert refused.value.is_unavailable
    gate.close(1)


def test_the_environment_names_log_home_and_redis(tmp_path: Path) -> None:
    home = tmp_path / "h"
    environ = {"TOLLKEEPER_HOME": str(home)}
    try:
        with Gate.open(environ, settings=IMPATIENT) as gate:
            with pytest.raises(Refused) as refused:
                gate.hold(member="ann", **CALL)
            assert refused.value.is_unavailable
            eventually(lambda: "epoch" in (gate.stats().trouble or ""))

        async def main() -> None:
            async with AsyncGate.open(environ, settings=IMPATIENT) as gate:
                with pytest.raises(Refused) as refused:
                    await gate.hold(member="ann", **CALL)
                assert refused.value.is_unavailable

        asyncio.run(main())
    finally:
        stop_embedded_gate(home)
    with pytest.raises(InvalidInput, match="TOLLKEEPER_REDIS"):
        Gate.open(environ | {"TOLLKEEPER_REDIS": "http://nowhere"})


def test_a_redis_that_nobody_runs_is_unavailable_and_the_gate_can_be_closed(tmp_path: Path) -> None:
    environ = {"TOLLKEEPER_HOME": str(tmp_path / "h"), "TOLLKEEPER_REDIS": "redis://127.0.0.1:1"}
    gate = Gate.open(environ, settings=IMPATIENT)
    with pytest.raises(Refused) as refused:
        gate.hold(member="ann", **CALL)
    assert refused.value.is_unavailable
    eventually(lambda: "can't be asked" in (gate.stats().trouble or ""))
    assert gate.close()


def test_at_the_end_of_a_process_the_gate_ends_before_its_emitter() -> None:
    """Else a tick that comes after meets a closed emitter, and tells a bug."""
    child = subprocess.run(
        [sys.executable, "-c", ENDS_IN_ORDER],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert child.stdout.split() == ["emitter", "core"], "who is registered last ends first"
