"""A network that breaks in the middle of a request: nothing lost or doubled, and the way back alone."""

from __future__ import annotations

from random import Random
from time import monotonic

import pytest
from on_kafka.conftest import Install
from on_kafka.installation import Installation
from services.kafka_proxy import Api, Fault, KafkaProxy
from services.tcp_proxy import Action, Direction
from support.waiting import eventually

from tollkeeper.errors import LogUnavailable
from tollkeeper.log.port import Outgoing

SEED = 51
DIRECTIONS: tuple[Direction, ...] = ("request", "response")
STRUCK_S = 20.0
CUT_RECOVERED_S = 15.0
SILENCE_RECOVERED_S = 45.0
"""kafka-python gives a request up after 30 s, an append after 10."""
SHARES = (0.0, 0.5, 1.0)
"""Before the first byte, in the middle, and after the last one: done, but nobody hears of it."""
ALWAYS = (Api.PRODUCE, Api.FETCH, Api.OFFSET_COMMIT, Api.HEARTBEAT, Api.METADATA)
WHEN_JOINING = (Api.FIND_COORDINATOR, Api.JOIN_GROUP, Api.SYNC_GROUP)


def faults(apis: tuple[Api, ...], action: Action = "cut") -> list[Fault]:
    """One at every stage of each: request and response, in every share."""
    return [
        Fault(api, direction, share, action)
        for api in apis
        for direction in DIRECTIONS
        for share in SHARES
    ]


def _one_of_each() -> list[Fault]:
    """One share of each request and response, so that every share comes up."""
    plan = faults(ALWAYS)
    stages = [plan[first : first + len(SHARES)] for first in range(0, len(plan), len(SHARES))]
    return [stage[number % len(SHARES)] for number, stage in enumerate(stages)]


class Traffic:
    """A product service and two consumers, all behind the proxy."""

    def __init__(self, install: Install, proxy: KafkaProxy) -> None:
        self.proxy = proxy
        self.installation: Installation = install(address=proxy.address)
        self.installation.set_up()
        self.consumers = [self.installation.consumer() for _ in range(2)]
        self.service = self.installation.service(SEED, 200)
        self.recoveries: dict[str, float] = {}
        self.wait_for_more("the first", 60.0)

    def strike(self, fault: Fault, recovered_s: float) -> None:
        """Let the fault strike and see that records are folded again within `recovered_s`."""
        self.proxy.arm(fault)
        if fault.api in WHEN_JOINING:
            self.consumers.pop(0).terminate()
            self.consumers.append(self.installation.consumer())
        eventually(fault.struck.is_set, STRUCK_S, what=str(fault))
        began = monotonic()
        self.wait_for_more(str(fault), recovered_s)
        self.recoveries[str(fault)] = monotonic() - began

    def finish(self) -> None:
        """All that was accepted is charged once."""
        accepted = self.service.stop()
        self.installation.wait_until_folded()
        self.installation.assert_charged(accepted)
        slowest = max(self.recoveries, key=lambda name: self.recoveries[name])
        print(  # noqa: T201 - shown by `pytest -s`
            f"{len(self.recoveries)} faults; slowest {slowest}: {self.recoveries[slowest]:.1f} s"
        )

    def wait_for_more(self, what: str, timeout_s: float) -> None:
        """Every partition gets on: what is emitted goes to all of them in turn."""
        before = self.installation.next_offsets()
        eventually(
            lambda: all(
                now > before[partition]
                for partition, now in self.installation.next_offsets().items()
            ),
            timeout_s,
            what=f"folding goes on on every partition after {what}",
        )


@pytest.mark.parametrize("count", [10, pytest.param(30, marks=pytest.mark.soak)])
def test_connections_cut_at_every_stage_lose_and_double_nothing(
    install: Install, proxy: KafkaProxy, count: int
) -> None:
    """All stages in `make soak`; here each request and each response of every kind once."""
    plan = faults(ALWAYS) if count == 30 else _one_of_each()
    assert len(plan) == count
    Random(SEED).shuffle(plan)
    traffic = Traffic(install, proxy)
    for fault in plan:
        traffic.strike(fault, CUT_RECOVERED_S)
    traffic.finish()


@pytest.mark.soak
def test_connections_cut_while_a_group_forms_lose_and_double_nothing(
    install: Install, proxy: KafkaProxy
) -> None:
    traffic = Traffic(install, proxy)
    for fault in faults(WHEN_JOINING):
        traffic.strike(fault, CUT_RECOVERED_S)
    traffic.finish()


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("api", [Api.PRODUCE, Api.FETCH, Api.OFFSET_COMMIT, Api.HEARTBEAT])
def test_a_connection_that_falls_silent_is_given_up_in_bounded_time(
    install: Install, proxy: KafkaProxy, api: Api
) -> None:
    """Nothing is cut, so only time tells: the request is never answered."""
    traffic = Traffic(install, proxy)
    for fault in faults((api,), "swallow")[1::3]:
        traffic.strike(fault, SILENCE_RECOVERED_S)
    traffic.finish()


@pytest.mark.parametrize("is_silent", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_network_that_was_away_is_found_again(
    install: Install, proxy: KafkaProxy, is_silent: bool
) -> None:
    """Refused, or swallowed as by a firewall, for some seconds and for everybody at once."""
    traffic = Traffic(install, proxy)
    took_s = []
    for _ in range(2 if is_silent else 1):
        before = sum(traffic.installation.next_offsets().values())
        (proxy.silence if is_silent else proxy.refuse)()
        _wait_until_it_stands_still(traffic.installation)
        began = monotonic()
        (proxy.speak if is_silent else proxy.accept)()
        traffic.wait_for_more(f"{before} records", SILENCE_RECOVERED_S)
        took_s.append(monotonic() - began)
    traffic.recoveries = {"the network was away": max(took_s)}
    traffic.finish()


def _wait_until_it_stands_still(installation: Installation, for_s: float = 2.0) -> None:
    """Until nothing was folded for a while."""
    last, since = installation.next_offsets(), monotonic()

    def is_still() -> bool:
        nonlocal last, since
        now = installation.next_offsets()
        if now != last:
            last, since = now, monotonic()
        return monotonic() - since > for_s

    eventually(is_still, 30.0, what="the fold stands still")


def test_the_proxy_strikes_where_it_is_told(install: Install, proxy: KafkaProxy) -> None:
    """Else the tests above would show nothing: the client's own retry has to mend both."""
    installation = install(address=proxy.address)
    installation.set_up()
    log = installation.app.log
    end = log.end_offsets()[0]
    for direction in DIRECTIONS:
        fault = proxy.arm(Fault(Api.PRODUCE, direction, 0.5))
        assert log.append([Outgoing(0, b"key", b"value")]) == [end]
        assert fault.struck.is_set()
        assert log.end_offsets()[0] == end + 1
        end += 1
    assert {Api.PRODUCE, Api.METADATA, Api.INIT_PRODUCER_ID} <= proxy.seen


def test_an_answer_that_never_comes_ends_an_append_in_time(
    install: Install, proxy: KafkaProxy
) -> None:
    """The records stand on the log although nobody was told: who tries again doubles them there."""
    installation = install(address=proxy.address)
    installation.set_up()
    log = installation.app.log
    end = log.end_offsets()[0]
    proxy.arm(Fault(Api.PRODUCE, "response", 0.0, "swallow"))
    began = monotonic()
    with pytest.raises(LogUnavailable, match="didn't acknowledge 1 records"):
        log.append([Outgoing(0, b"key", b"value")], timeout_s=1.0)
    assert monotonic() - began < 5.0
    assert log.append([Outgoing(0, b"key", b"value")]) == [end + 1]
