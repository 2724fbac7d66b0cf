"""A call that somebody else reads, and that may be left midway: settled by what was seen, by a tick."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tollkeeper.events.prices import PriceRow
from tollkeeper.gate.sdk.asks import Ask, ask
from tollkeeper.gate.sdk.metered import MeteredCall
from tollkeeper.gate.sdk.refused import Refused
from tollkeeper.rating.card import RateCard, Unpriced
from tollkeeper.rating.worst_case import Expected, WorstCases
from tollkeeper.testing import FakeGate, FakeWorld
from tollkeeper.testing.fake_gate import NOON

MODEL = "claude-sonnet-5"


def asked(**more: Any) -> Ask:
    fields = {"input_tokens": 1_000_000, "max_output_tokens": 100_000, "model": MODEL, **more}
    return ask(organization="acme", member="ann", surface="web", **fields)


LIKELY = Expected(model=MODEL, input_tokens=77, max_output_tokens=100_000)
STARTED: dict[str, Any] = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": MODEL, "usage": {"input_tokens": 50, "output_tokens": 1}},
}
DELTA = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x" * 300}}


def begun(gate: FakeGate, **more: Any) -> MeteredCall:
    call = MeteredCall(gate, asked(**more), None, LIKELY)
    call.__enter__()
    return call


def test_what_was_seen_of_a_call_that_is_left_is_charged_by_the_next_tick() -> None:
    gate = FakeGate()
    call = begun(gate)
    seen = call.watch()
    seen.feed(STARTED)
    seen.feed(DELTA)
    call.abandon()
    assert gate.world.spool.usages == [] and gate.reserved_micros > 0
    gate.core.tick()
    [usage] = gate.usages
    assert (usage.input_tokens, usage.output_tokens, usage.usage_source) == (50, 100, "estimated")
    assert gate.reserved_micros == 0 and gate.stats().abandoned == 0


def test_of_a_call_that_is_left_before_anything_came_the_likely_input_is_charged() -> None:
    gate = FakeGate()
    call = begun(gate)
    call.watch()
    call.abandon()
    [usage] = gate.usages
    assert (usage.input_tokens, usage.output_tokens, usage.usage_source) == (77, 0, "estimated")
    assert gate.reserved_micros == 0


def test_a_call_that_was_not_begun_is_released_when_it_is_left() -> None:
    gate = FakeGate()
    call = begun(gate)
    call.release()
    call.abandon()
    assert gate.usages == [] and gate.reserved_micros == 0


def test_usage_that_cannot_be_recorded_is_replaced_by_the_likely_one() -> None:
    gate = FakeGate()
    call = begun(gate)
    seen = call.watch()
    seen.feed({**STARTED, "message": {**STARTED["message"], "model": "no model\n"}})
    call.abandon()
    assert [usage.input_tokens for usage in gate.usages] == [77]
    assert gate.reserved_micros == 0


def test_closing_the_gate_charges_what_was_left() -> None:
    gate = FakeGate()
    call = begun(gate)
    call.watch().feed(STARTED)
    call.abandon()
    assert gate.close()
    assert [usage.input_tokens for usage in gate.world.spool.usages] == [50]


def test_a_call_that_was_ended_is_not_left_as_well() -> None:
    gate = FakeGate()
    call = begun(gate)
    call.watch().feed(STARTED)
    call.__exit__(None, None, None)
    call.abandon()
    del call
    assert len(gate.usages) == 1 and gate.stats().abandoned == 0


def test_further_models_are_held_for_as_well() -> None:
    gate = FakeGate()
    further = Expected(model="claude-opus-5", input_tokens=1_000_000, max_output_tokens=100_000)
    begun(gate).__exit__(None, None, None)
    for more, micros in (((), 2_000_000 + 1_000_000), ((further,), 3_000_000 + 7_500_000)):
        call = MeteredCall(gate, msgspec.structs.replace(asked(), further=more), None, LIKELY)
        with call:
            assert call.hold.held_micros == micros
    unpriced = msgspec.structs.replace(further, model="unknown")
    with pytest.raises(Refused, match="no price for unknown"):
        MeteredCall(gate, msgspec.structs.replace(asked(), further=(unpriced,)), None).__enter__()


def row(**prices: Any) -> PriceRow:
    return PriceRow(model="m", input_picos=2_000, output_picos=4_000, **prices)


@pytest.mark.parametrize(
    ("prices", "nanos"),
    [
        ({}, 2_000),
        ({"cache_write_5m_picos": 3_000}, 3_000),
        ({"cache_write_5m_picos": 3_000, "cache_write_1h_picos": 5_000}, 5_000),
        ({"cache_write_5m_picos": 1_000}, 2_000),
    ],
)
def test_a_provider_that_writes_its_cache_unasked_is_held_for_where_that_has_a_price(
    prices: dict[str, int], nanos: int
) -> None:
    card = WorstCases(RateCard(FakeWorld(prices=[row(**prices)]).card.publications))
    call = Expected(model="m", input_tokens=1_000, max_output_tokens=0, cache_write="any")
    assert card.worst_case(call, NOON) == nanos
    named = msgspec.structs.replace(call, cache_write="1h")
    is_priced = "cache_write_1h_picos" in prices
    assert isinstance(card.worst_case(named, NOON), Unpriced) is not is_priced
