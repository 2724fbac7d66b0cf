"""A gate on a real cluster of three: each primary has an epoch of its own, and lists the emitter itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gate.clusters import meet, members_of
from gate_sdk.live import LONG_MICROS, prices_word, snapshot_at
from metering.fake_log import MemoryLog
from services.finding import skip_or_fail
from services.redis_local import LocalRedis, why_unavailable
from support.waiting import eventually

from tollkeeper.events.codec import decode
from tollkeeper.events.emitters import EmitterStarted
from tollkeeper.gate import encoding
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.sdk import AsyncGate, Gate, Refused
from tollkeeper.gate.sdk.core import Core
from tollkeeper.metering.emitter import Emitter

ORGANIZATIONS = [f"acme-{number}" for number in range(12)]
CALL: dict[str, Any] = {"member": "ann", "surface": "web", "model": "m", "max_cost_usd": "0.0001"}


class ClusterConsumer:
    """Epoch 1 of each primary, open; all organizations are warm."""

    def __init__(self, url: str) -> None:
        self.log = MemoryLog()
        self.functions = GateFunctions(connect(url))
        self.functions.load()
        self.tags = self.functions.tags()
        for tag in self.tags:
            self.open(tag, 1)
        now = self.functions.run(encoding.read_epoch(tag=self.tags[0])).now
        for name in ORGANIZATIONS:
            tag = self.functions.tag_of(name)
            self.functions.run(encoding.warm(name, snapshot_at(now), tag=tag))

    def open(self, tag: str, epoch: int) -> None:
        """Begin an epoch, with nobody to wait for."""
        here = self.functions.incarnation(tag=tag)
        self.functions.run(encoding.begin_epoch(epoch, here, tag=tag))
        self.functions.run(encoding.open_epoch(epoch, tag=tag))
        now = self.functions.run(encoding.read_epoch(tag=tag)).now
        self.functions.run(
            encoding.renew(epoch, here, asked_at=now, lease_micros=LONG_MICROS, tag=tag)
        )
        self.functions.run(encoding.publish(epoch, "prices", 1, [prices_word(now)], tag=tag))

    def until_ready(self, core: Core) -> None:
        """List the emitters that the log tells of, on every primary."""
        core.check_open()

        def is_ready() -> bool:
            for tag in self.tags:
                self.functions.run(encoding.list_emitters(1, started=self.started(), tag=tag))
            core.session.wake()
            return core.trouble is None

        eventually(is_ready, what="a gate that is ready")

    def started(self) -> list[str]:
        """The emitters of which the log tells."""
        events = [
            decode(record.value)
            for partition, end in self.log.end_offsets().items()
            for record in self.log.read(partition, 0, max_records=end or 1)
        ]
        return sorted({one.emitter for one in events if isinstance(one, EmitterStarted)})

    def held(self) -> int:
        """How many holds there are, everywhere."""
        return sum(len(self.functions.run(encoding.open_holds(name))) for name in ORGANIZATIONS)


@pytest.fixture(params=["redis", "valkey"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "redis" and (reason := why_unavailable()):
        skip_or_fail(f"Redis isn't at hand (local: {reason})")
    servers: list[LocalRedis] = members_of(request.param)
    try:
        for server in servers:
            server.start()
        meet(servers)
        yield servers[0].address.replace("redis://", "redis+cluster://")
    finally:
        for server in servers:
            server.close()


def test_every_primary_is_asked_and_each_has_its_own_epoch(url: str, tmp_path: Path) -> None:
    consumer = ClusterConsumer(url)
    assert len(set(consumer.tags)) == 3
    assert {consumer.functions.tag_of(name) for name in ORGANIZATIONS} == set(consumer.tags)
    gate = Gate(Emitter(consumer.log.open, tmp_path / "threads"), url)
    consumer.until_ready(gate.core)
    holds = [gate.hold(organization=name, **CALL) for name in ORGANIZATIONS]
    assert consumer.held() == len(ORGANIZATIONS)
    for hold in holds:
        hold.release()
    assert consumer.held() == 0
    away = consumer.functions.tag_of("acme-0")
    here = consumer.functions.incarnation(tag=away)
    consumer.functions.run(encoding.begin_epoch(2, here, tag=away))
    with pytest.raises(Refused):
        gate.hold(organization="acme-0", **CALL)
    other = next(name for name in ORGANIZATIONS if consumer.functions.tag_of(name) != away)
    gate.hold(organization=other, **CALL).release()
    assert gate.close()

    async def main() -> None:
        async with AsyncGate(Emitter(consumer.log.open, tmp_path / "tasks"), url) as tasks:
            await asyncio.to_thread(tasks.core.check_open)
            await asyncio.to_thread(
                eventually, lambda: tasks.core.session.emitter in consumer.started()
            )
            for tag in set(consumer.tags) - {away}:
                call = encoding.list_emitters(1, started=consumer.started(), tag=tag)
                consumer.functions.run(call)
            async with await tasks.hold(organization=other, **CALL):
                assert consumer.held() == 1

    asyncio.run(main())
    assert consumer.held() == 0
    consumer.functions.close()
