"""The gate that ships for tests answers as the real one does, and shows what was done with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gate_sdk.answers import CALL, MESSAGE
from gate_sdk.desk import MODEL, Desk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tollkeeper.errors import GateUnavailable, InvalidEvent
from tollkeeper.events.gate import LimitReached
from tollkeeper.gate import encoding
from tollkeeper.gate.sdk import Gate, Refused, metered
from tollkeeper.gate.sdk.hold import Hold
from tollkeeper.metering.usage import Usage
from tollkeeper.testing import AsyncFakeGate, FakeGate, FakeWorld

STEPS = st.tuples(
    st.sampled_from(["hold", "hold", "hold", "extend", "release"]),
    st.sampled_from(["ann", "bob", "zoe"]),
    st.integers(1, 35),
)


def tell(gate: Gate, organization: str, steps: list[tuple[str, str, int]]) -> list[Any]:
    """What each step is answered."""
    holds: list[Hold] = []
    told: list[Any] = []
    for what, member, micros in steps:
        cost = f"0.{micros:06d}"
        try:
            if what == "hold":
                call: dict[str, Any] = {"organization": organization, "member": member}
                call |= {"surface": "web", "model": "m", "max_cost_usd": cost}
                holds.append(gate.hold(**call))
                told.append(holds[-1].held_micros)
            elif holds and what == "extend":
                holds[0].extend(max_cost_usd=cost)
                told.append(holds[0].held_micros)
            elif holds:
                holds.pop().release()
        except Refused as refused:
            told.append(
                [
                    (one.reason, one.cap_nanos, one.spent_nanos, one.held_nanos)
                    for one in refused.reasons
                ]
            )
    for hold in holds:
        hold.release()
    return told


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=14))
def test_it_answers_as_the_real_one(desk: Desk, steps: list[tuple[str, str, int]]) -> None:
    fake = FakeGate(
        FakeWorld(
            cap_usd="0.00005",
            member_cap_usd="0.00003",
            credits_usd="0.0001",
            members=["ann", "bob"],
            prices=[MODEL],
        )
    )
    assert tell(desk.gate, desk.world.name, steps) == tell(fake, desk.world.name, steps)
    assert fake.reserved_micros == 0


def test_without_limits_everybody_may_spend_anything() -> None:
    gate = FakeGate()
    with metered(gate, **CALL | {"max_cost_usd": "1000000000"}) as call:
        call.response(MESSAGE)
    assert gate.usages[0].output_tokens == 50


def test_usage_counts_at_once_by_list_prices() -> None:
    gate = FakeGate(member_cap_usd="0.003")
    with metered(gate, **CALL) as call:
        call.response(MESSAGE)  # 900 tokens in at 2, 50 out at 10 USD a million
    with pytest.raises(Refused) as refused:
        gate.hold(**CALL)
    assert refused.value.reasons[0].spent_nanos == 2_300_000
    [told] = gate.facts
    assert isinstance(told, LimitReached)


def test_a_new_period_lifts_caps_and_not_credits() -> None:
    """What a call of the last period costs counts in that one, also when it ends in this one."""
    gate = FakeGate(cap_usd="0.003", member_cap_usd="0.003", credits_usd="0.0075")
    with metered(gate, **CALL) as call:
        call.response(MESSAGE)
        with pytest.raises(Refused, match="cap of member"):
            gate.hold(**CALL)
        gate.world.wait(20 * 86_400)
        gate.core.tick()
        gate.hold(**CALL).release()
    with metered(gate, **CALL) as call:
        call.response(MESSAGE)
    gate.world.wait(31 * 86_400)
    gate.core.tick()
    with pytest.raises(Refused) as refused:
        gate.hold(**CALL)
    assert [(one.reason, one.spent_nanos) for one in refused.value.reasons] == [
        ("credits", 4_600_000)
    ]


def test_redis_can_be_away_and_the_spool_full() -> None:
    gate = FakeGate(FakeWorld(policy="open", ceiling_usd="0.003"))
    gate.world.functions.is_away = True
    gate.world.wait(3)
    gate.core.tick()
    with metered(gate, **CALL) as call:
        assert call.hold.policy == "open"
        call.response(MESSAGE)
    with pytest.raises(Refused):
        gate.hold(**CALL)
    with pytest.raises(GateUnavailable):
        gate.world.functions.run(encoding.read_epoch())
    gate.world.functions.is_away = False
    gate.world.functions.is_recovering = True
    gate.core.tick()
    with pytest.raises(Refused, match="recovering"):
        gate.hold(**CALL)


def test_what_the_log_would_refuse_it_refuses_too() -> None:
    gate = FakeGate()
    hold = gate.hold(**CALL)
    with pytest.raises(InvalidEvent, match="surface"):
        hold.settle(Usage(organization="acme", member="ann", surface="fax", model="m"))
    hold.release()


def test_it_closes_like_the_real_one() -> None:
    gate = FakeGate()
    hold = gate.hold(**CALL)
    assert gate.close()
    assert gate.world.spool.is_closed
    assert gate.reserved_micros == 0
    assert not hold.is_ended

    async def main() -> None:
        async with AsyncFakeGate() as tasks:
            await tasks.hold(**CALL)
            assert await tasks.wait_until_ready(1)
        assert tasks.reserved_micros == 0

    asyncio.run(main())
