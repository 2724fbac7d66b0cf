"""Examples about money: caps, credits, exactness, and what a hold reserves. Each takes a fresh world."""

from __future__ import annotations

import pytest
from gate.world import MOST, UNLIMITED, World

from tollkeeper.errors import InvalidInput
from tollkeeper.gate import answers as a
from tollkeeper.gate.amounts import cap_micros
from tollkeeper.gate.commands import Request
from tollkeeper.gate.encoding import Call, hold

USD = 1_000_000
BILLIONS = 9_000_000_000 * USD


def r19_the_lower_of_two_caps_binds_and_credits_open_neither(world: World) -> None:
    """Credits 100, organization 50, members 30: the known case of the gate."""
    caps = {"organization": 50 * USD, "member": 30 * USD}
    world.warmed(caps=caps, purchased_micros=100 * USD)
    ann = world.held(30 * USD)
    world.apply(
        spent={"organization": 30 * USD, "member/ann": 30 * USD},
        used_micros=30 * USD,
        settled=(ann,),
    )
    assert world.refused_by(1) == ["member_cap"]
    assert world.refused_by(20 * USD, "bob") == []
    assert world.refused_by(20 * USD + 1, "bob") == ["organization_cap"]
    bob = world.held(20 * USD, "bob")
    world.apply(
        spent={"organization": 50 * USD, "member/bob": 20 * USD},
        used_micros=50 * USD,
        settled=(bob,),
    )
    assert world.refused_by(1, "bob") == ["organization_cap"]
    assert world.refused_by(1) == ["organization_cap", "member_cap"]

    world.apply(purchased_micros=1_000 * USD)
    assert world.refused_by(1, "bob") == ["organization_cap"]
    assert world.refused_by(1) == ["organization_cap", "member_cap"]

    world.apply(caps={"organization": 60 * USD})
    assert world.refused_by(10 * USD, "bob") == []
    assert world.refused_by(10 * USD + 1, "bob") == ["organization_cap", "member_cap"]
    bob = world.held(10 * USD, "bob")
    world.apply(
        spent={"organization": 60 * USD, "member/bob": 30 * USD},
        used_micros=60 * USD,
        settled=(bob,),
    )
    assert world.refused_by(1, "bob") == ["organization_cap", "member_cap"]


def r19_each_limit_opens_up_to_its_cap_and_not_beyond(world: World) -> None:
    """Just below, exactly at, just above; spent and held count alike."""
    spent = {world.scope("organization"): 10, "member/ann": 5}
    world.warmed(spent=spent, used_micros=60)
    world.held(3)
    assert world.refused_by(21) == []
    assert world.refused_by(22) == []
    assert world.refused_by(23) == ["member_cap"]
    assert [world.refused_by(micros, "bob") for micros in (29, 30, 31)] == [[], [], ["member_cap"]]
    world.apply(caps={"member": "unlimited"})
    assert world.refused_by(37, "bob") == []
    assert world.refused_by(38, "bob") == ["organization_cap", "credits"]
    world.apply(caps={"organization": "unlimited"})
    assert [world.refused_by(micros, "bob") for micros in (36, 37, 38)] == [[], [], ["credits"]]


def r19_a_member_s_own_cap_goes_before_the_default(world: World) -> None:
    """And `inherit` takes it away again."""
    world.warmed()
    world.apply(caps={"member/ann": 40})
    assert [world.refused_by(micros) for micros in (40, 41)] == [[], ["member_cap"]]
    assert world.refused_by(31, "bob") == ["member_cap"]
    world.apply(caps={"member/ann": "inherit"})
    assert [world.refused_by(micros) for micros in (30, 31)] == [[], ["member_cap"]]
    world.apply(caps={"member/ann": "unlimited"})
    assert [world.refused_by(micros) for micros in (50, 51)] == [[], ["organization_cap"]]


def r21_credits_left_open_no_cap_and_a_debt_is_paid_first(world: World) -> None:
    """A balance below zero: new credits open the limit when they lift it above zero."""
    world.warmed(caps=UNLIMITED, purchased_micros=100, used_micros=110)
    assert world.refused_by(1) == ["credits"]
    world.apply(purchased_micros=110)
    assert world.refused_by(1) == ["credits"]
    world.apply(purchased_micros=111)
    assert [world.refused_by(micros) for micros in (1, 2)] == [[], ["credits"]]


def r22_in_arrears_there_are_no_credits_to_run_out(world: World) -> None:
    """Caps bind all the same."""
    world.warmed(funding="arrears", purchased_micros=0)
    assert [world.refused_by(micros) for micros in (30, 31)] == [[], ["member_cap"]]


def r24_a_refusal_names_every_reason_with_its_amounts(world: World) -> None:
    """Also who isn't a member and has no seat."""
    world.warmed(purchased_micros=20, seats="assigned")
    answer = world.hold(60, "eve")
    assert isinstance(answer, a.Refused)
    assert answer.period_end == world.period.end_micros
    assert answer.reasons == (
        a.Against("member", "member/eve", None, None, None),
        a.Against("seat", "member/eve", None, None, None),
        a.Against("organization_cap", world.scope("organization"), 50, 0, 0),
        a.Against("member_cap", "member/eve", 30, 0, 0),
        a.Against("credits", world.scope("organization"), 20, 0, 0),
    )


def r24_members_come_and_go(world: World) -> None:
    """With the fold that says so."""
    world.warmed()
    assert world.refused_by(1, "eve") == ["member"]
    world.apply(members={"eve": True, "bob": False})
    assert world.refused_by(1, "eve") == []
    assert world.refused_by(1, "bob") == ["member"]


def a_further_level_is_data(world: World) -> None:
    """A project's cap binds like any other; a call that names no project has no room in it."""
    levels = ("organization", "member", "project")
    caps = {"organization": 50, "member": 30, "project": 20, "project/p-2": 10}
    world.warmed(levels=levels, caps=caps)
    one, two = ("project/p-1",), ("project/p-2",)
    assert [world.refused_by(micros, scopes=one) for micros in (20, 21)] == [[], ["project_cap"]]
    assert [world.refused_by(micros, scopes=two) for micros in (10, 11)] == [[], ["project_cap"]]
    assert world.refused_by(1) == ["project"]
    world.held(8, "bob", scopes=two)
    assert [world.refused_by(micros, scopes=two) for micros in (2, 3)] == [[], ["project_cap"]]
    world.apply(spent={"project/p-2": 9})
    assert world.refused_by(1, scopes=two) == ["project_cap"]


def caps_of_nine_billion_dollars_and_of_one_micro_dollar_are_exact(world: World) -> None:
    """To the micro-dollar."""
    scope = world.scope("organization")
    caps = {"organization": BILLIONS, "member": "unlimited", "member/bob": 1}
    world.warmed(funding="arrears", caps=caps, spent={scope: BILLIONS - 3})
    assert world.refused_by(1, "bob") == []
    assert world.refused_by(2, "bob") == ["member_cap"]
    world.held(1)
    assert [world.refused_by(micros) for micros in (1, 2, 3)] == [[], [], ["organization_cap"]]
    world.held(2)
    assert world.refused_by(1) == ["organization_cap"]
    assert world.status().limits[0] == a.Limit("organization_cap", scope, BILLIONS, BILLIONS - 3, 3)


def the_largest_cap_is_exact_and_a_larger_one_is_refused_by_name(world: World) -> None:
    """2^53 micro-dollars; the function itself refuses more, whoever calls it."""
    scope = world.scope("organization")
    caps = {"organization": MOST, "member": "unlimited"}
    world.warmed(funding="arrears", caps=caps, spent={scope: MOST - 1})
    assert [world.refused_by(micros) for micros in (1, 2, MOST)] == [
        [],
        ["organization_cap"],
        ["organization_cap"],
    ]
    with pytest.raises(InvalidInput, match=r"cap: must be at most 9007199254\.740992 USD"):
        cap_micros(MOST * 1_000 + 1)
    with pytest.raises(InvalidInput, match=f"cap: must be 0 to {MOST} micro-USD"):
        world.apply(caps={"organization": MOST + 1})
    good = hold(
        world.name,
        Request(MOST, "ann", "web"),
        hold_id=world.new_id(),
        emitter="em-1",
        epoch=1,
        tag=world.tag,
    )
    larger = tuple(MOST + 1 if one == MOST else one for one in good.arguments)
    with pytest.raises(InvalidInput, match="amount"):
        world.run(Call(good.function, good.keys, larger, good.decode))


def what_is_held_stays_within_what_is_exact(world: World) -> None:
    """Without any cap, too: sums beyond 2^53 couldn't be counted."""
    world.warmed(caps=UNLIMITED, funding="arrears")
    world.held(MOST - 2)
    world.held(1)
    with pytest.raises(InvalidInput, match="amount"):
        world.hold(2)
    hold_id = world.held(1)
    assert world.release(hold_id) == a.Released(1)
    assert world.status().limits[-1].held_micros == MOST - 1


def an_extension_reserves_the_difference_once(world: World) -> None:
    """Up to the cap; a repeated or smaller one changes nothing; a refused one leaves the hold."""
    world.warmed()
    hold_id = world.held(10)
    for micros, held in ((20, 20), (20, 20), (15, 20), (29, 29), (30, 30)):
        answer = world.extend(hold_id, micros)
        assert isinstance(answer, a.Granted)
        assert answer.held_micros == held
    refused = world.extend(hold_id, 31)
    assert isinstance(refused, a.Refused)
    assert [(one.name, one.held_micros) for one in refused.reasons] == [("member_cap", 30)]
    assert [one.held_micros for one in world.holds()] == [30]
    assert world.release(hold_id) == a.Released(30)
    assert [limit.held_micros for limit in world.status().limits] == [0, 0, 0]


def a_cap_lowered_below_what_is_held_admits_nothing_more(world: World) -> None:
    """What is in flight stays reserved."""
    world.warmed()
    hold_id = world.held(20)
    world.apply(caps={"member": 10})
    assert world.refused_by(1) == ["member_cap"]
    assert isinstance(world.extend(hold_id, 21), a.Refused)
    assert isinstance(world.extend(hold_id, 20), a.Granted)


MONEY = (
    r19_the_lower_of_two_caps_binds_and_credits_open_neither,
    r19_each_limit_opens_up_to_its_cap_and_not_beyond,
    r19_a_member_s_own_cap_goes_before_the_default,
    r21_credits_left_open_no_cap_and_a_debt_is_paid_first,
    r22_in_arrears_there_are_no_credits_to_run_out,
    r24_a_refusal_names_every_reason_with_its_amounts,
    r24_members_come_and_go,
    a_further_level_is_data,
    caps_of_nine_billion_dollars_and_of_one_micro_dollar_are_exact,
    the_largest_cap_is_exact_and_a_larger_one_is_refused_by_name,
    what_is_held_stays_within_what_is_exact,
    an_extension_reserves_the_difference_once,
    a_cap_lowered_below_what_is_held_admits_nothing_more,
)
