"""`with metered(...)`: what is held, charged, estimated and released, in threads and in asyncio."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from gate_sdk.answers import (
    CALL,
    COMPLETION,
    MESSAGE,
    MODEL,
    RESPONSE,
    ConnectTimeout,
    HTTPException,
    ReadTimeout,
    Status,
    asynchronously,
    only,
    wrapped,
)

from tollkeeper.errors import InvalidInput, Misuse, SpoolFull
from tollkeeper.gate.sdk import GateSettings, Refused, metered
from tollkeeper.gate.sdk.settings import Unanswered
from tollkeeper.metering.adapters.provider import ProviderUsage
from tollkeeper.metering.usage import Usage
from tollkeeper.testing import AsyncFakeGate, FakeGate


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


@pytest.mark.parametrize(
    "error",
    [
        *(ConnectionRefusedError(), socket.gaierror(), ConnectTimeout()),
        *(wrapped(ConnectTimeout()), wrapped(ConnectionRefusedError())),
        wrapped(Status(500), HTTPException(502)),
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
        *(HTTPException(503), wrapped(ReadTimeout(), HTTPException(504))),
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


def test_usage_of_another_organization_is_refused_by_name() -> None:
    gate = FakeGate()
    other = Usage(organization="other", member="ann", surface="web", model=MODEL)
    with metered(gate, **CALL) as call:
        with pytest.raises(InvalidInput, match="must be the hold's, acme"):
            call.usage(other)
        call.response(MESSAGE)
    assert only(gate).output_tokens == 50


def test_a_call_is_metered_once_and_nothing_is_reported_to_it_after_its_block() -> None:
    """What came later would be charged to nobody."""
    gate = FakeGate()
    with metered(gate, **CALL) as call:
        call.response(MESSAGE)
    later: list[Callable[[], object]] = [
        lambda: call.response(MESSAGE),
        lambda: call.usage(ProviderUsage(model=MODEL)),
        lambda: call.stream([]),
        call.__enter__,
    ]
    for report in later:
        with pytest.raises(Misuse):
            report()
    only(gate)


def test_there_is_a_hold_only_inside_of_the_block() -> None:
    call = metered(FakeGate(), **CALL)
    with pytest.raises(Misuse):
        _ = call.hold


def test_a_hold_that_was_ended_inside_of_the_block_is_left_alone() -> None:
    gate = FakeGate()
    with metered(gate, **CALL) as call:
        call.hold.release()
    assert (gate.usages, gate.reserved_micros) == ([], 0)


def test_in_asyncio_an_answer_is_charged_too() -> None:
    async def tell(gate: AsyncFakeGate) -> None:
        async with metered(gate, **CALL) as call:
            call.response(MESSAGE)

    assert only(asynchronously(tell)).output_tokens == 50


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


@pytest.mark.parametrize(
    ("error", "charged"),
    [(None, 0), (ConnectionRefusedError(), 0), (Status(529), 0), (ReadTimeout(), 1)],
    ids=repr,
)
def test_a_hold_s_own_block_never_loses_money_silently(
    error: Exception | None, charged: int
) -> None:
    gate = FakeGate()
    with suppress(Exception), gate.hold(**CALL):
        if error is not None:
            raise error
    assert [usage.usage_source for usage in gate.usages] == ["estimated"] * charged
    assert gate.reserved_micros == 0

    async def tell(gate: AsyncFakeGate) -> None:
        with suppress(Exception):
            async with await gate.hold(**CALL):
                if error is not None:
                    raise error

    assert len(asynchronously(tell).usages) == charged


def test_the_wrong_with_for_a_gate_says_which_is_right() -> None:
    gate = FakeGate()

    async def in_tasks() -> None:
        async with metered(gate, **CALL):
            pass

    with pytest.raises(Misuse, match=r"a Gate's .* `with metered"):
        asyncio.run(in_tasks())

    async def in_threads() -> None:
        async with AsyncFakeGate() as tasks:
            with metered(tasks, **CALL):
                pass

    with pytest.raises(Misuse, match=r"an AsyncGate's .* `async with metered"):
        asyncio.run(in_threads())
    assert (gate.usages, gate.reserved_micros) == ([], 0)
