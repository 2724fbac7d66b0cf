"""Whatever is asked of an organization, by whom and when: its history stays one that can be folded."""

from __future__ import annotations

import re
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from tollkeeper.events.codec import decode, encode
from tollkeeper.events.organization import (
    CapScope,
    CapSetting,
    OrganizationEvent,
    OrganizationFact,
    OwnershipTransferred,
    Role,
)
from tollkeeper.events.refusal import Refusal
from tollkeeper.money.amounts import MAX_CAP_NANOS, MAX_NANOS
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    Command,
    OpenOrganization,
    RemoveMember,
    SetCap,
    SetRole,
    TransferOwnership,
    VoidCredits,
)
from tollkeeper.organizations.decide import Terms, decide
from tollkeeper.organizations.state import OrganizationState, evolve

NOW = 1_793_880_000_000_000
PEOPLE = ("pia", "otto", "ada", "max", "operator")
LIFTERS = {*get_args(Role), "operator"}

acme = st.just("acme")
people = st.sampled_from(PEOPLE)
roles = st.sampled_from(get_args(Role))
amounts = st.sampled_from([-1, 0, 1, 10**9, MAX_CAP_NANOS, MAX_CAP_NANOS + 1])
caps = st.builds(
    lambda scope, setting, member, nanos: SetCap(
        organization="acme",
        scope=scope,
        setting=setting,
        member=member if scope == "member" else None,
        cap_nanos=nanos if setting == "capped" else None,
    ),
    st.sampled_from(get_args(CapScope)),
    st.sampled_from(get_args(CapSetting)),
    people,
    amounts,
)
commands = st.one_of(
    st.builds(OpenOrganization, organization=acme, plan=st.just("seat_based_legacy"), owner=people),
    st.builds(AddMember, organization=acme, member=people, role=roles),
    st.builds(RemoveMember, organization=acme, member=people),
    st.builds(SetRole, organization=acme, member=people, role=roles),
    st.builds(TransferOwnership, organization=acme, member=people),
    st.builds(BuyCredits, organization=acme, credit_nanos=amounts),
    st.builds(
        VoidCredits,
        organization=acme,
        purchase_id=st.integers(2, 6).map(lambda version: f"purchase-{version}"),
        reason=st.just("wrong"),
    ),
    caps,
)
# The clock may step back, and history may be brought in from before or after the last event.
terms = st.builds(
    Terms,
    actor=people,
    command_id=st.just("c"),
    now=st.integers(NOW - 5, NOW + 5),
    occurred_at=st.none() | st.integers(NOW - 5, NOW + 5),
    reference=st.none() | st.just("invoice 7"),
)
OPENED = decide(
    OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="pia"),
    None,
    Terms(actor="operator", command_id="open", now=NOW),
)


def folded(events: list[OrganizationEvent]) -> OrganizationState:
    state = None
    for event in events:
        state = evolve(state, event)
    assert state is not None
    return state


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(commands, terms), max_size=25))
def test_r14_any_sequence_leaves_one_primary_owner_and_a_history_without_gaps(
    sequence: list[tuple[Command, Terms]],
) -> None:
    assert not isinstance(OPENED, Refusal)
    events: list[OrganizationEvent] = list(OPENED)
    state = folded(events)
    for command, asked in sequence:
        before = repr(state)
        outcome = decide(command, state, asked)
        assert outcome == decide(command, state, asked)
        assert before == repr(state)
        if isinstance(outcome, Refusal):
            check_refusal(outcome)
            continue
        for event in outcome:
            check_event(event, state, asked)
            state = evolve(state, event)
            events.append(event)
        check_state(state)
    assert [event.version for event in events] == list(range(1, len(events) + 1))
    times = [event.occurred_at for event in events]
    assert times == sorted(times)
    assert folded([as_read_again(event) for event in events]) == state


def check_event(event: OrganizationEvent, before: OrganizationState, asked: Terms) -> None:
    assert event.actor == asked.actor
    assert event.actor == "operator" or event.actor in before.members
    assert asked.occurred_at is None or event.occurred_at == asked.occurred_at
    if isinstance(event, OwnershipTransferred):
        assert asked.actor in ("operator", before.primary_owner)


def check_state(state: OrganizationState) -> None:
    owners = [name for name, role in state.members.items() if role == "primary_owner"]
    assert owners == [state.primary_owner]
    assert "operator" not in state.members
    assert 0 <= state.purchased_nanos <= MAX_NANOS
    for cap in state.caps.values():
        assert (cap.setting == "capped") == (cap.cap_nanos is not None)


def check_refusal(refusal: Refusal) -> None:
    """RULES R24: why, by which rule, who can lift it, and what to do next."""
    assert refusal.reasons
    for reason in refusal.reasons:
        assert re.fullmatch(r"R\d+", reason.rule)
        assert reason.reason
        assert reason.message
        assert reason.next_step
        assert LIFTERS.issuperset(reason.who_can_lift)


def as_read_again(event: OrganizationEvent) -> OrganizationEvent:
    """No decision may lead to an event that the log refuses or gives back changed."""
    again = decode(encode(event))
    assert again == event
    assert isinstance(again, OrganizationFact)
    return again


def decided_at(occurred_at: int | None, *, now: int, actor: str = "operator") -> object:
    assert not isinstance(OPENED, Refusal)
    outcome = decide(
        AddMember(organization="acme", member="max"),
        folded(list(OPENED)),
        Terms(actor=actor, command_id="c", now=now, occurred_at=occurred_at),
    )
    return outcome.reasons[0].message if isinstance(outcome, Refusal) else outcome[0].occurred_at


def test_r2_history_lies_between_the_last_event_and_now() -> None:
    assert decided_at(NOW, now=NOW + 2) == NOW
    assert decided_at(NOW + 1, now=NOW + 2) == NOW + 1
    assert decided_at(NOW + 2, now=NOW + 2) == NOW + 2
    assert decided_at(NOW + 3, now=NOW + 2) == "--at lies in the future"
    assert "before the organization's last event" in str(decided_at(NOW - 1, now=NOW + 2))
    assert "only operator may say when it happened" in str(decided_at(NOW, now=NOW, actor="pia"))


def test_time_does_not_run_backwards_when_the_clock_does() -> None:
    assert decided_at(None, now=NOW - 1) == NOW


def test_r2_an_organization_is_opened_in_the_past_by_the_operator() -> None:
    long_ago = NOW - 10**12
    command = OpenOrganization(organization="old", plan="enterprise_self_serve", owner="pia")
    asked = Terms(actor="operator", command_id="c", now=NOW, occurred_at=long_ago)
    outcome = decide(command, None, asked)
    assert not isinstance(outcome, Refusal)
    assert outcome[0].occurred_at == long_ago
