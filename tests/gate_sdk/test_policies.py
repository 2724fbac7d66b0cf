"""What happens to a call when the gate can't know (ENFORCEMENT), and what the log is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from gate_sdk.conftest import DeskMaker
from gate_sdk.desk import Desk
from gate_sdk.test_life_of_a_hold import usage

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.gate import CallAdmitted, LimitReached
from tollkeeper.gate.sdk import GateSettings, Refused
from tollkeeper.gate.sdk.policies import CLOSED, Policy, parse_policy
from tollkeeper.gate.sdk.published import Published
from tollkeeper.gate.sdk.reports import Reports
from tollkeeper.gate.sdk.stats import Counters

SOON = 3_600_000_000


def facts(desk: Desk, kind: type[Any]) -> list[Any]:
    """What the log was told, after the next round."""
    desk.tick()
    while desk.emitter.send_step():
        continue
    return [one for one in desk.logged() if type(one) is kind]


def away(desk: Desk) -> None:
    """Redis doesn't answer, and hasn't for long enough."""
    desk.line.is_cut = True
    desk.pass_by(3)
    desk.tick()


def test_closed_is_the_default_also_where_nothing_was_published(desk: Desk) -> None:
    away(desk)
    with pytest.raises(Refused) as refused:
        desk.hold()
    assert refused.value.is_unavailable
    assert facts(desk, CallAdmitted) == []
    assert (desk.gate.stats().refused, desk.gate.stats().unavailable) == (1, 1)


def test_open_lets_calls_through_up_to_its_ceiling_while_the_gate_does_not_know(desk: Desk) -> None:
    desk.publish_policies(f"{desk.world.name},open,25,-")
    assert desk.gate.stats().policies == {desk.world.name: "open"}
    away(desk)
    first, second = desk.hold(), desk.hold()
    assert (first.policy, first.hold_id, first.held_micros) == ("open", None, 0)
    for micros in ("0.000006", "0.000100"):
        with pytest.raises(Refused) as refused:
            desk.hold(max_cost_usd=micros)
        assert refused.value.is_unavailable
    third = desk.hold(max_cost_usd="0.000005")
    assert desk.gate.stats().admitted_open == 3
    for hold in (first, second):
        hold.settle(usage(desk))
    third.release()
    assert [event.hold_id for event in desk.usages()] == [None, None]
    told = facts(desk, CallAdmitted)
    assert [(one.policy, one.cause, one.amount_micros) for one in told] == [
        ("open", "unavailable", 10),
        ("open", "unavailable", 10),
        ("open", "unavailable", 5),
    ]
    assert {one.emitter for one in told} == {desk.me}


def test_the_ceiling_counts_from_when_the_gate_last_knew(desk: Desk) -> None:
    desk.publish_policies("*,open,10,-")
    for _ in range(2):
        away(desk)
        desk.hold().release()
        with pytest.raises(Refused):
            desk.hold()
        desk.line.is_cut = False
        desk.tick()
        desk.hold().release()


def test_open_stays_closed_to_what_the_gate_refuses(desk: Desk) -> None:
    desk.publish_policies("*,open,1000000,-")
    with pytest.raises(Refused, match="member ann"):
        desk.hold(max_cost_usd="0.000031")
    with pytest.raises(Refused, match="no price"):
        desk.hold(model="unheard-of")


def test_observe_lets_every_call_through_and_records_what_would_have_been_refused(
    desk: Desk,
) -> None:
    desk.publish_policies("*,observe,-,-")
    held = desk.hold()
    assert held.policy == "closed", "what is granted is held as ever"
    held.release()
    with desk.hold(max_cost_usd="0.000051") as let_through:
        assert (let_through.policy, let_through.hold_id) == ("observe", None)
    desk.hold(model="unheard-of").release()
    away(desk)
    desk.hold(max_cost_usd="9").release()
    desk.line.is_cut = False
    told = facts(desk, CallAdmitted)
    assert [(one.cause, one.amount_micros) for one in told] == [
        ("organization_cap,member_cap", 51),
        ("price", 10),
        ("unavailable", 9_000_000),
    ]
    assert desk.gate.stats().admitted_observe == 3
    assert desk.gate.stats().refused == 0
    assert len(facts(desk, LimitReached)) == 2


def test_a_call_that_was_let_through_is_not_extended_and_its_usage_is_charged(desk: Desk) -> None:
    desk.publish_policies("*,observe,-,-")
    away(desk)
    hold = desk.hold()
    hold.extend(max_cost_usd="5")
    hold.settle(usage(desk))
    [event] = desk.usages()
    assert (event.hold_id, event.occurred_at) == (None, hold.granted_at)


def test_without_an_emitter_no_policy_lets_a_call_through(desk: Desk) -> None:
    """Nobody could report its usage."""
    desk.publish_policies("*,observe,-,-")
    desk.gate.core.session.emitter = None
    desk.gate.core.session.trouble = "no spool"
    with pytest.raises(Refused, match="no spool") as refused:
        desk.hold()
    assert "spool" in refused.value.reasons[0].next_step


@pytest.mark.parametrize(("passed", "is_open"), [(-1, True), (0, False), (1, False)])
def test_a_policy_holds_up_to_its_instant(passed: int, is_open: bool) -> None:
    published = Published()
    published.policies = {"acme": Policy("open", 5, until=SOON)}
    assert published.policy_of("acme", SOON + passed) == (
        Policy("open", 5, until=SOON) if is_open else CLOSED
    )


def test_an_organization_s_own_policy_goes_before_everybody_s() -> None:
    published = Published()
    published.policies = dict(
        parse_policy(word) for word in ("*,observe,-,-", "acme,closed,-,-", f"beta,open,7,{SOON}")
    )
    assert published.policy_of("acme", 0) == CLOSED
    assert published.policy_of("other", 0) == Policy("observe")
    assert published.policy_of("beta", SOON - 1) == Policy("open", 7, until=SOON)
    assert published.policy_of("beta", SOON) == Policy("observe")


def test_a_policy_of_a_newer_release_stops_the_upkeep_by_name() -> None:
    with pytest.raises(BrokenInvariant, match="'ajar'"):
        parse_policy("acme,ajar,-,-")


def test_policies_and_prices_are_kept_while_redis_is_away_and_by_a_server_that_has_none(
    desk: Desk,
) -> None:
    desk.publish_policies("*,open,10,-")
    desk.world.begin_epoch(2, opened=False)
    desk.tick()
    away(desk)
    desk.hold(max_cost_usd=None, input_tokens=1, max_output_tokens=0).release()


def test_r26_a_limit_is_reported_once_at_each_cap_and_again_when_it_was_raised(desk: Desk) -> None:
    for _ in range(3):
        for micros in ("0.000031", "0.000051"):
            with pytest.raises(Refused):
                desk.hold(max_cost_usd=micros)
    told = facts(desk, LimitReached)
    assert [(one.limit, one.scope, one.cap_micros) for one in told] == [
        ("member_cap", "member/ann", 30),
        ("organization_cap", f"organization/{desk.world.name}", 50),
    ]
    first = told[0]
    assert (first.spent_micros, first.held_micros, first.requested_micros) == (0, 0, 31)
    assert (first.member, first.emitter) == ("ann", desk.me)
    assert first.period_start == desk.world.period.start_micros
    for cap in (31, 30):
        desk.world.apply(caps={"member": cap})
        for _ in range(2):
            with pytest.raises(Refused):
                desk.hold(max_cost_usd="0.000032")
    assert [one.cap_micros for one in facts(desk, LimitReached)] == [30, 50, 31, 30]


def test_reports_beyond_the_bound_are_counted_and_no_call_waits_for_them(
    make_desk: DeskMaker,
) -> None:
    desk = make_desk(GateSettings(max_reports=2)).ready()
    desk.publish_policies("*,observe,-,-")
    desk.disk_fails = True
    for _ in range(4):
        desk.hold(model="unheard-of").release()
    assert (desk.gate.stats().waiting_reports, desk.gate.stats().reports_dropped) == (2, 2)
    desk.tick()
    desk.tick()
    assert desk.gate.stats().waiting_reports == 2
    desk.disk_fails = False
    desk.tick()
    assert len(facts(desk, CallAdmitted)) == 2
    assert desk.gate.stats().waiting_reports == 0


def test_an_extension_that_nobody_answers_goes_on_under_open_up_to_its_ceiling(desk: Desk) -> None:
    desk.publish_policies("*,open,10,-")
    hold = desk.hold()
    away(desk)
    with pytest.raises(Refused) as refused:
        hold.extend(max_cost_usd="0.000021")
    assert refused.value.is_unavailable
    hold.extend(max_cost_usd="0.00002")
    assert (hold.policy, hold.held_micros) == ("open", 10)
    desk.line.is_cut = False
    hold.settle(usage(desk))
    assert [(one.cause, one.amount_micros) for one in facts(desk, CallAdmitted)] == [
        ("unavailable", 10)
    ]
    assert {one.hold_id for one in desk.usages()} == {hold.hold_id}


def test_more_causes_than_a_report_has_room_for_are_left_out(desk: Desk) -> None:
    reports = Reports(desk.gate.core.session.recorder, Counters(), most=5)
    for causes in (("x" * 64,), ("x" * 65,), ("a" * 30, "b" * 33, "c"), ("a" * 30, "b" * 34)):
        reports.admitted(
            *("acme", "ann", Policy("observe")),
            causes=causes,
            amount_micros=1,
            emitter="em-1",
            now=desk.world.now,
        )
    reports.deliver()
    while desk.emitter.send_step():
        continue
    told = [one.cause for one in desk.logged() if isinstance(one, CallAdmitted)]
    assert told == ["x" * 64, "x" * 64, f"{'a' * 30},{'b' * 33}", "a" * 30]


def test_a_report_that_can_t_be_recorded_holds_up_no_other(desk: Desk) -> None:
    counters = Counters()
    reports = Reports(desk.gate.core.session.recorder, counters, most=5)
    for member in ("an@example.com", "ann"):
        reports.admitted(
            *("acme", member, Policy("observe")),
            causes=("price",),
            amount_micros=1,
            emitter="em-1",
            now=desk.world.now,
        )
    assert (len(reports), counters.all()) == (1, {"reports_dropped": 1})
