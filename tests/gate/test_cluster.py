"""The functions in a real cluster of three: an organization's keys in one slot, a primary's beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from gate.books import Account, Books
from gate.servers import open_gate
from redis import Redis
from services.finding import skip_or_fail
from services.kafka_local import free_port
from services.redis_local import LocalRedis, local_valkey, why_unavailable
from support.waiting import eventually

from tollkeeper.errors import GateUnavailable
from tollkeeper.events.ids import now_micros
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import Request
from tollkeeper.gate.functions import GateFunctions, connect

SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))
CLUSTERED = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no"}


def members_of(kind: str) -> list[LocalRedis]:
    """Three servers that may become a cluster."""
    program = local_valkey().program if kind == "valkey" else None
    return [LocalRedis(program, {**CLUSTERED, "cluster-port": str(free_port())}) for _ in SLOTS]


def meet(servers: list[LocalRedis]) -> None:
    """Make a cluster of them, each with a third of the slots."""
    clients = [Redis.from_url(server.address) for server in servers]

    def ask(client: Redis, *words: str | int) -> bytes:
        execute: Callable[..., bytes] = client.execute_command
        return execute("CLUSTER", *words)

    for client, (first, last) in zip(clients, SLOTS, strict=True):
        ask(client, "ADDSLOTSRANGE", first, last)
    for server in servers[1:]:
        ask(clients[0], "MEET", "127.0.0.1", server.port, server.settings["cluster-port"])

    def has_met(client: Redis) -> bool:
        told = ask(client, "INFO")
        return b"cluster_state:ok" in told and b"cluster_known_nodes:3" in told

    eventually(lambda: all(map(has_met, clients)), 30, what="the cluster")
    for client in clients:
        client.close()


@pytest.fixture(params=["redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[list[LocalRedis]]:
    """Three primaries."""
    if request.param == "redis" and (reason := why_unavailable()):
        skip_or_fail(f"Redis isn't at hand (local: {reason})")
    servers = members_of(request.param)
    try:
        for server in servers:
            server.start()
        meet(servers)
        yield servers
    finally:
        for server in servers:
            server.close()


def warmed(gate: GateFunctions, organization: str) -> a.WarmAnswer:
    """An organization with the usual caps of 50 and 30."""
    caps = {"organization": 50, "member": 30}
    account = Account(offset=1, position=2, spent={}, caps={**caps})
    books = Books(organization, account)
    snapshot = books.snapshot(account, epoch=1, now=now_micros(), held=())
    return gate.run(encoding.warm(organization, snapshot, tag=gate.tag_of(organization)))


def answers(gate: GateFunctions, name: str, tag: str) -> bool:
    """Whether anybody says something about this organization."""
    try:
        gate.run(encoding.make_unknown(name, 9, epoch=1, tag=tag))
    except GateUnavailable:
        return False
    return True


def test_each_primary_decides_for_its_organizations(cluster: list[LocalRedis]) -> None:
    gate = GateFunctions(connect(cluster[0].address.replace("redis://", "redis+cluster://")))
    gate.load()
    names = [f"org-{number}" for number in range(12)]
    tags = {name: gate.tag_of(name) for name in names}
    assert len(set(tags.values())) == 3
    for tag in set(tags.values()):
        open_gate(gate, tag, emitters=("em-1",), organizations=(*names,))
    for name, tag in tags.items():
        assert warmed(gate, name) == a.Warmed(0, 0)
        hold_id = f"{name}/em-1/{now_micros() // 1_000}/1"
        request = Request(30, "ann", "web")
        hold = encoding.hold(name, request, hold_id=hold_id, emitter="em-1", epoch=1, tag=tag)
        assert isinstance(gate.run(hold), a.Granted)
        assert gate.run(encoding.release(hold_id, epoch=1, tag=tag)) == a.Released(30)

    strange = next(tag for tag in tags.values() if tag != tags[names[0]])
    hold_id = f"{names[0]}/em-1/{now_micros() // 1_000}/2"
    with pytest.raises(GateUnavailable):
        gate.run(encoding.release(hold_id, epoch=1, tag=strange))

    cluster[0].kill()
    lost = [name for name in names if not answers(gate, name, tags[name])]
    assert {tags[name] for name in lost} == {tags[lost[0]]}
    assert [name for name in names if tags[name] != tags[lost[0]]] == [
        *filter(lambda one: one not in lost, names)
    ]
    gate.close()
