"""A refusal names every reason as data (RULES R24), in the keys that CLI.md promises."""

from __future__ import annotations

import json
import pickle
from typing import Any, get_args

import pytest

from tollkeeper.errors import TollkeeperError
from tollkeeper.gate import answers as a
from tollkeeper.gate.sdk import Refused
from tollkeeper.gate.sdk.obstacles import Obstacle
from tollkeeper.gate.sdk.refused import stopped, unavailable, unpriced
from tollkeeper.money.instants import parse_instant
from tollkeeper.testing import FakeGate, FakeWorld

KEYS = {
    *("reason", "cap_nanos", "spent_nanos", "held_nanos", "requested_nanos"),
    *("cap_usd", "spent_usd", "held_usd", "requested_usd"),
    *("who_can_lift", "lifts_at", "next_step", "scope", "rule", "message"),
}
PERIOD_END = parse_instant("2026-12-01T00:00:00Z")


def reason(*words: Any) -> dict[str, Any]:
    """The one reason of a refusal by the functions, as a document."""
    refused = stopped("acme", a.Refused(5, PERIOD_END, (a.Against(*words),)), requested_micros=7)
    document = json.loads(json.dumps(refused.as_document()))
    assert document["granted"] is False
    [found] = document["reasons"]
    assert set(found) == KEYS
    assert found["requested_nanos"] == 7_000
    return dict(found)


def test_r19_a_cap_says_what_is_left_of_it_and_when_it_lifts() -> None:
    found = reason("member_cap", "member/ann", 30_000_000, 12_500_000, 250_000)
    assert (found["reason"], found["rule"]) == ("member_cap", "R19")
    assert found["cap_nanos"] == 30_000_000_000
    assert (found["spent_nanos"], found["held_nanos"]) == (12_500_000_000, 250_000_000)
    assert found["lifts_at"] == "2026-12-01T00:00:00Z"
    assert found["who_can_lift"] == ["primary_owner", "owner", "operator"]
    assert found["next_step"] == "raise it: tollkeeper cap set acme USD --member ann"
    assert found["message"] == (
        "the cap of member ann is 30.00 USD, of which 12.50 are spent and 0.25 held; "
        "the call may cost 0.000007"
    )
    organization = reason("organization_cap", "organization/acme", 1, 1, 0)
    assert organization["next_step"] == "raise it: tollkeeper cap set acme USD"


@pytest.mark.parametrize(
    ("now", "lifts_at"),
    [(PERIOD_END - 1, PERIOD_END), (PERIOD_END, None), (PERIOD_END + 1, None)],
)
def test_r24_a_cap_of_a_period_that_is_over_never_lifts_by_itself(
    now: int, lifts_at: int | None
) -> None:
    against = a.Against("member_cap", "member/ann", 30, 30, 0)
    [found] = stopped("acme", a.Refused(now, PERIOD_END, (against,)), requested_micros=7).reasons
    assert found.lifts_at == lifts_at


def test_r21_credits_do_not_lift_by_themselves() -> None:
    found = reason("credits", "organization/acme", 5_000_000, 4_000_000, 999_999)
    assert (found["rule"], found["lifts_at"]) == ("R21", None)
    assert (
        found["message"] == "acme has 0.000001 USD of credits left, and the call may cost 0.000007"
    )
    assert found["next_step"] == "buy credits: tollkeeper credits buy acme USD"
    debt = reason("credits", "organization/acme", 5_000_000, 6_000_000, 0)
    assert debt["message"].startswith("acme has -1.00 USD of credits left")


@pytest.mark.parametrize(
    ("name", "scope", "message", "next_step"),
    [
        ("organization", "organization/acme", "there is no organization acme", "org open acme"),
        ("member", "member/zoe", "zoe isn't a member of acme", "org add-member acme zoe"),
        ("seat", "member/zoe", "zoe has no seat", "seats assign acme zoe"),
        ("surface", "member/zoe", "doesn't cover this surface", "seats assign acme zoe"),
        ("project", "project", "names no project", "name it"),
    ],
)
def test_r24_access_has_no_amounts(name: str, scope: str, message: str, next_step: str) -> None:
    found = reason(name, scope, None, None, None)
    assert (found["reason"], found["rule"]) == (name, "R24")
    assert (found["cap_nanos"], found["spent_nanos"], found["held_nanos"]) == (None, None, None)
    assert message in found["message"]
    assert next_step in found["next_step"]


def test_r24_price_and_unavailable_are_reasons_too() -> None:
    [price] = unpriced("acme", "no price for m").reasons
    assert (price.reason, price.who_can_lift) == ("price", ("operator",))
    assert set(price.as_document()) == KEYS
    for micros, nanos in ((None, None), (7, 7_000)):
        [away] = unavailable("acme", "it is away", requested_micros=micros).reasons
        assert (away.reason, away.requested_nanos, away.lifts_at) == ("unavailable", nanos, None)
        assert set(away.as_document()) == KEYS
    assert unavailable("acme", "it is away", requested_micros=7).is_unavailable
    steps = {
        unavailable("acme", "x", one, requested_micros=7).reasons[0].next_step
        for one in get_args(Obstacle)
    }
    assert len(steps) == len(get_args(Obstacle)), "each obstacle has a next step of its own"
    assert not unpriced("acme", "no price for m").is_unavailable


def test_r24_every_reason_at_once_in_data_and_in_words() -> None:
    gate = FakeGate(FakeWorld(cap_usd="1", member_cap_usd="2", credits_usd="3", members=["bob"]))
    with pytest.raises(Refused) as refused:
        gate.hold(
            organization="acme",
            member="ann",
            surface="web",
            model="claude-sonnet-5",
            max_cost_usd="9",
        )
    names = [one.reason for one in refused.value.reasons]
    assert names == ["member", "organization_cap", "member_cap", "credits"]
    assert str(refused.value).count(";") >= 3


def test_it_travels_between_processes() -> None:
    refused = unavailable("acme", "it is away", requested_micros=7)
    copied = pickle.loads(pickle.dumps(refused))
    assert (copied.reasons, str(copied)) == (refused.reasons, str(refused))


def test_it_suggests_402_which_no_client_retries_by_itself() -> None:
    assert Refused.http_status == 402
    assert issubclass(Refused, TollkeeperError)
