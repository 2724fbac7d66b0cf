"""What `with metered(...)` adds to a model call, spool included, beside the bare work in it.

Bare is one `hold` of the same arguments through redis-py, and one `emit` of the same usage. The ways take
turns call by call, so that a shared machine is as fast for one as for the other.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from gate_sdk.live import Consumer
from services.redis_local import local_valkey

from tollkeeper.gate import encoding
from tollkeeper.gate.commands import Request
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.sdk import AsyncGate, Gate, metered
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.usage import Usage

CAPS = (2**52, 2**52)
WARM_UP = 50
CALL: dict[str, Any] = {
    "organization": "acme",
    "member": "ann",
    "surface": "web",
    "model": "m",
    "input_tokens": 1_200,
    "max_output_tokens": 800,
}
ANSWER = {
    "type": "message",
    "id": "msg_1",
    "model": "m",
    "usage": {"input_tokens": 1_000, "output_tokens": 200},
}


def run(calls: int) -> dict[str, float]:
    """Microseconds a call at the median and the 99th percentile; `ratio…` is metered over bare, medians."""
    with ExitStack() as stack:
        server = local_valkey()
        stack.callback(server.close)
        server.start()
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        consumer = Consumer(server.address, caps=CAPS)
        stack.callback(consumer.close)
        found = _in_threads(server.address, consumer, root, calls)
        asynchronous = asyncio.run(_in_tasks(server.address, consumer, root, calls))
    seconds = {**found, "asyncio_metered": asynchronous}
    figures: dict[str, float] = {"calls": calls}
    for name, taken in seconds.items():
        figures[f"{name}_p50_us"] = round(median(taken) * 1e6)
        figures[f"{name}_p99_us"] = round(quantiles(taken, n=100)[-1] * 1e6)
    bare = figures["bare_hold_p50_us"] + figures["bare_emit_p50_us"]
    figures["ratio_metered_to_bare"] = round(figures["metered_p50_us"] / bare, 2)
    figures["ratio_asyncio_metered_to_bare"] = round(figures["asyncio_metered_p50_us"] / bare, 2)
    return figures


def _in_threads(url: str, consumer: Consumer, root: Path, calls: int) -> dict[str, list[float]]:
    bare = GateFunctions(connect(url, trusted_only=True))
    with Gate(Emitter(consumer.log.open, root / "threads"), url) as gate:
        consumer.until_ready(gate.core)
        emitter = Emitter(consumer.log.open, root / "bare")
        hold = _BareHold(bare, gate)
        ways: dict[str, Callable[[], object]] = {
            "metered": lambda: _meter(gate),
            "bare_hold": hold.make,
            "bare_emit": lambda: emitter.emit(_usage()),
        }
        for work in ways.values():
            for _ in range(WARM_UP):
                work()
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(calls):
            for name, work in ways.items():
                begun = perf_counter()
                work()
                taken[name].append(perf_counter() - begun)
        emitter.close()
    bare.close()
    return taken


async def _in_tasks(url: str, consumer: Consumer, root: Path, calls: int) -> list[float]:
    taken = []
    async with AsyncGate(Emitter(consumer.log.open, root / "tasks"), url) as gate:
        await asyncio.to_thread(consumer.until_ready, gate.core)
        for number in range(WARM_UP + calls):
            begun = perf_counter()
            async with metered(gate, **CALL) as call:
                call.response(ANSWER)
            if number >= WARM_UP:
                taken.append(perf_counter() - begun)
    return taken


class _BareHold:
    """The same function with the same arguments, and nothing around it."""

    def __init__(self, functions: GateFunctions, gate: Gate) -> None:
        self._functions = functions
        self._emitter = gate.core.session.emitter or ""
        self._millis = (gate.core.session.redis_now() or 0) // 1_000
        self._made = 0

    def make(self) -> object:
        """A hold under an id of its own."""
        self._made += 1
        hold_id = f"acme/{self._emitter}/{self._millis}/bare-{self._made}"
        request = Request(15_600, "ann", "web")
        return self._functions.run(
            encoding.hold("acme", request, hold_id=hold_id, emitter=self._emitter, epoch=1)
        )


def _meter(gate: Gate) -> None:
    with metered(gate, **CALL) as call:
        call.response(ANSWER)


def _usage() -> Usage:
    return Usage(
        organization="acme",
        member="ann",
        surface="web",
        model="m",
        input_tokens=1_000,
        output_tokens=200,
    )
