"""What a hold and its release cost, beside the round trip of functions that answer the same and do nothing.

Both are asked with the same calls, through the same client, in the same run: the floor is a library whose
`hold` and `release` only answer. They take turns slice by slice, since a shared machine is faster in one
second than in the next; what counts is the ratio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from statistics import median, quantiles
from threading import Barrier, Thread
from time import perf_counter
from typing import Any

import msgspec
from gate.books import Account, Books
from gate.servers import open_gate
from redis import Redis
from services.redis_local import LocalRedis, local_valkey, why_unavailable

from tollkeeper.events.ids import new_emitter_id, now_micros
from tollkeeper.gate import encoding
from tollkeeper.gate.answers import Granted, Released
from tollkeeper.gate.async_functions import AsyncGateFunctions, connect_async
from tollkeeper.gate.commands import Request
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.library import Library

CLIENTS = (1, 32)
PAIRS_A_SLICE = 50
"""Of each client; a slice is short beside what else happens on the machine."""
LEAST_SLICES = 12
AMPLE = 10**15
_NOTHING = """#!lua name={name}
local function answering(name, answer)
  redis.register_function{{
    function_name = '{name}_' .. name,
    callback = function() return answer end,
    flags = {{'allow-cross-slot-keys'}},
  }}
end
answering('hold', {{'granted', 1793500000000000, 1000, 1793500000000000, 1793500000000000}})
answering('release', {{'released', 1000}})
"""
FLOOR = Library("tollkeeper_floor", _NOTHING.format(name="tollkeeper_floor"))

Work = list[Call[Any]]
Slice = tuple[float, list[float]]
"""How long all of it took, and each call of it, in seconds."""


class Taken(msgspec.Struct):
    """The slices of one way, and of its floor."""

    ours: list[Slice] = []
    floor: list[Slice] = []


class Holder:
    """One emitter that holds and releases for ever, in an organization that has enough of everything."""

    def __init__(self, address: str) -> None:
        self._emitter, self._ids = new_emitter_id(), count()
        gate = GateFunctions(connect(address))
        gate.load()
        open_gate(gate, "0", emitters=(self._emitter,), organizations=("acme",))
        caps: dict[str, Any] = {"organization": AMPLE, "member": AMPLE}
        account = Account(offset=1, position=2, spent={}, caps=caps, purchased=AMPLE)
        snapshot = Books("acme", account).snapshot(account, epoch=1, now=now_micros(), held=())
        gate.run(encoding.warm("acme", snapshot))
        gate.close()

    def work(self, pairs: int) -> Work:
        """So many holds, each followed by its release."""
        return [call for _ in range(pairs) for call in self._pair()]

    def _pair(self) -> tuple[Call[Any], Call[Any]]:
        hold_id = f"acme/{self._emitter}/{now_micros() // 1_000}/{next(self._ids)}"
        request = Request(1_000, "ann", "web")
        hold = encoding.hold("acme", request, hold_id=hold_id, emitter=self._emitter, epoch=1)
        return hold, encoding.release(hold_id, epoch=1)


def run(pairs: int) -> dict[str, float]:
    """Pairs of hold and release per second, beside the floor's, by server and way of asking.

    `pairs` are of each client alone; p50 and p99 are of one call, in milliseconds.
    """
    servers = {"valkey": local_valkey}
    if why_unavailable() is None:
        servers["redis"] = LocalRedis
    figures: dict[str, float] = {}
    for kind, make in servers.items():
        server = make()
        try:
            server.start()
            with Redis.from_url(server.address) as client:
                client.function_load(FLOOR.text)
            holder = Holder(server.address)
            for name, value in _on(server.address, holder, pairs).items():
                figures[f"{kind}_{name}"] = value
        finally:
            server.close()
    return figures


def _on(address: str, holder: Holder, pairs: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for clients in CLIENTS:
        slices = max(pairs // PAIRS_A_SLICE // clients, LEAST_SLICES)
        for way, taken in (
            ("sync", _in_threads(address, holder, clients, slices)),
            ("asyncio", asyncio.run(_in_asyncio(address, holder, clients, slices))),
        ):
            for name, value in _figures(taken, clients).items():
                figures[f"{way}_{clients}_{name}"] = value
    return figures | _processor(address, holder, pairs)


def _figures(taken: Taken, clients: int) -> dict[str, float]:
    pairs, turns = clients * PAIRS_A_SLICE, [*zip(taken.ours, taken.floor, strict=True)]
    ours, floor = (median(seconds for seconds, _ in slices) for slices in (taken.ours, taken.floor))
    cuts = [
        quantiles([call for _, calls in slices for call in calls], n=100)
        for slices in (taken.ours, taken.floor)
    ]
    return {
        "pairs_per_s": round(pairs / ours),
        "floor_pairs_per_s": round(pairs / floor),
        # Of each turn: what disturbs one slice mostly disturbs the one beside it, too.
        "ratio": round(median(b / a for (a, _), (b, _) in turns), 2),
        **{f"{name}p50_ms": _ms(cut[49]) for name, cut in zip(("", "floor_"), cuts, strict=True)},
        **{f"{name}p99_ms": _ms(cut[98]) for name, cut in zip(("", "floor_"), cuts, strict=True)},
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)


def _checked(answer: object) -> None:
    assert isinstance(answer, Granted | Released), answer


def _in_threads(address: str, holder: Holder, clients: int, slices: int) -> Taken:
    """Threads that share the functions, as those of one process do."""
    taken = Taken()
    ours, floor = (GateFunctions(connect(address), one) for one in (None, FLOOR))
    for _ in range(slices + 1):
        works = [holder.work(PAIRS_A_SLICE) for _ in range(clients)]
        taken.floor.append(_threads(floor.run, works))
        taken.ours.append(_threads(ours.run, works))
    ours.close()
    floor.close()
    return _warm(taken)


def _threads(ask: Callable[[Call[Any]], object], works: Sequence[Work]) -> Slice:
    took: list[list[float]] = [[] for _ in works]
    start, end = Barrier(len(works) + 1), Barrier(len(works) + 1)

    def one(work: Work, calls: list[float]) -> None:
        start.wait()
        for call in work:
            began = perf_counter()
            answer = ask(call)
            calls.append(perf_counter() - began)
            _checked(answer)
        end.wait()

    for work, calls in zip(works, took, strict=True):
        Thread(target=one, args=(work, calls)).start()
    start.wait()
    began = perf_counter()
    end.wait()
    return perf_counter() - began, [call for calls in took for call in calls]


async def _in_asyncio(address: str, holder: Holder, clients: int, slices: int) -> Taken:
    """Tasks of one loop."""
    taken = Taken()
    ours, floor = (AsyncGateFunctions(connect_async(address), one) for one in (None, FLOOR))
    for _ in range(slices + 1):
        works = [holder.work(PAIRS_A_SLICE) for _ in range(clients)]
        taken.floor.append(await _tasks(floor, works))
        taken.ours.append(await _tasks(ours, works))
    await ours.close()
    await floor.close()
    return _warm(taken)


async def _tasks(gate: AsyncGateFunctions, works: Sequence[Work]) -> Slice:
    took: list[float] = []

    async def one(work: Work) -> None:
        for call in work:
            began = perf_counter()
            answer = await gate.run(call)
            took.append(perf_counter() - began)
            _checked(answer)

    began = perf_counter()
    await asyncio.gather(*map(one, works))
    return perf_counter() - began, took


def _warm(taken: Taken) -> Taken:
    """Without the first slice, which connected."""
    return Taken(taken.ours[1:], taken.floor[1:])


def _processor(address: str, holder: Holder, pairs: int) -> dict[str, float]:
    """How long the server is in a function, in microseconds at the median slice, by its own account."""
    figures: dict[str, list[float]] = {"hold": [], "release": [], "nothing": []}
    ours, floor = (GateFunctions(connect(address), one) for one in (None, FLOOR))
    with Redis.from_url(address) as client:
        for _ in range(max(pairs // PAIRS_A_SLICE, 4)):
            work = holder.work(PAIRS_A_SLICE)
            for name, gate, calls in (
                ("nothing", floor, work[::2]),
                ("hold", ours, work[::2]),
                ("release", ours, work[1::2]),
            ):
                client.config_resetstat()
                for answer in gate.run_many(calls):
                    _checked(answer)
                figures[name].append(client.info("commandstats")["cmdstat_fcall"]["usec_per_call"])
    ours.close()
    floor.close()
    return {f"in_server_{name}_us": round(median(taken), 1) for name, taken in figures.items()}
