"""Notifications reach their endpoints at least once, under one id, or are given up where one sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks.webhooks
from ledger.telling import Organization, Telling
from sqlalchemy import select
from standardwebhooks import Webhook, WebhookVerificationError
from support.events import NOON
from webhooks.receiver import Receiver

from tollkeeper import failpoints
from tollkeeper.ledger.notification_tables import delivery
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.money.instants import MICROS_PER_SECOND, to_datetime
from tollkeeper.outbox.database import reading
from tollkeeper.webhooks.delivering import CLAIM_MICROS, DELIVERIES_A_ROUND, Delivered, Deliverer
from tollkeeper.webhooks.endpoints import (
    NewEndpoint,
    add_endpoint,
    enable_endpoint,
    list_endpoints,
    remove_endpoint,
    url_and_secret,
)
from tollkeeper.webhooks.schedule import MAX_AGE_MICROS, MAX_ATTEMPTS, next_due
from tollkeeper.webhooks.sending import HttpSender, NotSent

NOW = NOON + MICROS_PER_SECOND


def add(ledger: SqlLedger, url: str, organization: str | None = None) -> NewEndpoint:
    return add_endpoint(
        ledger.engine,
        url,
        organization=organization,
        allowed=frozenset({"http"}),
        now=NOON,
        entropy=os.urandom,
    )


def tell(ledger: SqlLedger, name: str = "acme") -> None:
    """One notification: a threshold is reached."""
    organization = Organization(name)
    telling = Telling(ledger)
    telling.take(organization.opened("sales_assisted"), organization.thresholds(75))
    assert len(telling.take(organization.cap(100), organization.usage(80))) == 1


def log_of(ledger: SqlLedger) -> list[dict[str, Any]]:
    """The delivery log."""
    with reading(ledger.engine) as connection:
        rows = connection.execute(select(delivery).order_by(*delivery.primary_key.columns))
        return [dict(row._mapping) for row in rows]


class Scripted:
    """A sender that answers as told: a status, or the reason for which nothing was sent."""

    def __init__(self, *answers: int | str) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, Mapping[str, str], bytes]] = []

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.sent.append((url, headers, body))
        answer = self.answers.pop(0) if self.answers else 204
        if isinstance(answer, str):
            raise NotSent(answer)
        return answer

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in self.sent]


def at(monkeypatch: pytest.MonkeyPatch, micros: int) -> None:
    """Let the library's clock stand there: it refuses what is older than five minutes."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            there = to_datetime(micros)
            return cls(*there.timetuple()[:6], there.microsecond, tz or UTC)

    monkeypatch.setattr(standardwebhooks.webhooks, "datetime", Clock)


def test_a_signed_message_arrives_that_the_library_verifies(
    ledger: SqlLedger, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = add(ledger, receiver.url)
    tell(ledger)
    assert Deliverer(ledger.engine, HttpSender()).deliver_once(NOW) == Delivered(delivered=1)
    (one,) = receiver.received
    at(monkeypatch, NOW)
    content = Webhook(new.secret).verify(one.body, one.headers)
    assert (content["type"], content["timestamp"]) == (
        "cap.threshold_reached",
        "2026-11-05T12:00:00Z",
    )
    assert content["data"]["id"] == one.headers["webhook-id"]
    assert (content["data"]["percent"], content["data"]["spent_usd"]) == (75, "0.00008")
    assert content["data"]["recipients"] == ["ann"]
    assert one.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(new.secret).verify(one.body.replace(b"75", b"76"), one.headers)
    (row,) = log_of(ledger)
    assert (row["status"], row["attempts"], row["http_status"]) == ("delivered", 1, 204)
    assert Deliverer(ledger.engine, HttpSender()).deliver_once(NOW + 1) == Delivered()


def test_a_delivery_is_tried_again_after_an_error_under_the_same_id(
    ledger: SqlLedger, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = add(ledger, receiver.url)
    tell(ledger)
    receiver.answers = [500, 307]
    deliverer = Deliverer(ledger.engine, HttpSender())
    assert deliverer.deliver_once(NOW) == Delivered(failed=1)
    (row,) = log_of(ledger)
    assert (row["status"], row["http_status"], row["detail"]) == ("waiting", 500, "HTTP 500")
    due_at = next_due(1, NOW)
    assert row["due_at"] == due_at and due_at is not None
    assert deliverer.deliver_once(due_at - 1) == Delivered()
    assert deliverer.deliver_once(due_at) == Delivered(failed=1)
    later = next_due(2, due_at)
    assert later is not None
    assert deliverer.deliver_once(later) == Delivered(delivered=1)
    assert len(set(receiver.ids)) == 1
    assert len({one.body for one in receiver.received}) == 1
    at(monkeypatch, later)
    last = receiver.received[-1]
    Webhook(new.secret).verify(last.body, last.headers)  # the timestamp is the attempt's own


@pytest.mark.parametrize("place", ["deliver.after_claim", "deliver.after_send"])
def test_who_dies_amid_a_delivery_leaves_it_to_be_sent_under_the_same_id(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    add(ledger, "http://localhost/")
    tell(ledger)
    send = Scripted()
    deliverer = Deliverer(ledger.engine, send)
    monkeypatch.setitem(failpoints._armed, place, ("enospc", 1))
    with pytest.raises(OSError):
        deliverer.deliver_once(NOW)
    monkeypatch.setattr(failpoints, "_armed", {})
    assert deliverer.deliver_once(NOW + CLAIM_MICROS - 1) == Delivered()
    assert deliverer.deliver_once(NOW + CLAIM_MICROS) == Delivered(delivered=1)
    assert len(send.sent) == (2 if place == "deliver.after_send" else 1)
    assert len(set(send.ids)) == 1


def test_after_the_last_attempt_it_is_given_up_and_one_sees_why(ledger: SqlLedger) -> None:
    add(ledger, "http://localhost/")
    tell(ledger)
    send = Scripted(*["no connection: refused"] * MAX_ATTEMPTS)
    deliverer = Deliverer(ledger.engine, send)
    now: int | None = NOW
    for attempts in range(1, MAX_ATTEMPTS + 1):
        assert now is not None
        expected = Delivered(failed=1) if attempts < MAX_ATTEMPTS else Delivered(given_up=1)
        assert deliverer.deliver_once(now) == expected
        now = next_due(attempts, now)
    assert now is None
    (row,) = log_of(ledger)
    assert (row["status"], row["attempts"]) == ("given_up", MAX_ATTEMPTS)
    assert row["detail"] == "no connection: refused"
    assert deliverer.deliver_once(NOW + 10**15) == Delivered()


def test_who_dies_at_every_attempt_ends_as_well(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(ledger, "http://localhost/")
    tell(ledger)
    deliverer = Deliverer(ledger.engine, Scripted())
    now = NOW
    for _ in range(MAX_ATTEMPTS):
        monkeypatch.setitem(failpoints._armed, "deliver.after_claim", ("enospc", 1))
        with pytest.raises(OSError):
            deliverer.deliver_once(now)
        now += CLAIM_MICROS
    assert deliverer.deliver_once(now) == Delivered(given_up=1)
    assert log_of(ledger)[0]["detail"] == "no attempt came to its end"


def test_an_endpoint_that_is_gone_is_disabled(ledger: SqlLedger) -> None:
    add(ledger, "http://localhost/")
    tell(ledger)
    send = Scripted(410)
    assert Deliverer(ledger.engine, send).deliver_once(NOW) == Delivered(given_up=1)
    (endpoint,) = list_endpoints(ledger.engine)
    assert (endpoint.status, endpoint.status_reason) == ("disabled", "it answered 410 Gone")
    tell(ledger, "globex")
    assert Deliverer(ledger.engine, send).deliver_once(NOW) == Delivered()
    assert len(log_of(ledger)) == 1


def test_an_endpoint_that_is_enabled_again_gets_what_is_told_from_then_on(
    ledger: SqlLedger,
) -> None:
    endpoint_id = add(ledger, "http://localhost/").endpoint.endpoint_id
    secret = url_and_secret(ledger.engine, endpoint_id)
    tell(ledger)
    send = Scripted(410)
    deliverer = Deliverer(ledger.engine, send)
    deliverer.deliver_once(NOW)
    enabled, was_disabled = enable_endpoint(ledger.engine, endpoint_id, now=NOW + 1)
    assert (enabled.status, enabled.status_reason, was_disabled) == ("enabled", None, True)
    assert (enabled.created_at, enabled.changed_at) == (NOON, NOW + 1)
    assert enable_endpoint(ledger.engine, endpoint_id, now=NOW + 2) == (enabled, False)
    assert url_and_secret(ledger.engine, endpoint_id) == secret
    assert deliverer.deliver_once(NOW) == Delivered(), "what was given up stays so"
    tell(ledger, "globex")
    assert deliverer.deliver_once(NOW) == Delivered(delivered=1)
    assert len(send.sent) == 2


def test_what_waits_for_an_endpoint_that_was_removed_is_given_up(ledger: SqlLedger) -> None:
    new = add(ledger, "http://localhost/")
    tell(ledger)
    remove_endpoint(ledger.engine, new.endpoint.endpoint_id)
    send = Scripted()
    assert Deliverer(ledger.engine, send).deliver_once(NOW) == Delivered(given_up=1)
    assert send.sent == []
    assert log_of(ledger)[0]["detail"] == "the endpoint was removed or disabled"


@pytest.mark.parametrize(("age", "sent"), [(-1, 1), (0, 1), (1, 0)])
def test_old_news_isnt_sent_as_after_a_ledger_was_folded_anew(
    ledger: SqlLedger, age: int, sent: int
) -> None:
    add(ledger, "http://localhost/")
    tell(ledger)
    send = Scripted()
    done = Deliverer(ledger.engine, send).deliver_once(NOON + MAX_AGE_MICROS + age)
    assert done == (Delivered(delivered=1) if sent else Delivered(too_old=1))
    assert len(send.sent) == sent
    assert log_of(ledger)[0]["status"] == ("delivered" if sent else "too_old")


def test_an_endpoint_hears_of_its_organization_or_of_all(ledger: SqlLedger) -> None:
    add(ledger, "http://localhost/all")
    add(ledger, "http://localhost/globex", "globex")
    tell(ledger)
    tell(ledger, "globex")
    send = Scripted()
    assert Deliverer(ledger.engine, send).deliver_once(NOW) == Delivered(delivered=3)
    heard = sorted((url, json.loads(body)["data"]["organization"]) for url, _, body in send.sent)
    assert heard == [
        ("http://localhost/all", "acme"),
        ("http://localhost/all", "globex"),
        ("http://localhost/globex", "globex"),
    ]


def test_an_endpoint_that_fails_keeps_no_other_waiting(ledger: SqlLedger) -> None:
    bad = add(ledger, "http://localhost/bad").endpoint.endpoint_id
    add(ledger, "http://localhost/good")
    for number in range(3):
        tell(ledger, f"org-{number}")

    def send(url: str, _headers: Mapping[str, str], _body: bytes) -> int:
        return 503 if url.endswith("bad") else 200

    assert Deliverer(ledger.engine, send).deliver_once(NOW) == Delivered(delivered=3, failed=1)
    tried = [row for row in log_of(ledger) if row["endpoint_id"] == bad and row["attempts"]]
    assert len(tried) == 1


def test_a_round_is_bounded(ledger: SqlLedger) -> None:
    add(ledger, "http://localhost/")
    telling = Telling(ledger)
    acme = Organization()
    telling.take(acme.opened("sales_assisted"), acme.thresholds(*range(80, 100)), acme.cap(100))
    telling.take(acme.usage(100), acme.reached("organization_cap", 100))
    deliverer = Deliverer(ledger.engine, Scripted())
    assert deliverer.deliver_once(NOW) == Delivered(delivered=DELIVERIES_A_ROUND)
    assert deliverer.deliver_once(NOW) == Delivered(delivered=1)


def test_each_attempt_of_a_long_round_is_signed_and_claimed_at_its_own_time(
    ledger: SqlLedger,
) -> None:
    """Receivers refuse what was signed five minutes ago, and another process takes an old claim."""
    add(ledger, "http://localhost/")
    for number in range(4):
        tell(ledger, f"org-{number}")
    now, signed, claimed = NOW, [], []

    def send(_url: str, headers: Mapping[str, str], _body: bytes) -> int:
        nonlocal now
        signed.append(int(headers["webhook-timestamp"]) * MICROS_PER_SECOND - now)
        claimed.append(max(row["due_at"] for row in log_of(ledger)) - now)
        now += 100 * MICROS_PER_SECOND
        return 204

    Deliverer(ledger.engine, send).deliver_once(NOW, clock=lambda: now)
    assert signed == [0] * 4
    assert claimed == [CLAIM_MICROS] * 4


def test_two_deliverers_share_the_work(ledger: SqlLedger) -> None:
    """The second one comes while the first one's request is on the way."""
    add(ledger, "http://localhost/")
    tell(ledger)
    second = Scripted()
    seen = []

    def send(_url: str, _headers: Mapping[str, str], _body: bytes) -> int:
        seen.append(Deliverer(ledger.engine, second).deliver_once(NOW))
        return 204

    assert Deliverer(ledger.engine, send).deliver_once(NOW) == Delivered(delivered=1)
    assert (seen, second.sent) == ([Delivered()], [])


def test_a_secret_is_nowhere_but_in_its_row(
    ledger: SqlLedger, caplog: pytest.LogCaptureFixture
) -> None:
    new = add(ledger, "http://localhost/token-in-the-path")
    assert new.secret.startswith("whsec_")
    tell(ledger)
    with caplog.at_level("DEBUG"):
        Deliverer(ledger.engine, Scripted(500)).deliver_once(NOW)
    shown = caplog.text + repr(list_endpoints(ledger.engine)) + repr(log_of(ledger))
    assert new.secret not in shown and new.secret.removeprefix("whsec_") not in shown
    assert "token-in-the-path" not in caplog.text
