"""A server that was restarted, restored or promoted grants nothing on its old epoch key, leased as it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from gate.asking import WAYS, Asking, asking
from gate.books import Account, Books
from gate.servers import open_gate
from redis import Redis
from services.finding import skip_or_fail
from services.redis_local import LocalRedis, local_valkey, why_unavailable
from support.waiting import eventually

from tollkeeper.errors import GateUnavailable
from tollkeeper.events.ids import now_micros
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import Request
from tollkeeper.gate.functions import GateFunctions, connect

_ids = count()


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[LocalRedis]:
    """A server of this test's own, with an open and leased epoch and a warm organization."""
    if request.param == "redis" and (reason := why_unavailable()):
        skip_or_fail(f"Redis isn't at hand (local: {reason})")
    server = LocalRedis() if request.param == "redis" else local_valkey()
    # All that was answered is in the journal, so that a restart changes nothing but the run.
    server.settings |= {"appendfsync": "always", "repl-diskless-sync-delay": "0"}
    try:
        server.start()
        tended(server)
        yield server
    finally:
        server.close()


def tended(server: LocalRedis, epoch: int = 1) -> None:
    """What consumers do: a new epoch for this incarnation, and `acme` warmed."""
    gate = GateFunctions(connect(server.address))
    open_gate(gate, "0", epoch=epoch, emitters=("em-1",), organizations=("acme",))
    account = Account(offset=1, position=2, spent={}, caps={"organization": 500, "member": 500})
    held = tuple(one.hold_id for one in gate.run(encoding.open_holds("acme")))
    snapshot = Books("acme", account).snapshot(account, epoch=epoch, now=now_micros(), held=held)
    gate.run(encoding.warm("acme", snapshot))
    gate.close()


def hold(gate: Asking, epoch: int = 1) -> a.HoldAnswer:
    hold_id = f"acme/em-1/{now_micros() // 1_000}/{next(_ids)}"
    call = encoding.hold(
        "acme", Request(1, "ann", "web"), hold_id=hold_id, emitter="em-1", epoch=epoch
    )
    return gate.run(call)


def grants_again_under_a_new_epoch(server: LocalRedis, trusting: Asking) -> None:
    tended(server, epoch=2)
    assert isinstance(hold(trusting, epoch=2), a.Granted)


def refuses_what_a_stranger_gets(url: str, trusting: Asking) -> None:
    """That somebody else is granted a hold shows what the check is there for."""
    stranger = asking("in threads", url)
    assert isinstance(hold(stranger), a.Granted)
    stranger.close()
    for _ in range(2):
        with pytest.raises(GateUnavailable, match="waits for a new epoch"):
            hold(trusting)
        (many,) = trusting.run_many([encoding.read_epoch()])
        assert isinstance(many, GateUnavailable)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_restart_from_the_journal(way: str, kind: str, server: LocalRedis) -> None:
    url = server.address if kind == "tcp" else server.socket_address
    trusting = asking(way, url, trusted_only=True)
    assert isinstance(hold(trusting), a.Granted)
    server.kill()
    with pytest.raises(GateUnavailable):
        hold(trusting)
    server.start()
    refuses_what_a_stranger_gets(url, trusting)
    grants_again_under_a_new_epoch(server, trusting)
    trusting.close()


@pytest.mark.parametrize("way", WAYS)
def test_an_older_journal(way: str, server: LocalRedis) -> None:
    trusting = asking(way, server.address, trusted_only=True)
    older = server.copy_data()
    assert isinstance(hold(trusting), a.Granted)
    server.kill()
    server.restore(older)
    server.start()
    assert trusting_sees_nothing_held(server)
    refuses_what_a_stranger_gets(server.address, trusting)
    grants_again_under_a_new_epoch(server, trusting)
    trusting.close()


def trusting_sees_nothing_held(server: LocalRedis) -> bool:
    """The journal is from before the hold, which is what makes it dangerous."""
    stranger = asking("in threads", server.address)
    holds = stranger.run(encoding.open_holds("acme"))
    stranger.close()
    return holds == ()


@pytest.mark.parametrize("way", WAYS)
def test_a_promoted_replica(way: str, server: LocalRedis) -> None:
    other = LocalRedis(server.program)
    try:
        other.start()
        trusting = asking(way, other.address, trusted_only=True)
        with pytest.raises(GateUnavailable, match="waits for a new epoch"):
            hold(trusting)
        with Redis.from_url(other.address) as replica:
            replica.replicaof("127.0.0.1", server.port)
            eventually(lambda: replica.info("replication")["master_link_status"] == "up")
            eventually(lambda: replica.exists("tollkeeper:{acme}:state") == 1)
            with pytest.raises(GateUnavailable, match="waits for a new epoch"):
                hold(trusting)
            replica.replicaof("NO", "ONE")
        refuses_what_a_stranger_gets(other.address, trusting)
        grants_again_under_a_new_epoch(other, trusting)
        trusting.close()
    finally:
        other.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_primary_that_was_a_replica_meanwhile_is_found_by_a_touch(
    way: str, server: LocalRedis
) -> None:
    """Its connections stand, so that only who asks it again can know."""
    other = LocalRedis(server.program)
    try:
        other.start()
        trusting = asking(way, server.address, trusted_only=True)
        assert isinstance(trusting.run(encoding.touch("em-1")), a.Touched)
        with Redis.from_url(server.address) as here, Redis.from_url(other.address) as replica:
            replica.replicaof("127.0.0.1", server.port)
            eventually(lambda: replica.info("replication")["master_link_status"] == "up")
            replica.replicaof("NO", "ONE")
            here.replicaof("127.0.0.1", other.port)
            eventually(lambda: here.info("replication")["master_link_status"] == "up")
            here.replicaof("NO", "ONE")
        assert trusting.run(encoding.touch("em-1")) == a.Untrusted("incarnation", 1)
        trusting.close()
    finally:
        other.close()


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_server_is_no_server(way: str, server: LocalRedis) -> None:
    with Redis.from_url(server.address) as client:
        client.flushall()
    trusting = asking(way, server.address, trusted_only=True)
    with pytest.raises(GateUnavailable, match=r"tollkeeper run.*waits for a new epoch"):
        trusting.run(encoding.read_epoch())
    trusting.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", ["", ":wrong@"])
def test_a_password_that_is_missing_or_wrong_is_named_as_that(
    way: str, given: str, server: LocalRedis
) -> None:
    with Redis.from_url(server.address) as client:
        client.config_set("requirepass", "secret")
    url = server.address.replace("redis://", f"redis://{given}")
    stranger = asking(way, url, trusted_only=True)
    with pytest.raises(GateUnavailable, match="TOLLKEEPER_REDIS lacks the right password") as found:
        stranger.run(encoding.read_epoch())
    assert "wrong@" not in str(found.value)
    stranger.close()
