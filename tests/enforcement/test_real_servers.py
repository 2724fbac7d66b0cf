"""Enforcement as it runs: with the functions of the release, in a cluster, and through a kill of a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from gate.clusters import meet, members_of
from services.finding import skip_or_fail
from services.redis_local import LocalRedis, local_valkey, why_unavailable
from support.events import bought, opened, prices, usage
from support.waiting import eventually

from tollkeeper.enforcement.bundle import Enforcement
from tollkeeper.enforcement.means import Means
from tollkeeper.errors import GateUnavailable
from tollkeeper.events.codec import Event, encode
from tollkeeper.events.emitters import EmitterRetired, EmitterStarted
from tollkeeper.events.ids import now_micros
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import HeldCall, Request
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.ledger.migrate import migrate
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Outgoing
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.outbox.database import open_engine
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.settings import PipelineSettings

PARTITIONS, ORGANIZATIONS, MICROS = 2, 12, 1_000_000
EMITTER = "em-1"
REQUEST = Request(MICROS, "ann", "web")


class Service:
    """Log, ledger and enforcement of some organizations, and an emitter of which holds are open."""

    def __init__(self, url: str, folder: Path) -> None:
        self.functions = GateFunctions(connect(url))
        self.engine = open_engine(f"sqlite:///{folder}/ledger.sqlite")
        migrate(self.engine)
        self.log = SqliteLog(folder / "log.sqlite", partitions=PARTITIONS, clock=now_micros)
        ledger = SqlLedger(self.engine)
        ledger.begin_generation(now_micros(), partitions=PARTITIONS, log_identity=self.log.identity)
        self.seconds = 0.0
        self.enforcement = Enforcement(
            Means(self.engine, self.log, self.functions, now_micros, lambda: self.seconds)
        )
        self.pipeline = Pipeline(
            self.log,
            ledger,
            monotonic=lambda: self.seconds,
            settings=PipelineSettings(linger_s=0.0, poll_timeout_s=0.0),
            follower=self.enforcement.applier,
        )
        self.names = [f"org-{number}" for number in range(ORGANIZATIONS)]
        self.holds: dict[str, HeldCall] = {}
        self._ids = count()
        self.append(prices())
        for name in self.names:
            self.append(opened(name), bought(name, 2))

    def close(self) -> None:
        self.pipeline.close()
        self.log.close()
        self.engine.dispose()
        self.functions.close()

    def append(self, *events: Event) -> None:
        for event in events:
            name = getattr(event, "organization", None)
            partitions = [partition_for(name, PARTITIONS)] if name else [*range(PARTITIONS)]
            key = name.encode() if name else None
            self.log.append([Outgoing(one, key, encode(event)) for one in partitions])

    def turn(self) -> Sequence[str]:
        """Everything once, and the emitter answers to who recovers; each primary's state."""
        self.seconds += 3.0
        for _ in range(sum(self.log.end_offsets().values()) + 5):
            self.pipeline.step()
        states = [one.state for one in self.enforcement.keep()]
        self.enforcement.applier.tick()
        self._answer()
        while self.enforcement.warm():
            pass
        return states

    def _answer(self) -> None:
        for tag in self.functions.tags():
            key = self.functions.run(encoding.read_epoch(tag=tag))
            standing = self.functions.run(encoding.emitter_standing(EMITTER, tag=tag)).standing
            if not isinstance(key, a.EpochKey) or standing != "started":
                continue
            names = [name for name in self.names if self.functions.tag_of(name) == tag]
            self.functions.run(encoding.note(key.epoch, EMITTER, names, tag=tag))
            if key.phase == "recovering":
                for name in names:
                    if name in self.holds:
                        self._reassert(name, key.epoch, tag)
            self.functions.run(encoding.answer(key.epoch, EMITTER, tag=tag))

    def _reassert(self, name: str, epoch: int, tag: str) -> None:
        call = encoding.reassert(name, [self.holds[name]], emitter=EMITTER, epoch=epoch, tag=tag)
        assert self.functions.run(call) == a.Reasserted(1)

    def hold(self, name: str) -> a.HoldAnswer:
        hold_id = f"{name}/{EMITTER}/{now_micros() // 1_000}/{next(self._ids)}"
        tag = self.functions.tag_of(name)
        key = self.functions.run(encoding.read_epoch(tag=tag))
        assert isinstance(key, a.EpochKey)
        call = encoding.hold(
            name, REQUEST, hold_id=hold_id, emitter=EMITTER, epoch=key.epoch, tag=tag
        )
        answer = self.functions.run(call)
        if isinstance(answer, a.Granted):
            self.holds[name] = HeldCall(hold_id, answer.granted_at, MICROS, REQUEST)
        return answer

    def use(self, name: str) -> None:
        one = self.holds.pop(name)
        self.append(
            usage(
                event_id=one.hold_id,
                organization=name,
                hold_id=one.hold_id,
                occurred_at=one.granted_at,
            )
        )

    def open_holds(self) -> set[str]:
        answers = self.functions.run_many([encoding.open_holds(name) for name in self.names])
        return {one.hold_id for held in answers for one in held}  # type: ignore[union-attr] # or it fails

    def assert_equal(self) -> None:
        found = self.enforcement.reconcile(self.names)
        assert [one for one in found if one.verdict != "equal"] == []


def hold_everywhere(service: Service) -> None:
    """Open, with a hold in each organization."""
    service.turn()
    assert set(service.turn()) == {"open"}
    service.append(EmitterStarted(emitter=EMITTER, occurred_at=now_micros()))
    service.turn()
    assert {type(service.hold(name)) for name in service.names} == {a.Unknown}
    service.turn()
    assert {type(service.hold(name)) for name in service.names} == {a.Granted}
    service.assert_equal()


def servers_of(kind: str, *, is_cluster: bool) -> list[LocalRedis]:
    if kind == "redis" and (reason := why_unavailable()):
        skip_or_fail(f"Redis isn't at hand (local: {reason})")
    if is_cluster:
        return members_of(kind)
    return [LocalRedis() if kind == "redis" else local_valkey()]


@pytest.fixture(
    params=[("redis", False), ("valkey", False), ("valkey", True)],
    ids=["redis", "valkey", "cluster"],
)
def servers(request: pytest.FixtureRequest) -> Iterator[list[LocalRedis]]:
    """One server, or a cluster of three."""
    kind, is_cluster = request.param
    servers = servers_of(kind, is_cluster=is_cluster)
    try:
        for server in servers:
            server.start()
        if is_cluster:
            meet(servers)
        yield servers
    finally:
        for server in servers:
            server.close()


def test_a_server_that_is_killed_amid_holds_loses_none(
    servers: list[LocalRedis], tmp_path: Path
) -> None:
    """Others of its cluster go on meanwhile, each being an epoch of its own."""
    is_cluster = len(servers) > 1
    scheme = "redis+cluster" if is_cluster else "redis"
    service = Service(servers[0].address.replace("redis", scheme), tmp_path)
    hold_everywhere(service)
    service.use(service.names[0])
    service.turn()
    service.assert_equal()

    servers[-1].kill()
    with pytest.raises(GateUnavailable):
        service.turn()
    service.use(service.names[1])
    servers[-1].start()
    eventually(lambda: is_back(service), what="the server in its cluster")
    for _ in range(4):
        states = service.turn()
    assert set(states) == {"open"}
    epochs = sorted(
        key.epoch
        for tag in service.functions.tags()
        if isinstance(key := service.functions.run(encoding.read_epoch(tag=tag)), a.EpochKey)
    )
    assert epochs == ([1, 1, 2] if is_cluster else [2])
    for name in service.names:
        service.enforcement.warmer(service.functions.tag_of(name)).warm([name], now=now_micros())
    assert service.open_holds() == {one.hold_id for one in service.holds.values()}
    service.assert_equal()

    service.append(
        EmitterRetired(
            emitter=EMITTER, actor="operator", reason="operator", occurred_at=now_micros()
        )
    )
    service.turn()
    assert service.open_holds() == set()
    service.assert_equal()
    service.close()


def is_back(service: Service) -> bool:
    """Whether every primary answers."""
    try:
        service.enforcement.keep()
    except GateUnavailable:
        return False
    return True
