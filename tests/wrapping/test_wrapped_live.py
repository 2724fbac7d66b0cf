"""Wrapped clients on a real server: the real gate, its thread, spool and log, and many call sites at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anthropic
import openai
import pytest
from gate_sdk.live import Consumer
from providers import anthropic_api, openai_api
from providers.stand_in import StandIn
from providers.turns import Turn
from services.redis_local import LocalRedis, local_valkey

from tollkeeper.gate.sdk import AsyncGate, Gate, Refused, WrapSettings, acting_for
from tollkeeper.metering.emitter import Emitter

SETTINGS = WrapSettings(bytes_per_token=10_000)
"""So that a call is held for one token in and one out.

The caps are 500 micro-USD of the organization and 300 of a member, and nobody folds.
"""
TURN = Turn(input_tokens=1, output_tokens=1)


@pytest.fixture
def server() -> Iterator[LocalRedis]:
    """A server of this test's own."""
    server = local_valkey()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def consumer(server: LocalRedis) -> Iterator[Consumer]:
    """What the service's side does."""
    consumer = Consumer(server.address)
    yield consumer
    consumer.close()


def assert_all_charged(
    consumer: Consumer, api: StandIn, granted: list[str], *, held_micros: int
) -> None:
    """As many calls as the caps allow reached the provider, each with its hold and its usage."""
    assert len(granted) == len(api.asked) == 500 // held_micros
    assert max(granted.count("ann"), granted.count("bob")) <= 300 // held_micros
    usages = consumer.usages()
    assert {(one.input_tokens, one.output_tokens, one.usage_source) for one in usages} == {
        (1, 1, "reported")
    }
    assert len({one.hold_id for one in usages}) == len(usages) == len(granted)
    assert consumer.held_micros() == len(granted) * held_micros


def test_threads_that_call_at_once_stay_below_the_caps(
    server: LocalRedis, consumer: Consumer, api: StandIn, tmp_path: Path
) -> None:
    gate = Gate(Emitter(consumer.log.open, tmp_path), server.address)
    consumer.until_ready(gate.core)
    api.will(*[anthropic_api.answers(TURN)] * 60)

    def call(number: int) -> str | None:
        member = "ann" if number % 2 else "bob"
        with acting_for(organization="acme", member=member, surface="web"):
            try:
                client.messages.create(
                    model="m", max_tokens=1, messages=[{"role": "user", "content": "Who?"}]
                )
            except Refused:
                return None
        return member

    with anthropic.Anthropic(api_key="k", base_url=api.url) as plain:
        client = gate.wrap(plain, settings=SETTINGS)
        with ThreadPoolExecutor(8) as pool:
            granted = [member for member in pool.map(call, range(60)) if member]
    assert gate.close()
    assert_all_charged(consumer, api, granted, held_micros=3 + 15)


def test_tasks_that_stream_at_once_stay_below_the_caps(
    server: LocalRedis, consumer: Consumer, api: StandIn, tmp_path: Path
) -> None:
    async def call(client: openai.AsyncOpenAI, number: int) -> str | None:
        member = "ann" if number % 2 else "bob"
        with acting_for(organization="acme", member=member, surface="web"):
            try:
                stream = await client.chat.completions.create(
                    model="m",
                    max_completion_tokens=1,
                    messages=[{"role": "user", "content": "Who?"}],
                    stream=True,
                )
                assert [chunk async for chunk in stream]
            except Refused:
                return None
        return member

    async def main() -> list[str]:
        async with AsyncGate(Emitter(consumer.log.open, tmp_path), server.address) as gate:
            await asyncio.to_thread(consumer.until_ready, gate.core)
            async with openai.AsyncOpenAI(api_key="k", base_url=api.url) as plain:
                client = gate.wrap(plain, settings=SETTINGS)
                found = await asyncio.gather(*(call(client, number) for number in range(60)))
        return [member for member in found if member]

    api.will(*[openai_api.answers(TURN)] * 60)
    granted = asyncio.run(asyncio.wait_for(main(), 60))
    assert_all_charged(consumer, api, granted, held_micros=6 + 15)  # the cache, written for an hour
