"""A whole service side in one thread: log, ledger, pipeline, enforcement, and a Redis that others use, too.

Time stands still unless a test moves it, Redis' clock with it; the server is another one when a test says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from enforcement.told_functions import Functions, source_told_by
from gate.servers import Server
from sqlalchemy import Engine
from support.events import NOON, bought, capped, opened, prices, usage

from tollkeeper.enforcement.bundle import Enforcement
from tollkeeper.enforcement.epochs import EpochKeeper
from tollkeeper.enforcement.means import Means
from tollkeeper.enforcement.observing import Unobserved
from tollkeeper.enforcement.settings import EnforcementSettings
from tollkeeper.events.codec import Event, encode
from tollkeeper.events.emitters import EmitterRetired, EmitterStarted, RetirementReason
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import HeldCall, Request
from tollkeeper.gate.encoding import Call
from tollkeeper.ledger.effects import EpochRow
from tollkeeper.ledger.enforcing import read_epochs
from tollkeeper.ledger.migrate import migrate
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Outgoing
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.outbox.database import open_engine, reading
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.settings import PipelineSettings

A = TypeVar("A")
PARTITIONS = 2
MICROS = 1_000_000
USD = 1_000_000
"""Micro-USD."""


class Heard(Unobserved):
    """Remembers what enforcement told."""

    def __init__(self) -> None:
        self.causes: list[str] = []
        self.gone: list[tuple[str, str]] = []

    def raised(self, tag: str, epoch: int, cause: str) -> None:
        """See Observer."""
        self.causes.append(cause)

    def retired(self, emitter: str, reason: str) -> None:
        """See Observer."""
        self.gone.append((emitter, reason))


class Consumer:
    """One consumer process: a pipeline and its enforcement. Several may be at work at once."""

    def __init__(self, world: World, group: str = "tollkeeper") -> None:
        self.heard = Heard()
        means = Means(
            engine=world.engine,
            log=world.log,
            functions=world.functions,
            clock=lambda: world.now,
            monotonic=lambda: world.seconds,
            settings=world.settings,
            observer=self.heard,
        )
        self.enforcement = Enforcement(means)
        self.pipeline = Pipeline(
            world.log,
            SqlLedger(world.engine),
            monotonic=lambda: world.seconds,
            settings=PipelineSettings(group=group, linger_s=0.0, poll_timeout_s=0.0),
            follower=self.enforcement.applier,
        )
        self._world = world

    def fold(self) -> None:
        """All that is on the log."""
        ends = sum(self._world.log.end_offsets().values())
        for _ in range(ends + 5):  # adopts first; a step folds something, or there is nothing
            self.pipeline.step()
            if sum(self.pipeline.owned.values()) == ends:
                return
        raise AssertionError("the log isn't folded")

    def turn(self) -> None:
        """Everything once, as its threads would."""
        self.fold()
        self.enforcement.keep()
        self.enforcement.applier.tick()
        self.enforcement.warm()

    def close(self) -> None:
        """As after a crash: nothing is told to anybody."""
        self.pipeline.leave()


class World:
    """`acme` and `other` have 10 USD of credits, no caps; `ann` owns both. Nothing is folded yet."""

    def __init__(self, address: str, engine: Engine, folder: Path) -> None:
        self.tag = f"t{secrets.token_hex(5)}"
        self.now, self.seconds = NOON, 1_000.0
        self.server = Server(address, source_told_by(self.tag))
        self.server.set_clock(self.now)
        self.functions = Functions(self.server.client, self.server.library, self.tag)
        self.engine = engine
        migrate(engine)
        self.log = SqliteLog(folder / "log.sqlite", partitions=PARTITIONS, clock=lambda: self.now)
        self.settings = EnforcementSettings()
        SqlLedger(engine).begin_generation(
            self.now, partitions=PARTITIONS, log_identity=self.log.identity
        )
        self.acme = f"{self.tag}-acme"
        self._ids = 0
        self.living: dict[str, list[HeldCall]] = {}
        self.other = f"{self.tag}-other"
        self.append(prices())
        for name in (self.acme, self.other):
            self.append(opened(name), bought(name, 2, 10 * USD * 1_000))
        self.consumer = Consumer(self)

    def close(self) -> None:
        """Everything."""
        self.consumer.close()
        self.log.close()
        self.engine.dispose()
        self.server.close()

    def restart(self, group: str = "tollkeeper") -> Consumer:
        """The consumer crashes, and another one takes its place."""
        self.consumer.close()
        self.consumer = Consumer(self, group)
        return self.consumer

    def pass_time(self, seconds: float) -> None:
        """Everywhere."""
        self.seconds += seconds
        self.now += round(seconds * MICROS)
        self.server.set_clock(self.now)

    def append(self, *events: Event, only: int | None = None) -> None:
        """Onto the partition of the event's organization, or onto every one, or onto one."""
        for event in events:
            name = getattr(event, "organization", None)
            partitions = [partition_for(name, PARTITIONS)] if name else [*range(PARTITIONS)]
            key = name.encode() if name else None
            value = encode(event)
            for partition in partitions if only is None else [only]:
                self.log.append([Outgoing(partition, key, value)])

    def start_emitter(self, emitter: str = "em-1") -> None:
        """It is logged, folded and listed, and has noted acme; once it is open it may hold."""
        self.append(EmitterStarted(emitter=emitter, occurred_at=self.now))
        self.consumer.turn()
        self.note(emitter)

    def retire(self, emitter: str, reason: RetirementReason = "operator") -> None:
        """It is logged."""
        self.append(
            EmitterRetired(emitter=emitter, actor="operator", reason=reason, occurred_at=self.now)
        )

    def open(self) -> World:
        """This, with an open epoch."""
        self.consumer.turn()
        assert self.key.phase == "open"
        return self

    def recover(self, seconds: float = 2.5) -> None:
        """Ticks until the old leases are over, and then some."""
        self.consumer.enforcement.keep()
        self.pass_time(seconds)
        self.consumer.turn()

    def live_until_open(self, *others: Consumer) -> None:
        """Consumers turn second by second, and who lives answers, until the epoch is SQL's and open."""
        for _ in range(20):
            for consumer in (self.consumer, *others):
                consumer.turn()
            self.living_answer()
            row, key = self.row, self.key
            if row.phase == key.phase == "open" and row.epoch == key.epoch:
                return
            self.pass_time(1.0)
        raise AssertionError("the epoch isn't opened")

    def living_answer(self) -> None:
        """Those that a recovering server waits for and that live."""
        key = self.run(encoding.read_epoch(tag=self.tag))
        if isinstance(key, a.EpochKey) and key.phase == "recovering":
            for one in self.run(encoding.emitters(tag=self.tag)).listed:
                if one.standing == "started" and one.emitter in self.living:
                    self.answer(one.emitter, *self.living[one.emitter])

    def warm(self, organization: str = "") -> None:
        """Acme, asked for or not."""
        warmer = self.consumer.enforcement.warmer(self.tag)
        warmer.warm([organization or self.acme], now=self.now)

    @property
    def keeper(self) -> EpochKeeper:
        """The consumer's."""
        return self.consumer.enforcement.keeper(self.tag)

    def wipe(self) -> None:
        """All that Redis has of this world but which server it is."""
        client = self.server.client
        for pattern in (f"tollkeeper-primary:{{{self.tag}}}*", f"tollkeeper:{{{self.tag}*"):
            client.delete(*client.scan_iter(pattern))

    @property
    def row(self) -> EpochRow:
        """SQL's."""
        with reading(self.engine) as connection:
            return read_epochs(connection)[self.tag]

    @property
    def key(self) -> a.EpochKey:
        """Redis'."""
        found = self.run(encoding.read_epoch(tag=self.tag))
        assert isinstance(found, a.EpochKey)
        return found

    def run(self, call: Call[A]) -> A:
        """The function's answer."""
        return self.functions.run(call)

    def note(self, emitter: str, *organizations: str) -> None:
        """It may hold there, acme if nothing is said."""
        names = organizations or (self.acme,)
        done = self.run(encoding.note(self.key.epoch, emitter, names, tag=self.tag))
        assert done == a.Done("noted"), done

    def answer(self, emitter: str = "em-1", *holds: HeldCall) -> None:
        """It notes, re-asserts these holds of acme, and says that these are all."""
        self.note(emitter)
        epoch = self.key.epoch
        if holds:
            call = encoding.reassert(self.acme, holds, emitter=emitter, epoch=epoch, tag=self.tag)
            assert isinstance(self.run(call), a.Reasserted)
        assert self.run(encoding.answer(epoch, emitter, tag=self.tag)) == a.Done("answered")

    def hold(self, micros: int, organization: str = "", emitter: str = "em-1") -> a.HoldAnswer:
        """A new hold of ann's."""
        name = organization or self.acme
        return self._ask(micros, name, emitter)[1]

    def held(self, micros: int, organization: str = "", emitter: str = "em-1") -> HeldCall:
        """A hold that was granted, warmed if necessary."""
        name = organization or self.acme
        hold_id, answer = self._ask(micros, name, emitter)
        if isinstance(answer, a.Unknown):
            self.consumer.enforcement.warm()
            hold_id, answer = self._ask(micros, name, emitter)
        assert isinstance(answer, a.Granted), answer
        return HeldCall(hold_id, answer.granted_at, micros, Request(micros, "ann", "web"))

    def _ask(self, micros: int, name: str, emitter: str) -> tuple[str, a.HoldAnswer]:
        self._ids += 1
        hold_id = f"{name}/{emitter}/{self.now // 1000}/{self._ids}"
        request = Request(micros, "ann", "web")
        call = encoding.hold(
            name, request, hold_id=hold_id, emitter=emitter, epoch=self.key.epoch, tag=self.tag
        )
        return hold_id, self.run(call)

    def use(self, hold: HeldCall | None = None, event_id: str = "", **fields: Any) -> None:
        """3,000 micro-USD of usage reach the log, held or not."""
        self._ids += 1
        name = hold.hold_id.split("/")[0] if hold else fields.pop("organization", self.acme)
        self.append(
            usage(
                event_id=event_id or f"e-{self._ids}",
                organization=name,
                hold_id=hold.hold_id if hold else None,
                occurred_at=hold.granted_at if hold else self.now,
                **fields,
            )
        )

    def cap(self, version: int, micros: int) -> None:
        """Acme's own cap reaches the log."""
        self.append(capped(self.acme, version, micros * 1_000))

    def credits(self, organization: str = "") -> a.Limit:
        """What Redis has."""
        return self.limits(organization)["credits"]

    def limits(self, organization: str = "") -> dict[str, a.Limit]:
        """All that Redis checks, of an organization that it knows."""
        found = self.run(encoding.status(organization or self.acme, member="ann"))
        assert isinstance(found, a.Status), found
        assert found.is_known
        return {one.name: one for one in found.limits}

    def is_known(self, organization: str = "") -> bool:
        """Whether Redis does."""
        found = self.run(encoding.status(organization or self.acme, member="ann"))
        return isinstance(found, a.Status) and found.is_known

    def open_holds(self, organization: str = "") -> tuple[str, ...]:
        """Their ids."""
        found = self.run(encoding.open_holds(organization or self.acme))
        return tuple(one.hold_id for one in found)

    def assert_equal(self) -> None:
        """Redis is at SQL's offset and says the same."""
        findings = self.consumer.enforcement.reconcile([self.acme])
        assert [one.verdict for one in findings] == ["equal"], findings

    def set(self, **settings: Any) -> None:
        """Other settings, and a consumer that has them."""
        self.settings = msgspec.structs.replace(self.settings, **settings)
        self.restart()


@contextmanager
def a_world(address: str, url: str, folder: Path) -> Iterator[World]:
    """On this Redis and this database, until it is left."""
    world = World(address, open_engine(url), folder)
    try:
        yield world
    finally:
        world.close()
