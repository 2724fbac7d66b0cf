"""`status`: what is spent, held and left of each limit, from the ledger and, where it runs, from the gate."""

from __future__ import annotations

from typing import Any

import pytest
from app.commands import NOW, CommandLine, line, twins_are_exact
from support.homes import opened_app

from tollkeeper.app.cli import standing
from tollkeeper.money.instants import parse_instant
from tollkeeper.money.periods import period_at
from tollkeeper.outbox.database import reading
from tollkeeper.reports.overspend import Overspent, overspent

LIMIT = {
    "limit", "cap_nanos", "cap_usd", "spent_nanos", "spent_usd", "held_nanos", "held_usd",
    "remaining_nanos", "remaining_usd", "open", "lifts_at",
}  # fmt: skip
END = "2026-12-01T00:00:00Z"
MILLI = 10**6


@pytest.fixture
def spent(acme: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """In November ann has spent 6 thousandths of a USD, bob 3, cy nothing; dot has gone, and had spent 3."""
    monkeypatch.setattr(standing, "now_micros", lambda: parse_instant(NOW))
    for member in ("bob", "cy"):
        acme.json("org", "add-member", "acme", member)
    acme.json("emit", "-", stdin=line("e3", member="bob") + line("e4", member="dot"))
    acme.json("consume", "--until-caught-up")
    return acme


def capped(tk: CommandLine, *arguments: str) -> None:
    tk.json("cap", "set", "acme", *arguments)
    tk.json("consume", "--until-caught-up")


def limits_of(document: Any) -> dict[str, Any]:
    """By name."""
    return {one["limit"]: one for one in document["limits"]}


def test_r32_each_limit_says_what_is_left_and_when_it_lifts(spent: CommandLine) -> None:
    capped(spent, "0.01")
    capped(spent, "0.006", "--member", "ann")
    document = spent.json("status", "acme", "--member", "ann")
    twins_are_exact(document)
    assert set(document) == {"organization", "member", "period", "limits", "gate", "freshness"}
    assert (document["organization"], document["member"], document["period"]) == (
        *("acme", "ann"),
        "2026-11",
    )
    assert [set(one) for one in document["limits"]] == [LIMIT] * 3
    found = limits_of(document)
    assert [*found] == ["member_cap", "organization_cap", "credits"]
    own = found["member_cap"]
    assert (own["cap_nanos"], own["spent_nanos"], own["remaining_nanos"]) == (
        6 * MILLI,
        6 * MILLI,
        0,
    )
    assert (own["open"], own["lifts_at"], own["held_nanos"]) == (False, END, None)
    whole = found["organization_cap"]
    assert (whole["remaining_nanos"], whole["open"], whole["lifts_at"]) == (-2 * MILLI, False, END)
    assert (found["credits"]["cap_nanos"], found["credits"]["spent_nanos"]) == (10**10, 12 * MILLI)
    assert (found["credits"]["open"], found["credits"]["lifts_at"]) == (True, None)


def test_r20_an_unlimited_cap_is_null_and_open(spent: CommandLine) -> None:
    found = limits_of(spent.json("status", "acme"))
    assert [*found] == ["organization_cap", "credits"]
    whole = found["organization_cap"]
    assert (whole["cap_nanos"], whole["remaining_nanos"], whole["open"]) == (None, None, True)
    assert "unlimited" in spent("status", "acme").out


def test_r21_used_up_credits_are_closed_and_do_not_lift_by_themselves(tk: CommandLine) -> None:
    tk.json("org", "open", "poor", "--plan", "enterprise_self_serve", "--owner", "ann")
    tk.json("consume", "--until-caught-up")
    credits = limits_of(tk.json("status", "poor"))["credits"]
    assert (credits["cap_nanos"], credits["open"], credits["lifts_at"]) == (0, False, None)


def test_r22_arrears_draw_on_no_credits(tk: CommandLine) -> None:
    tk.json("org", "open", "arrears", "--plan", "enterprise_sales_assisted", "--owner", "ann")
    tk.json("consume", "--until-caught-up")
    assert [*limits_of(tk.json("status", "arrears"))] == ["organization_cap"]


def test_members_come_nearest_to_their_cap_first(spent: CommandLine) -> None:
    capped(spent, "0.012", "--member-default")
    capped(spent, "0.0031", "--member", "bob")
    capped(spent, "unlimited", "--member", "cy")
    document = spent.json("status", "acme", "--members")
    rows = document["members"]
    assert [one["member"] for one in rows] == ["bob", "ann", "dot", "cy"]
    assert [one["source"] for one in rows] == [
        "member",
        "member_default",
        "member_default",
        "member",
    ]
    assert [one["is_member"] for one in rows] == [True, True, False, True]
    assert [one["stopped_by"] for one in rows] == [[], [], ["member"], []]
    assert set(rows[0]) == LIMIT | {"member", "source", "is_member", "stopped_by"}
    twins_are_exact(document)
    capped(spent, "0")
    rows = spent.json("status", "acme", "--members")["members"]
    assert rows[0]["stopped_by"] == ["organization_cap"]
    shown = spent("status", "acme", "--members").out
    assert shown.index("bob") < shown.index("ann")


def test_without_a_gate_that_runs_nothing_is_started_for_the_question(spent: CommandLine) -> None:
    document = spent.json("status", "acme", "--member", "ann")
    gate = document["gate"]
    assert (gate["reachable"], gate["known"], gate["offset"]) == (True, False, None)
    assert gate["ledger_offset"] > 0
    assert not (spent.home / "gate").exists()
    assert "nothing is held" in spent("status", "acme").out


def test_a_gate_that_is_away_leaves_the_ledger_s_figures(
    spent: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLKEEPER_REDIS", "redis://127.0.0.1:1")
    document = spent.json("status", "acme", "--member", "ann")
    assert document["gate"]["reachable"] is False
    assert limits_of(document)["member_cap"]["spent_nanos"] == 6 * MILLI
    assert "the gate is away" in " ".join(spent("status", "acme").out.split())


def test_r18_what_was_spent_beyond_a_limit_is_found_the_largest_first(spent: CommandLine) -> None:
    capped(spent, "0.0117")
    capped(spent, "0.0029", "--member-default")
    capped(spent, "0.006", "--member", "ann")
    capped(spent, "inherit", "--member", "bob")
    period = period_at(parse_instant(NOW))
    with opened_app(spent.home) as app, reading(app.engine) as connection:
        found = overspent(connection, period=period)
        assert overspent(connection, period=period_at(period.end_micros)) == []
    assert found == [
        Overspent("acme", "", "organization_cap", 11_700_000, 12 * MILLI),
        Overspent("acme", "bob", "member_cap", 2_900_000, 3 * MILLI),
        Overspent("acme", "dot", "member_cap", 2_900_000, 3 * MILLI),
    ]
    assert found[1].excess_nanos == 100_000
    twins_are_exact(found[1].as_document())


@pytest.mark.parametrize(
    "arguments", [("status", "nobody"), ("status", "acme", "--member", "ann", "--members")]
)
def test_a_wrong_question_is_refused(spent: CommandLine, arguments: tuple[str, ...]) -> None:
    assert spent(*arguments).code == 2
