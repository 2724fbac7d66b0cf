"""What a process answers over HTTP, through real sockets."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.waiting import eventually

from tollkeeper.app.endpoints import MAX_REQUESTS, answering
from tollkeeper.app.run_settings import Address
from tollkeeper.app.watch import Watch
from tollkeeper.errors import InvalidInput, LogGap, LogUnavailable

ANY_PORT = Address("127.0.0.1", 0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Served:
    """A watch and where it answers."""

    def __init__(self, address: Address, watch: Watch, clock: Clock) -> None:
        self.address = address
        self.watch = watch
        self.clock = clock

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        try:
            with urllib.request.urlopen(f"http://{self.address.shown}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()


@pytest.fixture
def served() -> Iterator[Served]:
    clock = Clock()
    watch = Watch(clock, stuck_after_s=60)
    with answering(ANY_PORT, watch) as address:
        assert address is not None
        yield Served(address, watch, clock)


def test_all_is_well(served: Served) -> None:
    status, body = served.get("/healthz")
    assert status == 200
    document = json.loads(body)
    assert (document["healthy"], document["reasons"], document["partitions"]) == (True, [], [])
    assert served.get("/livez")[0] == 200
    assert "tollkeeper_healthy 1.0" in served.get("/metrics")[1]
    assert served.get("/metrics?name[]=up")[0] == 200
    assert served.get("/")[0] == 404


def test_what_a_restart_may_mend_fails_both(served: Served) -> None:
    served.watch.turned("relay")
    served.clock.now = 61.0
    status, body = served.get("/healthz")
    assert status == 503
    (reason,) = json.loads(body)["reasons"]
    assert (reason["reason"], reason["may_restart_help"]) == ("job_stuck", True)
    assert served.get("/livez")[0] == 503
    assert "tollkeeper_healthy 0.0" in served.get("/metrics")[1]


def test_what_a_restart_would_only_disturb_fails_healthz_alone(served: Served) -> None:
    served.watch.adopted([3])
    served.watch.halted({3: LogGap("offset 7 is missing")})
    status, body = served.get("/healthz")
    assert status == 503
    assert json.loads(body)["reasons"][0]["partition"] == 3
    assert json.loads(body)["partitions"] == [3]
    assert served.get("/livez")[0] == 200
    assert 'partition_halted{partition="3",reason="log_gap"} 1.0' in served.get("/metrics")[1]


def test_a_service_that_is_away_shows_at_once_and_fails_after_the_bound(served: Served) -> None:
    served.watch.waits("relay", LogUnavailable("no broker"))
    served.clock.now = 30.0
    assert served.get("/healthz")[0] == 200
    away = 'tollkeeper_service_away_seconds{job_name="relay",service="log"}'
    assert f"{away} 30.0" in served.get("/metrics")[1]
    served.watch.turned("relay")
    assert f"{away} 0.0" in served.get("/metrics")[1]


def test_a_port_in_use_is_named_and_what_to_do(served: Served) -> None:
    watch = Watch(lambda: 0.0, stuck_after_s=60)
    with (
        pytest.raises(InvalidInput, match=r"TOLLKEEPER_HTTP.*in use.*another address, or off"),
        answering(served.address, watch),
    ):
        pass


def test_a_process_that_follows_another_may_listen_at_once(served: Served) -> None:
    """The connections that the first has closed linger for a minute."""
    watch = Watch(lambda: 0.0, stuck_after_s=60)
    with answering(ANY_PORT, watch) as address:
        assert address is not None
        with socket.create_connection((address.host, address.port), timeout=5) as client:
            client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            while client.recv(1_000):
                pass  # until the server has closed it, first
    with answering(address, watch) as again:
        assert again == address


def test_an_address_of_no_machine_is_named() -> None:
    watch = Watch(lambda: 0.0, stuck_after_s=60)
    nowhere = Address("no-such-host.invalid", 9464)
    with pytest.raises(InvalidInput, match="TOLLKEEPER_HTTP"), answering(nowhere, watch):
        pass


def test_off_listens_nowhere() -> None:
    with answering(None, Watch(lambda: 0.0, stuck_after_s=60)) as address:
        assert address is None


def test_a_client_that_drips_is_cut_off_as_well(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollkeeper.app.endpoints.REQUEST_TIMEOUT_S", 0.3)
    with closing(socket.create_connection((served.address.host, served.address.port))) as client:

        def is_cut() -> bool:
            try:
                client.sendall(b"G")
            except ConnectionError:
                return True
            return False

        eventually(is_cut, 20, what="the connection ends")


def test_silent_clients_take_no_more_than_their_threads_and_are_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollkeeper.app.endpoints.REQUEST_TIMEOUT_S", 0.5)
    place = (served.address.host, served.address.port)
    silent = [socket.create_connection(place) for _ in range(MAX_REQUESTS)]
    try:
        for connection in silent:
            connection.sendall(b"GET /metr")

        def is_turned_away() -> bool:
            with closing(socket.create_connection(place)) as one_more:
                one_more.settimeout(0.2)
                try:
                    return one_more.recv(1) == b""
                except TimeoutError:
                    return False
                except ConnectionResetError:
                    return True

        eventually(is_turned_away, what="a connection too many is closed")

        def answers() -> bool:
            try:
                return served.get("/livez")[0] == 200
            except (urllib.error.URLError, ConnectionError):
                return False

        eventually(answers, what="silent connections are cut off")
    finally:
        for connection in silent:
            connection.close()
