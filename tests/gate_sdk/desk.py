"""One process with its gate at a real server, driven step by step: no threads, and clocks of the test's.

What a consumer would do is done by the desk: it lists the emitters that the log tells of, and warms.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from gate.servers import Server
from gate.world import World
from metering.fake_log import MemoryLog

from tollkeeper.errors import GateUnavailable, TollkeeperError
from tollkeeper.events.codec import decode, encode
from tollkeeper.events.emitters import EmitterRetired, EmitterStarted
from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.gate import encoding
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.sdk import Gate, GateSettings
from tollkeeper.gate.sdk.hold import Hold
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.surroundings import Surroundings

A = TypeVar("A")
PICOS = 1_000_000
MODEL = PriceRow(
    model="m",
    input_picos=3 * PICOS,
    output_picos=15 * PICOS,
    cache_read_picos=300_000,
    cache_write_5m_picos=3_750_000,
    cache_write_1h_picos=6 * PICOS,
    web_search_picos=10**10,
)
"""3 micro-USD for a token in, 15 for one out."""


class Line:
    """The gate's functions through a line that a test can cut, and see what went through."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[Call[Any]] = []
        self.lose_before: dict[str, int] = {}
        """So many calls of a function don't reach the server."""
        self.lose_after: dict[str, int] = {}
        """So many calls do, and their answers are lost."""
        self.on_answer: dict[str, Callable[[], None]] = {}
        """Done after the server has answered and before the answer arrives."""
        self.is_cut = False
        self.reconnects = 0

    def tags(self) -> tuple[str, ...]:
        return (self.world.tag,)

    def tag_of(self, organization: str) -> str:
        return self.world.tag

    def follow(self, library: str) -> bool:
        self.library = library
        return library.startswith("tollkeeper_1_")

    def run(self, call: Call[A]) -> A:
        name = call.function
        if self.is_cut or self._takes(self.lose_before, name):
            raise GateUnavailable(f"{name} got lost")
        self.calls.append(call)
        answer = self.world.run(call)
        if name in self.on_answer:
            self.on_answer[name]()
        if self._takes(self.lose_after, name):
            raise GateUnavailable(f"the answer to {name} got lost")
        return answer

    def run_many(self, calls: Sequence[Call[Any]]) -> list[Any]:
        return [self._settled(call) for call in calls]

    def reconnect(self) -> None:
        self.reconnects += 1

    def close(self) -> None:
        self.is_cut = True

    def names(self) -> list[str]:
        """The functions that were asked, `touch` left out."""
        return [call.function for call in self.calls if call.function not in ("touch", "published")]

    def _settled(self, call: Call[Any]) -> Any:
        try:
            return self.run(call)
        except TollkeeperError as error:
            return error

    def _takes(self, times: dict[str, int], name: str) -> bool:
        left = times.get(name, 0)
        times[name] = left - 1
        return left > 0


class Desk:
    """`world` is a gate with one organization, of which `ann` and `bob` are members."""

    def __init__(self, server: Server, spool: Path, settings: GateSettings | None = None) -> None:
        self.world = World(server)
        self.line = Line(self.world)
        self.log = MemoryLog()
        self.disk_fails = False
        self.local_ahead_micros = 0
        self.monotonic_s = 1_000.0
        self.pauses: list[float] = []
        self.while_waiting: Callable[[], None] = lambda: None
        self._ids = count(1)
        self.emitter = Emitter(
            self.log.open,
            spool,
            surroundings=Surroundings(
                clock=lambda: self.world.now + self.local_ahead_micros,
                monotonic=lambda: self.monotonic_s,
                sync=self._sync,
                new_emitter_id=lambda: f"em-{self.world.tag}-{next(self._ids)}",
                has_threads=False,
            ),
        )
        self.gate = Gate(
            self.emitter,
            self.line,
            settings=settings,
            clock=lambda: self.world.now + self.local_ahead_micros,
            monotonic=lambda: self.monotonic_s,
            pause=self._pause,
            has_thread=False,
        )

    def ready(self, **snapshot: Any) -> Desk:
        """Listed, with prices, and the organization warm."""
        self.publish_prices()
        self.tick()
        self.fold_emitters()
        self.tick()
        self.world.warmed(**snapshot)
        self.line.calls.clear()
        return self

    @property
    def me(self) -> str:
        """The emitter under whose id holds are asked for."""
        emitter = self.gate.core.session.emitter
        assert emitter is not None
        return emitter

    def tick(self) -> None:
        """The session's round, and what is spooled to the log."""
        self.gate.core.tick()
        self.emitter.send_step()

    def fold_emitters(self, epoch: int = 1) -> None:
        """What consumers do: Redis' list becomes what the log says."""
        while self.emitter.send_step():
            continue
        events = self.logged()
        started = {one.emitter for one in events if isinstance(one, EmitterStarted)}
        retired = {one.emitter for one in events if isinstance(one, EmitterRetired)}
        self.world.run(
            encoding.list_emitters(
                epoch, started=sorted(started), retired=sorted(retired), tag=self.world.tag
            )
        )

    def retire(self, emitter: str) -> None:
        """What an operator does."""
        self.world.run(encoding.list_emitters(1, retired=(emitter,), tag=self.world.tag))

    def publish_prices(self, epoch: int = 1, version: int = 1) -> None:
        """What consumers do."""
        event = PricesPublished(
            publication_id="p-1",
            effective_from=self.world.now - 86_400_000_000,
            source="test",
            source_date="2026-10-31",
            prices=(MODEL,),
            command_id="cmd-1",
            actor="operator",
            occurred_at=self.world.now,
        )
        word = base64.b64encode(encode(event)).decode()
        self.world.run(encoding.publish(epoch, "prices", version, [word], tag=self.world.tag))

    def publish_policies(self, *words: str, version: int = 1) -> None:
        """What consumers do."""
        self.world.run(encoding.publish(1, "policies", version, words, tag=self.world.tag))
        self.tick()

    def call(self, **changes: Any) -> dict[str, Any]:
        """What is said of a call that costs 10 micro-USD at most."""
        given = {
            "organization": self.world.name,
            "member": "ann",
            "surface": "web",
            "model": "m",
            "max_cost_usd": "0.00001",
        }
        return given | changes

    def hold(self, **changes: Any) -> Hold:
        """A hold of 10 micro-USD."""
        return self.gate.hold(**self.call(**changes))

    def logged(self) -> list[object]:
        """Every event on the log."""
        return [
            decode(record.value)
            for partition, end in self.log.end_offsets().items()
            for record in self.log.read(partition, 0, max_records=end or 1)
        ]

    def usages(self) -> list[UsageRecorded]:
        """All usage, from the spool brought to the log."""
        while self.emitter.send_step():
            continue
        return [one for one in self.logged() if isinstance(one, UsageRecorded)]

    def in_redis(self) -> list[str]:
        """The ids of all holds that Redis has."""
        return [one.hold_id for one in self.world.holds()]

    def pass_by(self, seconds: float) -> None:
        """Let time pass, for Redis and for this process."""
        self.monotonic_s += seconds
        self.world.set_clock(self.world.now + round(seconds * 1_000_000))

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.pass_by(seconds)
        self.while_waiting()
        self.tick()

    def _sync(self, descriptor: int) -> None:
        if self.disk_fails:
            raise OSError(5, "the disk fails")


def booked(desk: Desk) -> dict[str | None, str]:
    """What the session has in flight: each hold's id and its state."""
    return {kept.hold_id: kept.state for kept in desk.gate.core.session.book.having(bool)}
