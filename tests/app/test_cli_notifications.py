"""`alerts`, `notifications`, `webhook` and `gate policy`: their keys, their tables, their refusals."""

from __future__ import annotations

import os
import threading

import pytest
from app.commands import CommandLine, line, twins_are_exact
from support.homes import opened_app
from webhooks.receiver import Receiver, receiving

from tollkeeper.app.jobs import deliver
from tollkeeper.app.watch import Watch
from tollkeeper.events.codec import encode
from tollkeeper.events.gate import CallAdmitted, GateEvent, LimitReached
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Outgoing
from tollkeeper.money.periods import period_at


def fold(tk: CommandLine) -> None:
    assert tk("consume", "--until-caught-up").code == 0


def reach_threshold(tk: CommandLine) -> None:
    """acme has used 0.006 USD of a cap of 0.010; another call brings it to 0.009."""
    tk.json("cap", "set", "acme", "0.010")
    tk.json("alerts", "set", "acme", "--threshold", "90", "--threshold", "80", "--threshold", "90")
    tk.json("emit", "-", stdin=line("e3"))
    fold(tk)


def test_alerts_are_set_in_part_and_shown(acme: CommandLine) -> None:
    assert acme.json("alerts", "show", "acme") == {
        "organization": "acme",
        "cap_percents": [75, 90, 100],
        "credits_low_percent": 10,
    }
    answer = acme.json("alerts", "set", "acme", "--threshold", "80", "--as", "ann")
    assert answer["cap_thresholds"] == [{"cap_percent": 80}]
    acme.json("alerts", "set", "acme", "--credits-low", "0")
    fold(acme)
    found = acme.json("alerts", "show", "acme")
    assert (found["cap_percents"], found["credits_low_percent"]) == ([80], 0)
    shown = acme("alerts", "show", "acme").out
    assert "80 %" in shown and "never told" in shown
    acme.json("alerts", "set", "acme", "--no-thresholds")
    fold(acme)
    assert acme.json("alerts", "show", "acme")["cap_percents"] == []


def test_alerts_are_previewed_and_belong_to_owners(acme: CommandLine) -> None:
    arguments = ("alerts", "set", "acme", "--threshold", "50")
    assert acme.json(*arguments, "--preview")["cap_percents"] == [50]
    fold(acme)
    assert acme.json("alerts", "show", "acme")["cap_percents"] == [75, 90, 100]
    refused = acme.json(*arguments, "--as", "max", code=1)
    assert refused["reasons"][0]["rule"] == "R14"
    assert acme.json(*arguments, "--preview", "--as", "max", code=1)["refused"]


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("--threshold", "0"),
        ("--threshold", "101"),
        ("--credits-low", "101"),
        ("--threshold", "5", "--no-thresholds"),
    ],
)
def test_alerts_that_cant_be_are_wrong_usage(acme: CommandLine, wrong: tuple[str, ...]) -> None:
    assert acme("alerts", "set", "acme", *wrong).code == 2


def test_notifications_say_what_was_told_and_what_became_of_it(acme: CommandLine) -> None:
    acme.json("webhook", "add", "http://localhost:1/")
    reach_threshold(acme)
    found = acme.json("notifications", "acme")
    assert set(found) == {"organization", "notifications", "stopped", "admitted", "freshness"}
    twins_are_exact(found)
    newest, older = found["notifications"]
    assert [newest["percent"], older["percent"]] == [90, 80]
    assert newest["kind"] == "cap.threshold_reached"
    assert (newest["cap_usd"], newest["spent_usd"], newest["period"]) == (
        "0.01",
        "0.009",
        "2026-11",
    )
    assert newest["recipients"] == ["ann"]
    (delivery,) = newest["deliveries"]
    assert (delivery["status"], delivery["attempts"]) == ("waiting", 0)
    shown = acme("notifications", "acme")
    assert "1 waiting" in shown.out and "cap.threshold_reached" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    assert len(acme.json("notifications", "acme", "--limit", "1")["notifications"]) == 1
    assert acme("notifications", "nobody").code == 2


def test_notifications_show_where_usage_is_stopped_and_what_was_let_through(
    acme: CommandLine,
) -> None:
    acme.json("cap", "set", "acme", "0.010")
    fold(acme)
    with opened_app(acme.home) as app:
        now = app.clock()
        common = {"organization": "acme", "member": "ann", "emitter": "em-1", "occurred_at": now}
        period = period_at(now)
        stopped = LimitReached(
            limit="organization_cap",
            scope="organization/acme",
            period_start=period.start_micros,
            cap_micros=10_000,
            spent_micros=6_000,
            held_micros=4_000,
            requested_micros=1,
            **common,  # type: ignore[arg-type]  # mixed values
        )
        calls = [
            CallAdmitted(
                event_id=f"a-{number}",
                policy="observe",
                cause="organization_cap",
                amount_micros=1_500,
                **common,  # type: ignore[arg-type]  # mixed values
            )
            for number in (1, 2, 2)
        ]
        partition = partition_for("acme", app.log.partition_count)
        reports: list[GateEvent] = [stopped, *calls]
        app.log.append([Outgoing(partition, b"acme", encode(one)) for one in reports])
    fold(acme)
    found = acme.json("notifications", "acme", "--period", period.label)
    assert [one["kind"] for one in found["notifications"]] == ["usage.stopped"]
    (stop,) = found["stopped"]
    assert (stop["limit"], stop["scope"], stop["cap_usd"]) == (
        "organization_cap",
        "organization/acme",
        "0.01",
    )
    (admitted,) = found["admitted"]["calls"]
    assert (admitted["calls"], admitted["amount_usd"]) == (2, "0.003")
    shown = acme("notifications", "acme", "--period", period.label).out
    assert "is stopped" in shown and "let through by policy" in shown


def test_a_webhooks_secret_is_shown_once(acme: CommandLine) -> None:
    added = acme.json("webhook", "add", "https://example.org/hook", "--organization", "acme")
    assert added["secret"].startswith("whsec_")
    listed = acme.json("webhook", "list")
    assert listed["count"] == 1
    (one,) = listed["endpoints"]
    assert one == {name: value for name, value in added.items() if name != "secret"}
    assert "whsec_" not in acme("webhook", "list").out
    shown = acme("webhook", "add", "https://example.org/other")
    assert shown.out.count("whsec_") == 1
    assert acme.json("webhook", "remove", one["endpoint"])["removed"]
    assert acme.json("webhook", "list")["count"] == 1
    assert acme("webhook", "remove", one["endpoint"]).code == 2


@pytest.mark.parametrize("url", ["http://example.org/", "https://u:p@example.org/", "nonsense"])
def test_a_webhook_that_may_not_be_is_wrong_usage(acme: CommandLine, url: str) -> None:
    assert acme("webhook", "add", url).code == 2
    for nobody in ("a/b", "acmee"):
        assert acme("webhook", "add", "https://example.org/", "--organization", nobody).code == 2


def test_what_is_allowed_is_a_setting(acme: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLKEEPER_WEBHOOK_ALLOW", "http, link_local")
    assert acme("webhook", "add", "http://example.org/").code == 0
    monkeypatch.setenv("TOLLKEEPER_WEBHOOK_ALLOW", "everything")
    refused = acme("webhook", "list")
    assert (refused.code, "http, link_local" in refused.err) == (2, True)


def test_an_endpoint_is_tried(acme: CommandLine) -> None:
    with receiving() as receiver:
        endpoint = acme.json("webhook", "add", receiver.url)["endpoint"]
        found = acme.json("webhook", "test", endpoint)
        assert (found["http_status"], found["delivered"]) == (204, True)
        assert receiver.ids == [found["id"]]
        receiver.answers = [401]
        assert acme.json("webhook", "test", endpoint, code=1)["http_status"] == 401
        receiver.answers = [500]
        assert "answered 500" in acme("webhook", "test", endpoint).err
    away = acme.json("webhook", "test", endpoint, code=3)
    assert away["detail"] == "no connection: Connection refused"
    assert acme("webhook", "test", "we_none").code == 2


def test_a_disabled_endpoint_is_named_and_enabled_again(acme: CommandLine) -> None:
    with receiving() as receiver:
        endpoint = acme.json("webhook", "add", receiver.url)["endpoint"]
        reach_threshold(acme)
        receiver.answers = [410]
        _run_deliver_until(acme, Watch(lambda: 0.0, stuck_after_s=60), receiver, count=1)
    (listed,) = acme.json("webhook", "list")["endpoints"]
    assert listed["status"] == "disabled"
    (finding,) = [one for one in acme.json("doctor", code=1)["findings"] if not one["ok"]]
    assert (finding["what"], finding["detail"]) == (
        "webhook",
        f"{endpoint} is disabled: it answered 410 Gone",
    )
    assert f"tollkeeper webhook enable {endpoint}" in finding["next_step"]
    enabled = acme.json("webhook", "enable", endpoint)
    assert (enabled["status"], enabled["status_reason"]) == ("enabled", None)
    assert (enabled["was_disabled"], enabled["created_at"]) == (True, listed["created_at"])
    assert acme.json("doctor")["healthy"] is True
    assert acme.json("webhook", "enable", endpoint) == {**enabled, "was_disabled": False}
    assert "nothing new" in acme("webhook", "enable", endpoint).out
    unknown = acme("webhook", "enable", "we_none")
    assert (unknown.code, "webhook list" in unknown.err) == (2, True)


def test_the_job_delivers_what_is_due(acme: CommandLine) -> None:
    with receiving() as receiver:
        acme.json("webhook", "add", receiver.url)
        reach_threshold(acme)
        watch = Watch(lambda: 0.0, stuck_after_s=60)
        _run_deliver_until(acme, watch, receiver, count=2)
        assert sorted(receiver.ids) == sorted(
            one["id"] for one in acme.json("notifications", "acme")["notifications"]
        )
    assert b'tollkeeper_webhook_deliveries_total{outcome="delivered"} 2.0' in watch.exposition()


def _run_deliver_until(tk: CommandLine, watch: Watch, receiver: Receiver, *, count: int) -> None:
    """Run the job until so many arrived; it is told to stop by the round that finds nothing."""

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            self.set()  # it has nothing to do any more
            return True

    with opened_app(tk.home) as app:
        deliver(app, watch, Stop())
    assert len(receiver.received) == count


def test_policies_are_set_listed_and_inherited(acme: CommandLine) -> None:
    assert acme.json("gate", "policy")["policies"] == []
    assert "all others: closed" in acme("gate", "policy").out
    answer = acme.json("gate", "policy", "acme", "open", "--ceiling", "5")
    assert (answer["policy"], answer["ceiling_usd"], answer["until"]) == ("open", "5.00", None)
    until = ("--until", "2099-01-01T00:00:00Z")
    answer = acme.json("gate", "policy", "--all", "observe", *until)
    assert answer["partitions"] == 8
    fold(acme)
    found = acme.json("gate", "policy")
    assert found["policies"] == [
        {
            "organization": None,
            "policy": "observe",
            "ceiling_nanos": None,
            "ceiling_usd": None,
            "until": "2099-01-01T00:00:00Z",
        },
        {
            "organization": "acme",
            "policy": "open",
            "ceiling_nanos": 5 * 10**9,
            "ceiling_usd": "5.00",
            "until": None,
        },
    ]
    assert "2099-01-01T00:00:00Z" in acme("gate", "policy").out
    acme.json("gate", "policy", "acme", "inherit")
    fold(acme)
    assert len(acme.json("gate", "policy")["policies"]) == 1


def test_the_policy_in_force_is_shown_and_whose_it_is(acme: CommandLine) -> None:
    closed = {
        "organization": "acme",
        "policy": "closed",
        "ceiling_nanos": None,
        "ceiling_usd": None,
        "until": None,
        "is_default": True,
    }
    assert acme.json("gate", "policy", "acme") == closed
    assert "acme is closed (the default)" in acme("gate", "policy", "acme").out
    acme.json("gate", "policy", "--all", "observe")
    acme.json("gate", "policy", "acme", "open", "--ceiling", "5", "--until", "2099-01-01T00:00:00Z")
    fold(acme)
    own = acme.json("gate", "policy", "acme")
    assert (own["policy"], own["ceiling_usd"], own["is_default"]) == ("open", "5.00", False)
    shown = acme("gate", "policy", "acme").out
    assert "acme is open up to 5.00 USD until 2099-01-01T00:00:00Z (its own)" in shown
    acme.json("gate", "policy", "acme", "inherit")
    fold(acme)
    assert acme.json("gate", "policy", "acme") == {**closed, "policy": "observe"}


def test_policies_are_previewed_and_the_operators(acme: CommandLine) -> None:
    preview = acme.json("gate", "policy", "acme", "observe", "--preview")
    assert (preview["preview"], preview["policy"]) == (True, "observe")
    assert acme.json("gate", "policy", "--all", "observe", "--preview")["organization"] is None
    for whose in ("acme", "--all"):
        for more in ((), ("--preview",)):
            refused = acme.json("gate", "policy", whose, "observe", "--as", "ann", *more, code=1)
            assert refused["reasons"][0]["rule"] == "R14"
    fold(acme)
    assert acme.json("gate", "policy")["policies"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        ("nobody",),
        ("acme", "--preview"),
        ("acme", "--ceiling", "5"),
        ("acme", "ajar"),
        ("acme", "open"),
        ("acme", "closed", "--ceiling", "5"),
        ("acme", "open", "--ceiling", "-5"),
        ("acme", "observe", "--until", "tomorrow"),
        ("acme", "acme", "observe"),
        ("acme", "observe", "--all"),
        ("inherit", "--all"),
        ("--all",),
        ("observe", "--all", "--at", "2026-11-01T00:00:00Z"),
    ],
)
def test_policies_that_cant_be_are_wrong_usage(acme: CommandLine, wrong: tuple[str, ...]) -> None:
    assert acme("gate", "policy", *wrong).code == 2, os.linesep.join(wrong)


def test_a_policy_that_ends_before_it_begins_is_refused(acme: CommandLine) -> None:
    past = ("--until", "2020-01-01T00:00:00Z")
    for whose in ("acme", "--all"):
        refused = acme.json("gate", "policy", whose, "observe", *past, code=1)
        assert refused["reasons"][0]["reason"] == "until"
