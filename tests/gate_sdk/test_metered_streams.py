"""Streams of metered calls: whole, cut, broken, and in slices; in threads and in asyncio."""

from __future__ import annotations

import pytest
from gate_sdk.answers import (
    CALL,
    END,
    MESSAGE,
    MODEL,
    RESPONSE,
    START,
    Status,
    Stream,
    asynchronously,
    chunk,
    only,
    text,
)

from tollkeeper.errors import InvalidInput, Misuse
from tollkeeper.events.gate import CallAdmitted
from tollkeeper.gate.sdk import Refused, metered
from tollkeeper.testing import AsyncFakeGate, FakeGate, FakeWorld

STREAMS = [
    pytest.param([START, text("hello"), END], (900, 50, "reported"), id="anthropic, whole"),
    pytest.param([START, text("x" * 60)], (900, 20, "estimated"), id="anthropic, cut"),
    pytest.param([START, text("x" * 61)], (900, 21, "estimated"), id="anthropic, cut a byte later"),
    pytest.param([START, text("€" * 20)], (900, 20, "estimated"), id="bytes, not characters"),
    pytest.param(
        [START, *[text("x")] * 5], (900, 5, "estimated"), id="each piece is a token at least"
    ),
    pytest.param(
        [START, text("x" * 900)], (900, 100, "estimated"), id="never above what was allowed"
    ),
    pytest.param([START], (900, 1, "estimated"), id="anthropic, nothing but its start"),
    pytest.param([{"type": "ping"}], (1_000, 0, "estimated"), id="anthropic, before its start"),
    pytest.param(
        [chunk("hello"), chunk(None, usage={"prompt_tokens": 900, "completion_tokens": 50})],
        (900, 50, "reported"),
        id="chat, whole",
    ),
    pytest.param([chunk("x" * 60)], (1_000, 20, "estimated"), id="chat, cut or without its usage"),
    pytest.param(
        [{"type": "response.output_text.delta", "delta": "x" * 60}],
        (1_000, 20, "estimated"),
        id="response, cut",
    ),
    pytest.param(
        [{"type": "response.completed", "response": RESPONSE}],
        (900, 50, "reported"),
        id="response, whole",
    ),
]


@pytest.mark.parametrize(
    "ending", [None, KeyError("ours"), ConnectionResetError(), Status(500)], ids=repr
)
@pytest.mark.parametrize(("events", "charged"), STREAMS)
def test_a_stream_is_charged_from_what_was_seen(
    events: list[object], charged: tuple[int, int, str], ending: Exception | None
) -> None:
    """Also when it breaks, or when the provider reports an error in its midst."""
    gate = FakeGate()
    stream = Stream(*events, *([ending] if ending else []))
    try:
        with metered(gate, **CALL) as call:
            assert list(call.stream(stream)) == events
    except (KeyError, ConnectionResetError, Status) as error:
        assert error is ending
    usage = only(gate)
    assert (usage.input_tokens, usage.output_tokens, usage.usage_source) == charged
    assert stream.is_closed == (charged[2] == "estimated")


def test_a_stream_that_never_began_is_released_when_no_connection_was_made() -> None:
    gate = FakeGate()
    with pytest.raises(ConnectionRefusedError), metered(gate, **CALL) as call:
        list(call.stream(Stream(ConnectionRefusedError())))
    assert (gate.usages, gate.reserved_micros) == ([], 0)


def test_a_reader_who_stops_reading_cuts_the_stream() -> None:
    gate, stream = FakeGate(), Stream(START, text("x" * 30), text("x" * 30), END)
    with metered(gate, **CALL) as call:
        for event in call.stream(stream):
            if event != START:
                break
    usage = only(gate)
    assert (usage.output_tokens, usage.usage_source) == (10, "estimated")
    assert stream.is_closed


def test_a_stream_that_outlives_its_block_is_not_read_on() -> None:
    """Its usage would be charged to nobody."""
    gate, stream = FakeGate(), Stream(START, text("x" * 30), text("x" * 30), END)
    with metered(gate, **CALL) as call:
        events = iter(call.stream(stream))
        next(events), next(events)
    assert only(gate).output_tokens == 10
    with pytest.raises(Misuse, match="block has ended"):
        next(events)


def test_a_stream_whose_model_can_t_be_recorded_is_charged_as_one_of_which_nobody_knows() -> None:
    gate = FakeGate()
    start = {
        "type": "message_start",
        "message": {"model": "a model", "usage": {"input_tokens": 1, "output_tokens": 1}},
    }
    with metered(gate, **CALL) as call:
        list(call.stream(Stream(start, END)))
    usage = only(gate)
    assert (usage.model, usage.input_tokens, usage.usage_source) == (MODEL, 1_000, "estimated")


def test_a_slice_that_is_refused_under_observe_cuts_nothing() -> None:
    world = FakeWorld(member_cap_usd="0.00217", policy="observe")
    gate = FakeGate(world)
    events = [START, *[text("abc")] * 30, END]
    with metered(gate, slice_tokens=8, **CALL) as call:
        assert list(call.stream(Stream(*events))) == events
        assert call.hold.policy == "observe"
    assert only(gate).usage_source == "reported"
    told = [one for one in gate.facts if isinstance(one, CallAdmitted)]
    assert [(one.cause, one.amount_micros) for one in told] == [("member_cap", 80)]
    assert [type(one).__name__ for one in gate.facts].count("LimitReached") == 1


def test_a_stream_of_unknown_events_is_refused_by_name() -> None:
    gate = FakeGate()
    with (
        pytest.raises(InvalidInput, match="must give Anthropic's events"),
        metered(gate, **CALL) as call,
    ):
        list(call.stream(Stream(17)))
    assert only(gate).usage_source == "estimated"


def test_a_sliced_hold_pays_for_more_before_it_is_used_up() -> None:
    gate = FakeGate()
    held = []
    events = [START, *[text("abc")] * 20, END]
    with metered(gate, slice_tokens=8, **CALL) as call:
        assert call.hold.held_micros == 2_000 + 8 * 10
        for _ in call.stream(Stream(*events)):
            held.append((call.hold.held_micros - 2_000) // 10)
    assert held == [
        8,
        8,
        8,
        8,
        8,
        16,
        16,
        16,
        16,
        16,
        16,
        16,
        16,
        24,
        24,
        24,
        24,
        24,
        24,
        24,
        24,
        32,
    ]
    assert only(gate).usage_source == "reported"


def test_a_sliced_hold_that_isn_t_prolonged_cuts_the_stream_when_what_is_paid_is_used_up() -> None:
    gate = FakeGate(member_cap_usd="0.00217")  # the input and 17 tokens of output
    stream, seen = Stream(START, *[text("abc")] * 30, END), 0
    with (
        pytest.raises(Refused, match="cap of member ann"),
        metered(gate, slice_tokens=8, **CALL) as call,
    ):
        for _ in call.stream(stream):
            seen += 1
    assert seen == 1 + 16
    usage = only(gate)
    assert (usage.output_tokens, usage.usage_source) == (16, "estimated")
    assert stream.is_closed
    assert gate.world.functions.spent["member/acme/ann"] <= 2_170


def test_a_sliced_hold_never_asks_for_more_than_the_call_may_write() -> None:
    gate = FakeGate()
    with metered(gate, slice_tokens=60, **CALL) as call:
        for _ in call.stream(Stream(START, *[text("abc")] * 99, END)):
            assert call.hold.held_micros <= 2_000 + 100 * 10
        assert call.hold.held_micros == 2_000 + 100 * 10
    with metered(gate, slice_tokens=500, **CALL) as call:
        assert call.hold.held_micros == 2_000 + 100 * 10
        call.response(MESSAGE)


@pytest.mark.parametrize("slice_tokens", [0, -1])
def test_slices_that_can_t_be_are_refused_by_name(slice_tokens: int) -> None:
    with pytest.raises(InvalidInput, match="slice_tokens"):
        metered(FakeGate(), slice_tokens=slice_tokens, **CALL)
    with pytest.raises(InvalidInput, match="needs max_output_tokens"):
        metered(FakeGate(), slice_tokens=5, **CALL | {"max_cost_usd": "1"})


@pytest.mark.parametrize(("events", "charged"), STREAMS)
def test_in_asyncio_a_stream_is_charged_from_what_was_seen(
    events: list[object], charged: tuple[int, int, str]
) -> None:
    stream = Stream(*events)

    async def tell(gate: AsyncFakeGate) -> None:
        async with metered(gate, **CALL) as call:
            assert [event async for event in call.stream(stream)] == events

    usage = only(asynchronously(tell))
    assert (usage.input_tokens, usage.output_tokens, usage.usage_source) == charged
    assert stream.is_closed == (charged[2] == "estimated")


def test_in_asyncio_a_sliced_hold_is_cut_when_what_is_paid_is_used_up() -> None:
    async def tell(gate: AsyncFakeGate) -> None:
        with pytest.raises(Refused):
            async with metered(gate, slice_tokens=8, **CALL) as call:
                async for _ in call.stream(Stream(START, *[text("abc")] * 30, END)):
                    continue

    assert only(asynchronously(tell, member_cap_usd="0.00217")).output_tokens == 16


@pytest.mark.parametrize(
    "odd",
    [chunk("abc\ud83d"), {"type": ["a"], "choices": []}, {"type": {}, "choices": []}],
    ids=["half_an_emoji", "type_list", "type_object"],
)
def test_an_odd_event_doesn_t_break_the_caller_s_stream(odd: dict[str, object]) -> None:
    gate = FakeGate()
    with metered(gate, **CALL) as call:
        assert list(call.stream(Stream(odd, chunk("abc")))) == [odd, chunk("abc")]
    assert only(gate).usage_source == "estimated"
