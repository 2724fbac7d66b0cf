"""The processes of an installation, made of the real code: consumers that fold and enforce, and product
services that hold, call a model and report."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
from simulation.logs import SimulatedLog, Topic
from simulation.scheduler import Process, Scheduler
from simulation.servers import Servers, SimulatedFunctions
from simulation.template import MEMBERS, MODEL, ORGANIZATIONS
from simulation.truth import HeldCall, Truth
from sqlalchemy import Dialect, Engine

from tollkeeper.enforcement.bundle import Enforcement
from tollkeeper.enforcement.means import Means
from tollkeeper.enforcement.settings import EnforcementSettings
from tollkeeper.errors import InvalidInput, TollkeeperError, Unavailable
from tollkeeper.gate.sdk import Gate, GateSettings, Refused
from tollkeeper.gate.sdk.gate import CallFields
from tollkeeper.gate.sdk.hold import Hold
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.surroundings import Surroundings
from tollkeeper.metering.usage import Usage
from tollkeeper.outbox.database import open_engine
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.settings import PipelineSettings

ENFORCEMENT = EnforcementSettings(
    lease_s=0.5, recovery_s=1.5, retire_after_s=6.0, watched_s=1.0, elsewhere_s=2.0, retry_s=0.2
)
GATE = GateSettings(lease_s=0.5)
TICK_S = 0.12
"""A quarter of the lease. Everything is faster than in earnest, so that a run of few steps sees all of it."""
UNPRICED = "model-without-a-price"
CALLS_TAKE_S = (0.0, 0.02, 0.4, 2.5)
EMITTER = EmitterSettings(takeover_interval_s=1.0)
"""Dead processes are found soon, so that a run sees their spools taken over."""


COMPILED: dict[object, object] = {}
DIALECTS: dict[str, Dialect] = {}
"""The one by which all that is compiled is known."""


class World:
    """What all processes share."""

    def __init__(
        self, scheduler: Scheduler, topic: Topic, servers: Servers, truth: Truth, folder: Path
    ) -> None:
        self.scheduler = scheduler
        self.topic = topic
        self.servers = servers
        self.truth = truth
        self.database = folder / "ledger.sqlite"
        self.spool = folder / "spool"
        self.is_tight = scheduler.chance(2)
        """Calls are large and long, so that caps are full nearly always."""
        self.emitter_numbers = count(1)
        self.event_numbers = count(1)

    def open_engine(self) -> Engine:
        """One more process' connections to the ledger; statements are compiled once for all runs."""
        engine = open_engine(f"sqlite:///{self.database}")
        engine.update_execution_options(compiled_cache=COMPILED)
        with engine.connect():  # its dialect has seen a connection then
            engine.dialect = DIALECTS.setdefault("sqlite", engine.dialect)
        return engine

    def new_process(self, name: str, *, skew_micros: int = 0) -> Process:
        """One more."""
        return Process(self.scheduler, name, skew_micros=skew_micros)


def forever(process: Process, step: Callable[[], object], every_s: float) -> Callable[[], None]:
    """A thread that does a step again and again; a service that is away is tried again."""

    def loop() -> None:
        while True:
            try:
                step()
            except Unavailable as away:
                process.scheduler.note(process.name, f"waits: {away}")
            process.sleep(every_s * process.scheduler.idle_factor)

    return loop


class ConsumerProcess:
    """Folds what it owns and enforces; several of them compete."""

    def __init__(self, world: World, name: str, *, skew_micros: int) -> None:
        self.world = world
        self.process = process = world.new_process(name, skew_micros=skew_micros)
        self.log = SimulatedLog(world.topic, process)
        self.engine = world.open_engine()
        self.ledger = SqlLedger(self.engine)
        self.functions = SimulatedFunctions(world.servers, process, checks=False)
        means = Means(
            self.engine, self.log, self.functions, process.clock, process.monotonic, ENFORCEMENT
        )
        self.enforcement = Enforcement(means)
        self.pipeline = self._new_pipeline()
        process.start("fold", self._fold)
        enforcement = self.enforcement
        for task, step, every_s in (
            ("keep", enforcement.keep, TICK_S),
            ("warm", self._warm, 0.05),
            ("apply", enforcement.applier.tick, TICK_S),
            ("publish", enforcement.publish, 0.5),
            ("retire", enforcement.retire, 0.5),
        ):
            process.start(task, forever(process, step, every_s))

    def _warm(self) -> None:
        """When the bell has rung, and now and then."""
        if self.functions.wait_until_asked(0.05) or self.world.scheduler.chance(8):
            self.enforcement.warm()

    def own(self, partition: int) -> None:
        """Be given a partition; its last owner may not have heard of it."""
        self.world.topic.owners[partition] = self.pipeline._consumer  # type: ignore[assignment]  # it is of a simulated log

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.engine.dispose()

    def _new_pipeline(self) -> Pipeline:
        return Pipeline(
            self.log,
            self.ledger,
            monotonic=self.process.monotonic,
            settings=PipelineSettings(max_records=4, linger_s=0.0),
            follower=self.enforcement.applier,
        )

    def _fold(self) -> None:
        while True:
            try:
                self.pipeline.step()
            except Unavailable as away:
                self.world.scheduler.note(self.process.name, f"folds no more: {away}")
                mine = [
                    p
                    for p, owner in self.world.topic.owners.items()
                    if owner is self.pipeline._consumer
                ]
                self.pipeline = self._new_pipeline()
                for partition in mine:
                    self.own(partition)
            self.process.pause("has folded")


class ServiceProcess:
    """A product service with some callers."""

    def __init__(self, world: World, name: str, *, skew_micros: int, callers: int) -> None:
        self.world = world
        self.process = process = world.new_process(name, skew_micros=skew_micros)
        self.log = SimulatedLog(world.topic, process)
        self.functions = SimulatedFunctions(world.servers, process, checks=True)
        self.emitter = Emitter(
            lambda: self.log,
            world.spool,
            settings=EMITTER,
            surroundings=Surroundings(
                clock=process.clock,
                monotonic=process.monotonic,
                sync=lambda _: None,
                new_emitter_id=lambda: f"em-{next(world.emitter_numbers):04}",
                has_threads=False,
            ),
        )
        self.gate = Gate(
            self.emitter,
            self.functions,
            settings=GATE,
            clock=process.clock,
            monotonic=process.monotonic,
            pause=process.sleep,
            has_thread=False,
        )
        self.open: set[str] = set()
        self.is_quiet = False
        process.start("tick", forever(process, self.gate.core.tick, TICK_S))
        process.start("send", forever(process, self._send, 0.1))
        for number in range(callers):
            process.start(f"call-{number}", self._call_again_and_again)

    def kill(self) -> None:
        """SIGKILL."""
        for hold_id in self.open:
            self.world.truth.calls[hold_id].is_lost = True
        self.process.kill()
        self.emitter.abandon()

    def probe(self, organization: str) -> str:
        """Ask for the smallest hold, from outside: what comes of it."""
        try:
            with self.gate.hold(**_asking(organization, MEMBERS[0], 1)):
                return "granted"
        except Refused as refused:
            return ",".join(reason.reason for reason in refused.reasons)

    def _send(self) -> None:
        for _ in range(4):  # what a thread would do until nothing moves
            if not self.emitter.send_step():
                break

    def _call_again_and_again(self) -> None:
        while not self.is_quiet:
            try:
                self._call()
            except (TollkeeperError, Refused) as error:
                if isinstance(error, InvalidInput) and not isinstance(error, Refused):
                    raise
                self.world.scheduler.note(self.process.name, f"is refused: {error}")
            self.process.sleep(0.02)

    def _call(self) -> None:
        random = self.world.scheduler.random
        organization, member = random.choice(ORGANIZATIONS), random.choice(MEMBERS)
        if (
            random.randrange(12) == 0 and self.world.truth.calls
        ):  # else caps may be full before the first
            self._report(organization, member, random.randrange(1, 8))
            return
        wanted = random.choice((20, 40) if self.world.is_tight else (1, 3, 8, 20, 40))
        hold = self.gate.hold(**_asking(organization, member, wanted))
        if hold.hold_id is None:
            raise AssertionError("nobody has set another policy than closed")
        self._accept(hold, organization, member)
        self.process.pause("calls the model")
        if random.randrange(3) == 0:
            self._extend(hold)
        self.process.sleep(random.choice(CALLS_TAKE_S[-2 * self.world.is_tight :]))
        self._end(hold)

    def _accept(self, hold: Hold, organization: str, member: str) -> None:
        assert hold.hold_id is not None
        self.open.add(hold.hold_id)
        call = HeldCall(
            hold.hold_id,
            organization,
            member,
            hold.hold_id.split("/")[1],
            hold.granted_at,
            hold.held_micros,
            self.world.servers.grants[hold.hold_id],
        )
        self.world.truth.granted(call, now=self.world.scheduler.wall)

    def _extend(self, hold: Hold) -> None:
        assert hold.hold_id is not None
        random = self.world.scheduler.random
        more = hold.held_micros + random.choice((1, 5, 20))
        try:
            hold.extend(max_cost_usd=usd(more))
        except Refused:
            return
        call = self.world.truth.calls[hold.hold_id]
        call.held_micros, call.grant = hold.held_micros, self.world.servers.grants[hold.hold_id]
        self.world.truth.granted(call, now=self.world.scheduler.wall)

    def _end(self, hold: Hold) -> None:
        assert hold.hold_id is not None
        random, truth = self.world.scheduler.random, self.world.truth
        call = truth.calls[hold.hold_id]
        if random.randrange(5) == 0:
            call.cost_micros = 0
            hold.release()
        else:
            over = random.randrange(10) == 0
            cost = (
                call.held_micros + random.randrange(1, 4)
                if over
                else random.randint(1, call.held_micros)
            )
            call.cost_micros = cost
            usage = self._usage(call.organization, call.member, cost)
            key = (call.organization, usage.event_id or "")
            truth.reported[key] = cost
            if random.randrange(12) == 0:
                usage = msgspec.structs.replace(usage, model=UNPRICED)
                call.cost_micros = 0
                truth.quarantined.add(key)
            hold.settle(usage)
            truth.accepted.add(key)
        self.open.discard(call.hold_id)

    def _report(self, organization: str, member: str, cost: int) -> None:
        """Usage that nobody asked for."""
        usage = self._usage(organization, member, cost)
        self.world.truth.reported[organization, usage.event_id or ""] = cost
        self.emitter.emit(usage)
        self.world.truth.accepted.add((organization, usage.event_id or ""))

    def _usage(self, organization: str, member: str, cost: int) -> Usage:
        return Usage(
            organization=organization,
            member=member,
            surface="web",
            model=MODEL,
            input_tokens=cost,
            event_id=f"e-{next(self.world.event_numbers)}",
            occurred_at=self.process.clock(),
        )


def usd(micros: int) -> str:
    """As text."""
    return f"{micros / 1_000_000:.6f}"


def _asking(organization: str, member: str, micros: int) -> CallFields:
    return {
        "organization": organization,
        "member": member,
        "surface": "web",
        "model": MODEL,
        "max_cost_usd": usd(micros),
    }
