"""The gate through the command line on the embedded default, where no server keeps it: documents, exit
codes, and the known case of who is stopped by what.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from app.commands import CommandLine, twins_are_exact
from gate.spoiling import spoil
from redis import Redis
from sqlalchemy import select
from support.homes import opened_app

from tollkeeper.gate.embedded import embedded_gate
from tollkeeper.ledger.gate_tables import admitted_call
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.outbox.database import reading

USD = 10**9
OUTPUT_USD = "claude-sonnet-5"
"""Costs 10 USD a million output tokens."""
REASON = {
    "reason", "scope", "rule", "message", "who_can_lift", "next_step", "requested_nanos", "cap_nanos",
    "spent_nanos", "held_nanos", "lifts_at", "requested_usd", "cap_usd", "spent_usd", "held_usd",
}  # fmt: skip


def hold(tk: CommandLine, member: str, usd: str, *more: str, code: int = 0) -> Any:
    """Ask for an amount; the document."""
    return tk.json("hold", "acme", member, "--surface", "web", "--usd", usd, *more, code=code)


def refused_by(tk: CommandLine, member: str, usd: str = "0.000001") -> list[str]:
    """The names of all reasons."""
    return [one["reason"] for one in hold(tk, member, usd, code=1)["reasons"]]


def spend(tk: CommandLine, member: str, usd: int) -> None:
    """Hold, call, and report what the call used."""
    granted = hold(tk, member, str(usd))
    usage = {
        "event_id": granted["hold_id"].rpartition("/")[2],
        "organization": "acme",
        "member": member,
        "surface": "web",
        "model": OUTPUT_USD,
        "occurred_at": granted["granted_at"],
        "output_tokens": usd * 100_000,
        "hold_id": granted["hold_id"],
    }
    tk.json("emit", "-", stdin=json.dumps(usage) + "\n")


def opened(tk: CommandLine, plan: str = "enterprise_self_serve") -> CommandLine:
    """acme with ann and bob."""
    tk.json("org", "open", "acme", "--plan", plan, "--owner", "ann")
    tk.json("org", "add-member", "acme", "bob")
    return tk


def test_r19_r21_the_known_case(tk: CommandLine) -> None:
    """Credits 100 USD, organization cap 50, member caps 30."""
    opened(tk).json("credits", "buy", "acme", "100")
    tk.json("cap", "set", "acme", "50")
    tk.json("cap", "set", "acme", "30", "--member-default")
    spend(tk, "ann", 30)
    assert refused_by(tk, "ann") == ["member_cap"]
    spend(tk, "bob", 20)
    assert refused_by(tk, "bob") == ["organization_cap"]
    tk.json("credits", "buy", "acme", "1000")
    assert refused_by(tk, "bob") == ["organization_cap"], "credits don't lift a cap"
    tk.json("cap", "set", "acme", "60")
    assert refused_by(tk, "bob", "10.000001") == ["organization_cap", "member_cap"]
    spend(tk, "bob", 10)
    assert refused_by(tk, "bob") == ["organization_cap", "member_cap"]
    tk.json("consume", "--until-caught-up")
    document = tk.json("status", "acme", "--member", "bob")
    figures = {one["limit"]: (one["spent_nanos"], one["held_nanos"]) for one in document["limits"]}
    assert figures == {
        "member_cap": (30 * USD, 0),
        "organization_cap": (60 * USD, 0),
        "credits": (60 * USD, 0),
    }
    assert [one["open"] for one in document["limits"]] == [False, False, True]
    assert document["gate"]["known"] is True
    assert document["gate"]["offset"] == document["gate"]["ledger_offset"]
    assert tk.json("reconcile")["agrees"] is True
    assert tk.json("replay", "verify")["agrees"] is True


@pytest.mark.parametrize("cap", [1, 9_000_000_000 * 10**6])
def test_caps_are_exact_to_the_micro_dollar(tk: CommandLine, cap: int) -> None:
    """One micro-dollar and 9 billion dollars."""
    opened(tk, "enterprise_sales_assisted")
    tk.json("cap", "set", "acme", nanos_to_usd(cap * 1_000))
    if cap > 1:
        hold(tk, "ann", nanos_to_usd((cap - 1) * 1_000))
    assert refused_by(tk, "bob", "0.000002") == ["organization_cap"]
    assert hold(tk, "bob", "0.000001")["held_nanos"] == 1_000
    assert refused_by(tk, "bob") == ["organization_cap"]


def test_a_larger_cap_is_refused_by_name(tk: CommandLine) -> None:
    opened(tk)
    refused = tk.json("cap", "set", "acme", "9007199254.740993", code=1)
    (reason,) = refused["reasons"]
    assert reason["reason"] == "cap"
    assert "9007199254.740992 USD" in reason["message"]


def test_r24_a_refusal_has_every_reason_with_its_amounts(tk: CommandLine) -> None:
    opened(tk)
    tk.json("cap", "set", "acme", "5")
    tk.json("cap", "set", "acme", "2", "--member", "ann")
    document = hold(tk, "ann", "7.5", code=1)
    assert (set(document), document["granted"]) == ({"granted", "reasons"}, False)
    twins_are_exact(document)
    reasons = {one["reason"]: one for one in document["reasons"]}
    assert set(reasons) == {"organization_cap", "member_cap", "credits"}
    assert all(set(one) == REASON for one in reasons.values())
    own = reasons["member_cap"]
    assert (own["cap_nanos"], own["requested_nanos"], own["held_nanos"]) == (
        *(2 * USD, 7_500_000_000),
        0,
    )
    assert own["lifts_at"].endswith("-01T00:00:00Z")
    assert reasons["credits"]["lifts_at"] is None
    assert own["who_can_lift"] == ["primary_owner", "owner", "operator"]
    shown = tk("hold", "acme", "ann", "--surface", "web", "--usd", "7.5")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.count("refused (R19)") == 2
    assert "tollkeeper cap set acme USD --member ann" in shown.err


def test_r24_who_and_what_nobody_knows_is_named(tk: CommandLine) -> None:
    opened(tk, "enterprise_sales_assisted")
    assert refused_by(tk, "stranger") == ["member"]
    arguments = ("--surface", "web", "--model", "unheard-of", "--input-tokens", "1")
    document = tk.json("hold", "acme", "ann", *arguments, "--max-output-tokens", "1", code=1)
    assert [one["reason"] for one in document["reasons"]] == ["price"]
    nobody = tk.json("hold", "nobody", "ann", "--surface", "web", "--usd", "1", code=1)
    assert [one["reason"] for one in nobody["reasons"]] == ["organization"]


def test_a_model_with_its_tokens_is_held_at_its_worst_case(tk: CommandLine) -> None:
    opened(tk, "enterprise_sales_assisted")
    arguments = (
        "--model",
        "claude-sonnet-5",
        "--input-tokens",
        "1000",
        "--max-output-tokens",
        "500",
    )
    document = tk.json("hold", "acme", "ann", "--surface", "web", *arguments)
    twins_are_exact(document)
    assert set(document) == {
        "granted", "hold_id", "held_nanos", "held_usd", "granted_at", "policy", "is_kept_by_a_process",
    }  # fmt: skip
    assert document["granted"] is True
    assert document["held_nanos"] == 1_000 * 2_000 + 500 * 10_000
    assert "it goes when Redis is replaced" in tk("hold", "acme", "ann", "--surface", "web",
                                                            "--usd", "1").out  # fmt: skip


def test_a_gate_that_is_away_is_exit_code_3(
    tk: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tk)
    monkeypatch.setenv("TOLLKEEPER_REDIS", "redis://127.0.0.1:1")
    document = hold(tk, "ann", "1", code=3)
    assert [one["reason"] for one in document["reasons"]] == ["unavailable"]
    assert "TOLLKEEPER_REDIS" in document["reasons"][0]["next_step"]
    for arguments in (
        ("release", "acme/em-1/1/x"),
        ("holds", "list", "acme"),
        ("setup",),
    ):
        ended = tk(*arguments)
        assert ended.code == 3, arguments
        assert "the gate can't be asked" in ended.err
    assert tk("gate", "stop").code == 2
    (moment,) = tk("gate", "watch", "--for", "0", "--json").out.splitlines()
    assert "the gate can't be asked" in json.loads(moment)["away"]
    assert tk("gate", "watch", "--for", "0").code == 3
    doctor = tk.json("doctor", code=3)
    (finding,) = [one for one in doctor["findings"] if one["what"] == "redis"]
    assert (finding["ok"], "TOLLKEEPER_REDIS" in finding["next_step"]) == (False, True)


def test_what_a_policy_lets_through_holds_nothing_and_is_recorded(tk: CommandLine) -> None:
    opened(tk)
    assert tk.json("gate", "policy", "acme", "observe")
    document = hold(tk, "ann", "8")
    assert (document["granted"], document["hold_id"], document["policy"]) == (True, None, "observe")
    assert (document["held_nanos"], tk.json("holds", "list", "acme")["count"]) == (0, 0)
    assert "policy observe" in tk("hold", "acme", "ann", "--surface", "web", "--usd", "8").out
    with opened_app(tk.home) as app, reading(app.engine) as connection:
        rows = connection.execute(select(admitted_call.c.cause, admitted_call.c.amount_nanos))
        assert [tuple(row) for row in rows] == [("credits", 8 * USD)] * 2


def test_a_hold_has_a_name_and_an_end(tk: CommandLine) -> None:
    opened(tk, "enterprise_sales_assisted")
    first = hold(tk, "ann", "3", "--hold-id", "report")
    assert hold(tk, "ann", "3", "--hold-id", "report") == first
    assert hold(tk, "ann", "1", "--hold-id", "other")["hold_id"] != first["hold_id"]
    other = tk("hold", "acme", "ann", "--surface", "web", "--usd", "4", "--hold-id", "report")
    assert (other.code, "other arguments" in other.err) == (2, True)
    listed = tk.json("holds", "list", "acme")
    twins_are_exact(listed)
    assert listed["count"] == 2
    assert set(listed["holds"][0]) == {
        "hold_id", "member", "emitter", "held_nanos", "held_usd", "granted_at", "age_s",
    }  # fmt: skip
    assert [one["held_nanos"] for one in listed["holds"]] == [3 * USD, 1 * USD]
    assert tk.json("holds", "list", "acme", "--older-than", "1h")["count"] == 0
    assert tk("holds", "list", "acme", "--older-than", "soon").code == 2
    assert "3.00" in tk("holds", "list", "acme").out
    freed = tk.json("release", first["hold_id"])
    assert (freed["released"], freed["freed_nanos"]) == (True, 3 * USD)
    assert tk.json("release", first["hold_id"])["freed_nanos"] == 0
    used = tk("hold", "acme", "ann", "--surface", "web", "--usd", "3", "--hold-id", "report")
    assert (used.code, "has ended" in used.err) == (2, True)
    assert tk("release", "no-hold-id").code == 2


def test_the_holds_of_nobody_are_wrong_usage(acme: CommandLine) -> None:
    assert acme.json("holds", "list", "acme")["holds"] == []
    assert "none" in acme("holds", "list", "acme").out
    for command in (("holds", "list", "nobody"), ("balance", "nobody")):
        ended = acme(*command)
        assert (ended.code, ended.out) == (2, ""), command
        assert "nobody isn't in the ledger" in ended.err


def test_the_holds_of_long_ids_fit_80_columns_and_stay_whole(tk: CommandLine) -> None:
    organization, member = "organization-with-a-name-of-40-characters", "m" * 70
    tk.json("org", "open", organization, "--plan", "enterprise_sales_assisted", "--owner", member)
    arguments = ("hold", organization, member, "--surface", "web", "--usd", "2")
    hold_id = tk.json(*arguments)["hold_id"]
    lines = tk("holds", "list", organization).out.splitlines()
    assert hold_id in lines
    assert len(hold_id) > 80
    assert f"  member: {member}" in lines
    assert max(len(line) for line in lines if line != hold_id) <= 80


def test_a_look_at_holds_needs_no_database(acme: CommandLine) -> None:
    for path in acme.home.glob("ledger.sqlite*"):
        path.unlink()
    (acme.home / "ledger.sqlite").mkdir()
    assert acme.json("holds", "list", "acme")["holds"] == []


@pytest.mark.parametrize(
    "arguments",
    ["holds list acme", "gate watch --for 0", "emitters list", "reconcile", "status acme"],
)
def test_a_look_makes_no_home(tk: CommandLine, arguments: str) -> None:
    ended = tk(*arguments.split())
    assert (ended.code, "tollkeeper setup" in ended.err) == (2, True)
    assert not tk.home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--usd", "1", "--model", "claude-sonnet-5"),
        ("--model", "claude-sonnet-5", "--input-tokens", "1"),
        ("--usd", "0"),
        ("--usd", "1", "--hold-id", "a/b"),
    ],
)
def test_a_question_that_cannot_be_is_wrong_usage(
    tk: CommandLine, arguments: tuple[str, ...]
) -> None:
    assert tk("hold", "acme", "ann", "--surface", "web", *arguments).code == 2


def test_a_gate_that_was_restarted_begins_anew_and_says_what_is_gone(tk: CommandLine) -> None:
    """The command line's holds are nobody's to re-assert."""
    opened(tk).json("credits", "buy", "acme", "10")
    hold(tk, "ann", "8")
    before = tk.json("gate", "watch", "--for", "0")["primaries"][0]["epoch"]
    assert tk.json("gate", "stop")["was_running"] is True
    assert "no embedded gate" in tk("gate", "stop").out
    assert tk.json("holds", "list", "acme")["holds"] == []
    assert hold(tk, "ann", "9")["granted"] is True
    assert tk.json("gate", "watch", "--for", "0")["primaries"][0]["epoch"] == before + 1
    assert tk.json("reconcile")["agrees"] is True


def test_a_retired_emitter_s_holds_are_freed_without_traffic(tk: CommandLine) -> None:
    opened(tk).json("credits", "buy", "acme", "10")
    held = hold(tk, "ann", "8")
    emitter = held["hold_id"].split("/")[1]
    (listed,) = tk.json("emitters", "list")["emitters"]
    assert (listed["emitter"], listed["standing"]) == (emitter, "started")
    assert listed["unseen_s"] < 60
    refused = tk.json("emitters", "retire", emitter, "--as", "ann", code=1)
    assert refused["reasons"][0]["rule"] == "R14"
    assert tk("emitters", "retire", "em-nobody").code == 2
    assert tk.json("emitters", "retire", emitter)["was_retired_before"] is False
    assert tk.json("emitters", "retire", emitter)["was_retired_before"] is True
    assert tk.json("emitters", "list")["count"] == 0
    (gone,) = tk.json("emitters", "list", "--all")["emitters"]
    assert (gone["standing"], gone["reason"], gone["retired_by"]) == (
        "retired",
        "operator",
        "operator",
    )
    assert hold(tk, "bob", "10")["granted"] is True
    assert [one["member"] for one in tk.json("holds", "list", "acme")["holds"]] == ["bob"]
    assert "retired" in tk("emitters", "list", "--all").out


def test_reconcile_names_what_differs_and_repairs_it(tk: CommandLine) -> None:
    opened(tk).json("credits", "buy", "acme", "10")
    assert tk.json("reconcile") == {
        "agrees": True, "equal": 0, "unknown": 0, "behind": 0, "different": 0, "findings": [],
    }  # fmt: skip
    hold(tk, "ann", "8")
    assert (tk.json("reconcile", "acme")["equal"], tk("reconcile", "nobody").code) == (1, 2)
    with Redis.from_url(embedded_gate(tk.home)) as client:
        spoil(client, "acme", "purchased", "99000000")
    different = tk.json("reconcile", code=1)
    (finding,) = different["findings"]
    assert set(finding) == {"organization", "verdict", "field", "in_redis", "in_sql", "repaired"}
    assert (finding["organization"], finding["verdict"], finding["field"]) == (
        *("acme", "different"),
        "purchased",
    )
    assert (finding["in_redis"], finding["in_sql"]) == ("99000000", "10000000")
    shown = tk("reconcile")
    assert (shown.code, "purchased" in shown.out) == (1, True)
    assert tk.json("reconcile", "--repair")["findings"][0]["repaired"] is True
    assert tk.json("reconcile")["equal"] == 1
    assert [one["held_nanos"] for one in tk.json("holds", "list", "acme")["holds"]] == [8 * USD]


def test_watching_shows_what_is_there_and_starts_nothing(tk: CommandLine) -> None:
    opened(tk).json("credits", "buy", "acme", "10")
    ended = tk("gate", "watch", "--for", "0")
    assert (ended.code, "doesn't run" in ended.err) == (3, True)
    hold(tk, "ann", "8")
    lines = tk("gate", "watch", "acme", "--for", "0.2", "--every", "0.1", "--json").out.splitlines()
    assert len(lines) >= 2
    moment = json.loads(lines[0])
    assert set(moment) == {"at", "primaries", "organizations", "away"}
    (primary,) = moment["primaries"]
    assert set(primary) == {
        "primary", "epoch", "phase", "lease_s", "emitters", "asked", "prices_version",
        "policies_version", "grants",
    }  # fmt: skip
    assert (primary["epoch"], primary["phase"], primary["emitters"]) == (1, "open", 1)
    (organization,) = moment["organizations"]
    assert (organization["holds"], organization["held_nanos"]) == (1, 8 * USD)
    twins_are_exact(moment)
    assert "open" in tk("gate", "watch", "acme", "--for", "0").out
    assert tk("gate", "watch", "--every", "0.01").code == 2
