"""However a call fails, the call site gets the error that it got before; the hold ends by what was seen."""

from __future__ import annotations

from typing import Any

import pytest
import wrapping.ways_async
import wrapping.ways_sync  # noqa: F401 - both register their ways
from providers import anthropic_api
from providers.stand_in import (
    CUT_BEFORE_ANSWERING,
    NEVER_ANSWERED,
    Answer,
    Ending,
    StandIn,
    json_answer,
)
from providers.turns import Turn
from wrapping.calling import AnyFake, Caller
from wrapping.ways import WAYS, Way, of

every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
every_stream = pytest.mark.parametrize("way", of(is_stream=True), ids=lambda way: way.name)


def error_of(caller: Caller, gate: AnyFake | None) -> tuple[type[BaseException], str]:
    """What the call site has to catch."""
    with pytest.raises(Exception) as raised:
        caller.call(gate)
    return type(raised.value), str(raised.value)


def assert_same_error(caller: Caller, *scripts: Any) -> AnyFake:
    """The same with the gate as without it; the gate then."""
    gate = caller.fake()
    caller.api.will(*scripts, *scripts)
    assert error_of(caller, gate) == error_of(caller, None)
    assert gate.world.functions.calls.count("hold") == 1
    return gate


def assert_released(gate: AnyFake) -> None:
    assert gate.usages == [] and gate.reserved_micros == 0
    assert gate.world.functions.calls.count("release") == 1


def assert_estimated(gate: AnyFake, *, input_tokens: int | None, output_tokens: int) -> None:
    """The likely input of 500 bytes of prose, about, is far below what was held for."""
    [usage] = gate.usages
    assert (usage.usage_source, usage.output_tokens) == ("estimated", output_tokens)
    assert usage.hold_id is not None and gate.reserved_micros == 0
    if input_tokens is None:
        assert 150 < usage.input_tokens < 250
    else:
        assert usage.input_tokens == input_tokens


@pytest.mark.parametrize(
    ("way", "status"),
    [*((way, 529) for way in WAYS), *((way, status) for status in (400, 429) for way in WAYS[::9])],
    ids=lambda one: getattr(one, "name", None),
)
def test_an_error_in_place_of_an_answer_releases(way: Way, api: StandIn, status: int) -> None:
    caller = Caller(way, api)
    assert_released(assert_same_error(caller, caller.failing(status)))


@pytest.mark.parametrize("way", WAYS[::7], ids=lambda way: way.name)
def test_a_provider_that_cannot_be_reached_releases(way: Way, api: StandIn) -> None:
    caller = Caller(way, api, base_url="http://127.0.0.1:9")
    assert_released(assert_same_error(caller))


@every_way
def test_a_connection_cut_while_waiting_charges_the_likely_prompt(way: Way, api: StandIn) -> None:
    """Nobody knows whether the provider computed."""
    gate = assert_same_error(Caller(way, api), CUT_BEFORE_ANSWERING)
    assert_estimated(gate, input_tokens=None, output_tokens=0)


@pytest.mark.parametrize(
    "way", [one for one in WAYS if "with_options" not in one.name][::5], ids=lambda way: way.name
)
def test_a_timeout_while_waiting_charges_the_likely_prompt(way: Way, api: StandIn) -> None:
    gate = assert_same_error(Caller(way, api, timeout=0.1), NEVER_ANSWERED)
    assert_estimated(gate, input_tokens=None, output_tokens=0)


@pytest.mark.parametrize("way", of(is_stream=False), ids=lambda way: way.name)
def test_an_answer_that_is_cut_charges_the_likely_prompt(way: Way, api: StandIn) -> None:
    caller = Caller(way, api)
    gate = assert_same_error(caller, caller.answers(Turn(ending=Ending.CUT)))
    assert_estimated(gate, input_tokens=None, output_tokens=0)


@pytest.mark.parametrize(
    ("way", "ending"),
    [
        *((way, Ending.CUT) for way in of(is_stream=True)),
        *((way, Ending.SILENT) for way in of(is_stream=True)[::4]),
    ],
    ids=lambda one: one.name,
)
def test_a_stream_that_breaks_off_is_charged_by_what_came(
    way: Way, api: StandIn, ending: Ending
) -> None:
    caller = Caller(way, api, timeout=10 if ending is Ending.CUT else 0.2)
    turn = caller.unfinished(ending=ending)
    gate = assert_same_error(caller, caller.answers(turn))
    seen_input = 100 if caller.family == "anthropic" else None
    assert_estimated(gate, input_tokens=seen_input, output_tokens=3)


@every_stream
def test_a_stream_that_fails_midway_is_charged_by_what_came(way: Way, api: StandIn) -> None:
    caller = Caller(way, api)
    turn = caller.unfinished(error="overloaded_error")
    gate = caller.fake()
    api.will(caller.answers(turn), caller.answers(turn))
    assert _outcome(caller, gate) == _outcome(caller, None)
    seen_input = 100 if caller.family == "anthropic" else None
    assert_estimated(gate, input_tokens=seen_input, output_tokens=3)


@pytest.mark.parametrize(
    "way", [one for one in of(is_stream=True) if one.family != "openai-1"], ids=lambda way: way.name
)
def test_a_stream_that_fails_before_anything_else_releases(way: Way, api: StandIn) -> None:
    caller = Caller(way, api)
    turn = Turn(events=0, error="overloaded_error")
    gate = caller.fake()
    api.will(caller.answers(turn), caller.answers(turn))
    assert _outcome(caller, gate) == _outcome(caller, None)
    assert_released(gate)


@every_stream
def test_a_stream_that_ends_without_its_last_event_is_charged_by_what_came(
    way: Way, api: StandIn
) -> None:
    caller = Caller(way, api)
    turn = caller.unfinished()
    gate = caller.fake()
    api.will(caller.answers(turn), caller.answers(turn))
    assert _outcome(caller, gate) == _outcome(caller, None)
    assert_estimated(
        gate,
        input_tokens=100 if caller.family == "anthropic" else None,
        output_tokens=3,
    )


@every_way
def test_a_spool_that_is_full_is_no_error_of_the_call(way: Way, api: StandIn) -> None:
    caller = Caller(way, api)
    gate = caller.fake()
    gate.world.spool.is_full = True
    api.will(caller.answers())
    caller.call(gate)
    assert gate.usages == [] and gate.stats().owed_usages == 1
    gate.world.spool.is_full = False
    assert [usage.usage_source for usage in gate.usages] == ["reported"]
    assert gate.stats().owed_usages == 0 and gate.reserved_micros == 0


@pytest.mark.parametrize("way", of(is_stream=False, family="anthropic-0"), ids=lambda way: way.name)
@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": "many"}, {"input_tokens": -1}])
def test_an_answer_whose_usage_is_not_understood_is_estimated(
    way: Way, api: StandIn, usage: object
) -> None:
    def answer(asked: Any) -> Answer:
        message = {**anthropic_api.message(Turn(), "claude-sonnet-5"), "usage": usage}
        return json_answer(message)

    caller = Caller(way, api)
    gate = caller.fake()
    api.will(answer, answer)
    assert _outcome(caller, gate) == _outcome(caller, None)
    assert_estimated(gate, input_tokens=None, output_tokens=0)


def _outcome(caller: Caller, gate: AnyFake | None) -> Any:
    """What the call site gets, an error or an answer."""
    try:
        return caller.call(gate)
    except Exception as error:  # noqa: BLE001 - compared by the test
        return type(error), str(error)
