"""`with metered(...)`: what is held, charged, estimated and released, in threads and in asyncio."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tollkeeper.errors import InvalidInput, Misuse, SpoolFull
from tollkeeper.gate.sdk import GateSettings, Refused, metered
from tollkeeper.gate.sdk.settings import Unanswered
from tollkeeper.metering.adapters.provider import ProviderUsage
from tollkeeper.metering.usage import Usage
from tollkeeper.testing import AsyncFakeGate, FakeGate, FakeWorld

MODEL = "claude-sonnet-5"
CALL: dict[str, Any] = {
    "organization": "acme",
    "member": "ann",
    "surface": "web",
    "model": MODEL,
    "input_tokens": 1_000,
    "max_output_tokens": 100,
}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "model": MODEL,
    "usage": {"input_tokens": 900, "output_tokens": 50},
}
COMPLETION = {
    "object": "chat.completion",
    "id": "cmpl-1",
    "model": MODEL,
    "usage": {"prompt_tokens": 900, "completion_tokens": 50},
}
RESPONSE = {
    "object": "response",
    "id": "resp_1",
    "model": MODEL,
    "usage": {"input_tokens": 900, "output_tokens": 50},
}
START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": MODEL, "usage": {"input_tokens": 900, "output_tokens": 1}},
}
END = {"type": "message_delta", "delta": {"stop_reason": "end"}, "usage": {"output_tokens": 50}}


def text(words: str) -> dict[str, Any]:
    """A piece of Anthropic's stream."""
    return {"type": "content_block_delta", "delta": {"type": "text_delta", "text": words}}


def chunk(words: str | None, **more: Any) -> dict[str, Any]:
    """A piece of a chat completion's stream."""
    choices = [] if words is None else [{"delta": {"content": words}}]
    return {
        "object": "chat.completion.chunk",
        "id": "c-1",
        "model": MODEL,
        "choices": choices,
    } | more


class Status(Exception):
    """As the providers' clients raise it."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


class ReadTimeout(Exception):
    """As httpx raises it."""


class ConnectTimeout(Exception):
    """As httpx raises it."""


class APIConnectionError(Exception):
    """As the providers' clients wrap what their HTTP client raised."""


class Stream:
    """Events, and whether somebody closed it before its end."""

    def __init__(self, *events: object) -> None:
        self.events = events
        self.is_closed = False

    def __iter__(self) -> Iterator[object]:
        for event in self.events:
            if isinstance(event, BaseException):
                raise event
            yield event

    async def __aiter__(self) -> AsyncIterator[object]:
        for event in self:
            await asyncio.sleep(0)
            yield event

    def close(self) -> None:
        self.is_closed = True


def only(gate: FakeGate | AsyncFakeGate) -> Usage:
    """The one usage that was recorded, under the one hold; and nothing is held any more."""
    [usage] = gate.usages
    assert gate.reserved_micros == 0
    assert len(gate.core.session.book) == 0
    return usage


@pytest.mark.parametrize(
    "answer", [MESSAGE, COMPLETION, RESPONSE], ids=["message", "chat", "response"]
)
def test_an_answer_is_charged_as_its_provider_counted_it(answer: dict[str, Any]) -> None:
    gate = FakeGate()
    with metered(gate, **CALL) as call:
        hold_id, held = call.hold.hold_id, call.hold.held_micros
        call.response(answer)
        assert gate.usages == [], "settled at the end of the block"
    assert held == 1_000 * 2 + 100 * 10, "input at 2, output at 10 USD a million"
    usage = only(gate)
    assert (usage.input_tokens, usage.output_tokens) == (900, 50)
    assert (usage.usage_source, usage.hold_id) == ("reported", hold_id)
    assert usage.request_id == answer["id"]


def test_several_answers_in_one_block_add_up_and_end_the_hold_with_the_last() -> None:
    gate = FakeGate()
    with metered(gate, **CALL) as call:
        call.response(MESSAGE)
        call.response(MESSAGE)
        call.usage(ProviderUsage(model=MODEL, input_tokens=7))
    assert [usage.input_tokens for usage in gate.usages] == [900, 900, 7]
    assert [usage.hold_id is not None for usage in gate.usages] == [False, False, True]
    assert gate.reserved_micros == 0


def test_an_error_after_the_answer_changes_nothing_of_its_charge() -> None:
    gate = FakeGate()
    with pytest.raises(KeyError), metered(gate, **CALL) as call:
        call.response(MESSAGE)
        raise KeyError("ours")
    assert only(gate).usage_source == "reported"


def wrapped(error: Exception) -> Exception:
    """As a provider's client raises it, from what its HTTP client raised."""
    try:
        raise APIConnectionError from error
    except APIConnectionError as outer:
        return outer


@pytest.mark.parametrize(
    "error",
    [
        *(ConnectionRefusedError(), socket.gaierror(), ConnectTimeout()),
        *(wrapped(ConnectTimeout()), wrapped(ConnectionRefusedError())),
        *(Status(400), Status(429), Status(500), Status(529), Status(599)),
    ],
    ids=repr,
)
def test_the_hold_is_released_where_the_provider_did_not_begin_to_answer(error: Exception) -> None:
    gate = FakeGate()
    with pytest.raises(type(error)), metered(gate, **CALL):
        raise error
    assert gate.usages == []
    assert gate.reserved_micros == 0
    assert gate.stats().released == 1


@pytest.mark.parametrize(
    "error",
    [
        *(ReadTimeout(), wrapped(ReadTimeout()), TimeoutError(), ConnectionResetError()),
        *(Status(200), Status(399), Status(600), KeyError("ours"), KeyboardInterrupt()),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    ("unanswered", "charged"),
    [("input", (1_000, 0)), ("worst_case", (1_000, 100)), ("release", None)],
)
def test_where_nobody_knows_the_settings_decide_and_it_is_never_silent(
    error: BaseException, unanswered: Unanswered, charged: tuple[int, int] | None
) -> None:
    gate = FakeGate(settings=GateSettings(unanswered=unanswered))
    with pytest.raises(type(error)), metered(gate, **CALL):
        raise error
    if charged is None:
        assert (gate.usages, gate.reserved_micros) == ([], 0)
        return
    usage = only(gate)
    assert (usage.input_tokens, usage.output_tokens) == charged
    assert (usage.usage_source, usage.model) == ("estimated", MODEL)
    assert gate.stats().estimated == 1


def test_a_block_that_reports_nothing_is_charged_its_input_unless_it_says_that_it_made_no_call() -> (
    None
):
    gate = FakeGate()
    with metered(gate, **CALL):
        pass
    assert only(gate).usage_source == "estimated"
    gate = FakeGate()
    with metered(gate, **CALL) as call:
        call.release()
    assert (gate.usages, gate.reserved_micros) == ([], 0)


def test_errors_of_a_client_of_one_s_own_can_be_told() -> None:
    gate = FakeGate(settings=GateSettings(begins_not=lambda error: isinstance(error, LookupError)))
    with pytest.raises(KeyError), metered(gate, **CALL):
        raise KeyError("nobody called")
    assert (gate.usages, gate.reserved_micros) == ([], 0)


def test_an_answer_without_usage_is_refused_by_name_and_charged_as_estimated() -> None:
    gate = FakeGate()
    with pytest.raises(InvalidInput, match="usage"), metered(gate, **CALL) as call:
        call.response({"type": "message", "model": MODEL})
    assert only(gate).usage_source == "estimated"
    gate = FakeGate()
    with (
        pytest.raises(InvalidInput, match="must be Anthropic's message"),
        metered(gate, **CALL) as call,
    ):
        call.response("text")
    assert only(gate).usage_source == "estimated"


def test_usage_that_can_t_be_recorded_is_refused_and_charged_as_estimated() -> None:
    gate = FakeGate()
    with pytest.raises(InvalidInput, match="model"), metered(gate, **CALL) as call:
        call.response(MESSAGE | {"model": "a model with spaces"})
    usage = only(gate)
    assert (usage.model, usage.usage_source) == (MODEL, "estimated")


def test_a_full_spool_is_told_unless_another_error_is_on_its_way_and_loses_nothing() -> None:
    gate = FakeGate()
    with pytest.raises(SpoolFull), metered(gate, **CALL) as call:
        gate.world.spool.is_full = True
        call.response(MESSAGE)
    with pytest.raises(KeyError), metered(gate, **CALL) as call:
        call.response(MESSAGE)
        raise KeyError("ours")
    assert gate.stats().owed_usages == 2
    gate.core.tick()
    assert gate.stats().owed_usages == 2
    gate.world.spool.is_full = False
    gate.core.tick()
    assert len(gate.usages) == 2
    assert gate.reserved_micros == 0


def test_a_call_that_is_refused_never_enters_its_block() -> None:
    gate = FakeGate(member_cap_usd="0.002999")
    with pytest.raises(Refused, match="cap of member ann"), metered(gate, **CALL):
        raise AssertionError("not reached")
    gate = FakeGate(member_cap_usd="0.003")
    with metered(gate, **CALL) as call:
        call.response(MESSAGE)


def test_a_call_that_can_t_be_said_is_refused_before_anything_is_asked() -> None:
    gate = FakeGate()
    for changes, field in (
        ({"surface": "fax"}, "surface"),
        ({"member": "ann@example.com"}, "member"),
        ({"organization": "a/b"}, "organization"),
        ({"model": "a model"}, "model"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"input_tokens": None}, "max_output_tokens"),
        ({"max_output_tokens": None}, "max_output_tokens"),
        ({"max_cost_usd": "1e99"}, "max_cost_usd"),
        ({"max_cost_usd": "-1"}, "max_cost_usd"),
        ({"service_tier": ""}, "service_tier"),
    ):
        with pytest.raises(InvalidInput) as refused:
            metered(gate, **CALL | changes)
        assert refused.value.field == field
    assert gate.world.functions.calls == ["touch", "published"]


def test_there_is_a_hold_only_inside_of_the_block() -> None:
    call = metered(FakeGate(), **CALL)
    with pytest.raises(Misuse):
        _ = call.hold


def test_a_hold_that_was_ended_inside_of_the_block_is_left_alone() -> None:
    gate = FakeGate()
    with metered(gate, **CALL) as call:
        call.hold.release()
    assert (gate.usages, gate.reserved_micros) == ([], 0)


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


def asynchronously(tell: Callable[[AsyncFakeGate], Any], **world: Any) -> AsyncFakeGate:
    """Told on an event loop; the gate as it is then."""

    async def telling() -> AsyncFakeGate:
        gate = AsyncFakeGate(FakeWorld(**world))
        await tell(gate)
        return gate

    return asyncio.run(telling())


def test_in_asyncio_an_answer_is_charged_too() -> None:
    async def tell(gate: AsyncFakeGate) -> None:
        async with metered(gate, **CALL) as call:
            call.response(MESSAGE)

    assert only(asynchronously(tell)).output_tokens == 50


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


@pytest.mark.parametrize("error", [ConnectionRefusedError(), Status(529)], ids=repr)
def test_in_asyncio_the_hold_is_released_where_the_provider_did_not_begin(error: Exception) -> None:
    async def tell(gate: AsyncFakeGate) -> None:
        with pytest.raises(type(error)):
            async with metered(gate, **CALL):
                raise error

    gate = asynchronously(tell)
    assert (gate.usages, gate.reserved_micros) == ([], 0)


def test_in_asyncio_a_timeout_of_the_caller_s_own_is_charged_as_estimated() -> None:
    async def tell(gate: AsyncFakeGate) -> None:
        with pytest.raises(TimeoutError):
            async with metered(gate, **CALL), asyncio.timeout(0):
                await asyncio.Event().wait()

    assert only(asynchronously(tell)).usage_source == "estimated"


def test_in_asyncio_a_sliced_hold_is_cut_when_what_is_paid_is_used_up() -> None:
    async def tell(gate: AsyncFakeGate) -> None:
        with pytest.raises(Refused):
            async with metered(gate, slice_tokens=8, **CALL) as call:
                async for _ in call.stream(Stream(START, *[text("abc")] * 30, END)):
                    continue

    assert only(asynchronously(tell, member_cap_usd="0.00217")).output_tokens == 16
