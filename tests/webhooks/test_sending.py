"""One request: signed as the library wants it, to the address that was looked at, within its bound."""

from __future__ import annotations

import socket

import pytest
from webhooks.receiver import Receiver

from tollkeeper.webhooks.sending import HttpSender, NotSent

HEADERS = {"webhook-id": "ntf_1"}


def test_a_request_arrives_whole(receiver: Receiver) -> None:
    receiver.answers = [202]
    assert HttpSender()(receiver.url + "?a=b", HEADERS, b'{"x": 1}') == 202
    (one,) = receiver.received
    assert (one.path, one.body) == ("/hook?a=b", b'{"x": 1}')
    assert one.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert one.headers["webhook-id"] == "ntf_1"


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 410, 429, 500, 503])
def test_an_answer_is_its_status(receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    assert HttpSender()(receiver.url, HEADERS, b"{}") == status


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers = ["http://169.254.169.254/latest/meta-data/"]
    assert HttpSender()(receiver.url, HEADERS, b"{}") == 307
    assert len(receiver.received) == 1


def test_a_proxy_of_the_environment_is_not_asked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert HttpSender()(receiver.url, HEADERS, b"{}") == 204


def test_who_doesnt_answer_is_cut_off(receiver: Receiver) -> None:
    receiver.hangs.set()
    with pytest.raises(NotSent, match="no answer"):
        HttpSender(total_timeout_s=0.05)(receiver.url, HEADERS, b"{}")


def test_who_isnt_there_is_named_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotSent, match="no connection: Connection refused"):
        HttpSender()(f"http://127.0.0.1:{port}/", HEADERS, b"{}")


def test_who_speaks_no_tls_is_named_as_such(receiver: Receiver) -> None:
    with pytest.raises(NotSent, match="no answer"):
        HttpSender()(receiver.url.replace("http:", "https:"), HEADERS, b"{}")
    assert receiver.received == []


def test_a_name_that_leads_to_a_metadata_service_is_refused() -> None:
    sender = HttpSender(resolve=lambda _host, _port: ["93.184.216.34", "169.254.169.254"])
    with pytest.raises(
        NotSent, match=r"example\.org is at 169\.254\.169\.254, where nothing is sent"
    ):
        sender("https://example.org/", HEADERS, b"{}")


def test_localhost_that_is_elsewhere_gets_no_plain_http() -> None:
    sender = HttpSender(resolve=lambda _host, _port: ["10.0.0.1"])
    with pytest.raises(NotSent, match="this machine only"):
        sender("http://localhost/", HEADERS, b"{}")


def test_what_was_looked_at_is_what_is_connected_to(receiver: Receiver) -> None:
    """The name is resolved once: a second answer could lead elsewhere."""
    answers = [["127.0.0.1"]]
    sender = HttpSender(frozenset({"http"}), resolve=lambda _host, _port: answers.pop())
    assert sender(f"http://example.org:{receiver.port}/hook", HEADERS, b"{}") == 204
    assert receiver.received[0].headers["host"] == f"example.org:{receiver.port}"


def test_the_next_address_is_tried_when_one_refuses(receiver: Receiver) -> None:
    sender = HttpSender(resolve=lambda _host, _port: ["127.0.0.2", "127.0.0.1"])
    assert sender(f"http://localhost:{receiver.port}/hook", HEADERS, b"{}") == 204


def test_a_name_without_an_address_is_an_answer_too() -> None:
    with pytest.raises(NotSent, match="no connection"):
        HttpSender(resolve=lambda _host, _port: [])("https://example.org/", HEADERS, b"{}")


def test_a_url_that_is_no_longer_allowed_is_refused() -> None:
    with pytest.raises(NotSent, match="must be https"):
        HttpSender()("http://example.org/", HEADERS, b"{}")


def test_a_name_that_can_be_none_is_an_answer_too() -> None:
    """It may have been added by an earlier release; raised, it would end the whole process."""
    with pytest.raises(NotSent, match="must be a URL"):
        HttpSender()("https://example..org/", HEADERS, b"{}")

    def resolve(_host: str, _port: int) -> list[str]:
        raise UnicodeError("label empty or too long")

    with pytest.raises(NotSent, match="no connection: UnicodeError"):
        HttpSender(resolve=resolve)("https://example.org/", HEADERS, b"{}")
