"""A hold from before it is asked for until it has ended (ENFORCEMENT, "The life of a hold")."""

from __future__ import annotations

import gc

import pytest
from gate.world import LEASE_MICROS
from gate_sdk.conftest import DeskMaker
from gate_sdk.desk import Desk, booked
from support.forking import ended_well, in_fork

from tollkeeper.errors import InvalidInput, Misuse, SpoolFailed
from tollkeeper.gate import answers as a
from tollkeeper.gate.commands import Request
from tollkeeper.gate.hold_ids import parse_hold_id
from tollkeeper.gate.sdk import AsyncGate, GateSettings, Refused
from tollkeeper.metering.adapters.provider import ProviderUsage
from tollkeeper.metering.usage import InvalidUsage, Usage

HOUR_MICROS = 3_600_000_000


def usage(desk: Desk, **changes: object) -> Usage:
    """A usage of one token in."""
    given = {
        "organization": desk.world.name,
        "member": "ann",
        "surface": "web",
        "model": "m",
        "input_tokens": 1,
    }
    return Usage(**(given | changes))  # type: ignore[arg-type] # of the fields' own types


def test_the_first_hold_in_an_organization_is_noted_before_and_the_next_ones_not(
    desk: Desk,
) -> None:
    with desk.hold(), desk.hold():
        assert desk.line.names() == ["note", "hold", "hold"]


def test_a_hold_is_one_round_trip_and_its_release_another(desk: Desk) -> None:
    desk.hold().release()
    desk.line.calls.clear()
    desk.hold().release()
    assert [call.function for call in desk.line.calls] == ["hold", "release"]
    assert booked(desk) == {}


@pytest.mark.parametrize("ahead_hours", [-5, 0, 5])
def test_ids_are_issued_by_redis_clock_whatever_the_local_one_says(
    make_desk: DeskMaker, ahead_hours: int
) -> None:
    desk = make_desk()
    desk.local_ahead_micros = ahead_hours * HOUR_MICROS
    hold = desk.ready().hold()
    assert hold.hold_id is not None
    parts = parse_hold_id(hold.hold_id)
    assert parts.issued_millis == desk.world.now // 1_000
    assert (parts.organization, parts.emitter) == (desk.world.name, desk.me)
    hold.release()


def test_a_hold_is_in_the_book_before_redis_hears_of_it_and_leaves_when_its_usage_is_durable(
    desk: Desk,
) -> None:
    seen = {}
    desk.line.on_answer["hold"] = lambda: seen.update(booked(desk))
    hold = desk.hold()
    assert seen == {hold.hold_id: "asked"}
    assert booked(desk) == {hold.hold_id: "open"}
    desk.pass_by(5)
    [event_id] = hold.settle(usage(desk))
    assert booked(desk) == {}
    [event] = desk.usages()
    assert (event.event_id, event.hold_id) == (event_id, hold.hold_id)
    assert event.occurred_at == hold.granted_at == desk.world.now - 5_000_000
    assert desk.in_redis() == [hold.hold_id], "the fold ends it"


def test_an_answer_that_got_lost_is_asked_for_again_under_the_same_id(desk: Desk) -> None:
    desk.line.lose_after["hold"] = 1
    hold = desk.hold()
    assert desk.line.names() == ["note", "hold", "hold"]
    assert desk.in_redis() == [hold.hold_id]
    hold.release()


@pytest.mark.parametrize("lost", ["lose_before", "lose_after"])
def test_a_hold_whose_answer_never_came_is_released_by_the_next_round_that_can(
    desk: Desk, lost: str
) -> None:
    desk.hold().release()
    getattr(desk.line, lost)["hold"] = 2
    desk.line.lose_before["release"] = 1
    with pytest.raises(Refused) as refused:
        desk.hold()
    assert refused.value.is_unavailable
    assert len(desk.in_redis()) == (1 if lost == "lose_after" else 0)
    assert list(booked(desk).values()) == ["releasing"]
    desk.tick()
    assert list(booked(desk).values()) == ["releasing"], "the release got lost, too"
    [hold_id] = booked(desk)
    desk.tick()
    assert (desk.in_redis(), booked(desk)) == ([], {})
    late = desk.world.hold(10, hold_id=hold_id, emitter=desk.me)
    assert type(late).__name__ == "HoldIdRefused", "a hold that is still on its way comes too late"


def test_a_refusal_after_a_lost_answer_still_releases_the_id(desk: Desk) -> None:
    """What got lost may still be on its way, and be granted after the refusal."""
    desk.line.lose_before["hold"] = 1
    with pytest.raises(Refused, match="member ann"):
        desk.hold(max_cost_usd="0.000031")
    assert list(booked(desk).values()) == ["releasing"]
    desk.tick()
    assert booked(desk) == {}
    assert desk.line.names()[-1] == "release"


def test_a_refusal_leaves_nothing(desk: Desk) -> None:
    with pytest.raises(Refused):
        desk.hold(max_cost_usd="0.000031")
    assert (desk.in_redis(), booked(desk)) == ([], {})


@pytest.mark.parametrize(
    ("arrives_s", "is_taken"), [(1.999_999, True), (2.0, False), (2.000_001, False)]
)
def test_a_grant_counts_only_if_it_arrives_before_the_lease_ends(
    desk: Desk, arrives_s: float, is_taken: bool
) -> None:
    session = desk.gate.core.session
    kept = session.begin(desk.world.name, Request(10, "ann", "web"))
    assert kept is not None
    desk.monotonic_s = arrives_s
    grant = a.Granted(granted_at=5, held_micros=10, now=7, lease_until=7 + 2_000_000)
    primary = session.primary(desk.world.tag)
    assert session.take(kept, grant, primary=primary, epoch=1, sent_at=0.0) == is_taken
    assert kept.state == ("open" if is_taken else "asked")


@pytest.mark.parametrize(("epoch", "is_taken"), [(0, False), (1, True), (2, False)])
def test_a_grant_counts_only_in_the_epoch_that_it_was_asked_in(
    desk: Desk, epoch: int, is_taken: bool
) -> None:
    session = desk.gate.core.session
    kept = session.begin(desk.world.name, Request(10, "ann", "web"))
    assert kept is not None
    grant = a.Granted(granted_at=5, held_micros=10, now=7, lease_until=10**15)
    primary, sent_at = session.primary(desk.world.tag), desk.monotonic_s
    assert session.take(kept, grant, primary=primary, epoch=epoch, sent_at=sent_at) == is_taken


def test_a_grant_that_came_too_late_is_released_before_another_is_asked_for(
    make_desk: DeskMaker,
) -> None:
    desk = make_desk(GateSettings(warm_wait_s=2 * LEASE_MICROS / 1_000_000)).ready()
    desk.hold().release()
    desk.line.calls.clear()

    def come_late() -> None:
        desk.line.on_answer.clear()
        desk.monotonic_s += LEASE_MICROS / 1_000_000

    desk.line.on_answer["hold"] = come_late
    hold = desk.hold(max_cost_usd="0.00003")
    assert desk.line.names() == ["hold", "release", "hold"], "both at once wouldn't fit the cap"
    assert desk.gate.stats().late_grants == 1
    assert desk.in_redis() == [hold.hold_id]
    hold.release()


def test_a_release_that_could_not_be_answered_is_made_by_the_next_round(desk: Desk) -> None:
    hold = desk.hold()
    desk.line.is_cut = True
    hold.release()
    assert booked(desk) == {hold.hold_id: "releasing"}
    desk.tick()
    desk.line.is_cut = False
    desk.tick()
    assert (desk.in_redis(), booked(desk)) == ([], {})


def test_usage_that_the_spool_did_not_take_is_kept_and_handed_in_again(desk: Desk) -> None:
    hold = desk.hold()
    desk.disk_fails = True
    with pytest.raises(SpoolFailed):
        hold.settle(usage(desk))
    assert booked(desk) == {hold.hold_id: "settling"}
    desk.tick()
    assert booked(desk) == {hold.hold_id: "settling"}
    desk.disk_fails = False
    desk.tick()
    assert booked(desk) == {}
    assert {event.hold_id for event in desk.usages()} == {hold.hold_id}
    assert len({event.event_id for event in desk.usages()}) == 1, "the same usage, whenever"


def test_usage_that_can_t_be_recorded_leaves_the_hold_as_it_was(desk: Desk) -> None:
    hold = desk.hold()
    with pytest.raises(InvalidUsage, match="input_tokens"):
        hold.settle(usage(desk, input_tokens=-1))
    assert booked(desk) == {hold.hold_id: "open"}
    with pytest.raises(InvalidInput, match="organization"):
        hold.settle(usage(desk, organization="other"))
    hold.settle(usage(desk))
    assert booked(desk) == {}


def test_parts_of_one_call_end_its_hold_with_the_last_of_them(desk: Desk) -> None:
    """Folded in order, so that the money is free only when all of it is counted."""
    hold = desk.hold()
    further = ProviderUsage(model="m", input_tokens=2)
    ids = hold.settle(ProviderUsage(model="m", input_tokens=1, further=(further, further)))
    assert ids == [ids[0], f"{ids[0]}.1", f"{ids[0]}.2"]
    events = desk.usages()
    assert [event.event_id for event in events] == ids
    assert [event.hold_id for event in events] == [None, None, hold.hold_id]
    assert {event.occurred_at for event in events} == {hold.granted_at}


def test_a_hold_is_ended_once(desk: Desk) -> None:
    hold = desk.hold()
    hold.release()
    for end in (hold.release, lambda: hold.settle(usage(desk))):
        with pytest.raises(Misuse, match="before"):
            end()
    assert desk.usages() == []


def test_a_hold_that_its_caller_lost_is_released_and_counted(desk: Desk) -> None:
    desk.hold()
    gc.collect()
    assert desk.in_redis() != []
    desk.tick()
    assert (desk.in_redis(), booked(desk)) == ([], {})
    assert desk.gate.stats().abandoned == 1


def test_extending_reserves_a_total_and_a_refusal_leaves_it(desk: Desk) -> None:
    hold = desk.hold()
    hold.extend(max_cost_usd="0.00002")
    assert (hold.held_micros, desk.world.holds()[0].held_micros) == (20, 20)
    hold.extend(max_cost_usd="0.00002")
    with pytest.raises(Refused, match="member ann") as refused:
        hold.extend(max_cost_usd="0.000031")
    assert refused.value.reasons[0].requested_nanos == 11_000
    assert (hold.held_micros, desk.world.holds()[0].held_micros) == (20, 20)
    desk.line.lose_after["extend"] = 1
    hold.extend(max_cost_usd="0.00003")
    assert (hold.held_micros, desk.world.holds()[0].held_micros) == (30, 30)
    hold.release()


def test_r24_an_extension_of_the_period_before_is_refused_without_a_time_when_that_lifts(
    desk: Desk,
) -> None:
    hold = desk.hold()
    with pytest.raises(Refused) as before:
        hold.extend(max_cost_usd="0.000031")
    end = desk.world.period.end_micros
    assert before.value.reasons[0].lifts_at == end
    desk.pass_by((end - desk.world.now) / 1_000_000 + 60)
    desk.tick()
    with pytest.raises(Refused) as after:
        hold.extend(max_cost_usd="0.000031")
    (reason,) = after.value.reasons
    assert (reason.reason, reason.lifts_at) == ("member_cap", None)
    assert desk.hold(member="bob").granted_at > end, "the new period has its own room"
    hold.release()


def test_an_extension_nobody_answers_is_unavailable_and_the_hold_goes_on(desk: Desk) -> None:
    hold = desk.hold()
    desk.line.lose_after["extend"] = 2
    with pytest.raises(Refused) as refused:
        hold.extend(max_cost_usd="0.00002")
    assert refused.value.is_unavailable
    assert "start Redis or set TOLLKEEPER_REDIS" in refused.value.reasons[0].next_step
    assert booked(desk) == {hold.hold_id: "open"}
    hold.settle(usage(desk))


def test_more_holds_than_are_allowed_are_unavailable(make_desk: DeskMaker) -> None:
    desk = make_desk(GateSettings(max_open_holds=2)).ready()
    first, second = desk.hold(), desk.hold()
    with pytest.raises(Refused, match="2 holds of this process are open") as refused:
        desk.hold()
    assert "GateSettings.max_open_holds" in refused.value.reasons[0].next_step
    first.release()
    desk.hold().release()
    second.release()


def test_closing_releases_what_is_open_and_retires_the_emitter(desk: Desk) -> None:
    hold = desk.hold()
    assert desk.gate.close()
    assert desk.in_redis() == []
    assert [type(one).__name__ for one in desk.logged()][-1] == "EmitterRetired"
    with pytest.raises(Misuse, match="closed"):
        desk.hold()
    hold._is_ended = True  # it was released by the gate


def test_an_organization_whose_id_leaves_no_room_for_a_hold_s_is_refused_by_name(
    desk: Desk,
) -> None:
    with pytest.raises(InvalidInput, match="hold_id"):
        desk.hold(organization="o" * 100)
    assert booked(desk) == {}


def test_an_async_gate_on_functions_of_one_s_own_needs_both_kinds(desk: Desk) -> None:
    with pytest.raises(TypeError, match="async_functions"):
        AsyncGate(desk.emitter, desk.line)


def test_a_child_leaves_its_parent_s_holds_alone(desk: Desk) -> None:
    hold = desk.hold()

    def in_child() -> None:
        assert booked(desk) == {}
        desk.gate.core.session.abandoned.append((hold._kept, None))
        desk.gate.core.tick()
        assert desk.in_redis() == [hold.hold_id]

    assert ended_well(in_fork(in_child))
    assert booked(desk) == {hold.hold_id: "open"}
    hold.settle(usage(desk))
