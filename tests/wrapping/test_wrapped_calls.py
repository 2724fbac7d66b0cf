"""In every way of calling: the call site gets what it got before, with one hold, settled by the truth."""

from __future__ import annotations

import contextvars

import pytest
import wrapping.ways_async
import wrapping.ways_sync  # noqa: F401 - both register their ways
from providers.stand_in import StandIn
from providers.turns import Turn
from wrapping.calling import Caller
from wrapping.ways import WAYS, Way, of

from tollkeeper.errors import Misuse
from tollkeeper.gate.sdk import Refused

every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
every_stream = pytest.mark.parametrize("way", of(is_stream=True), ids=lambda way: way.name)

TURN = Turn(
    tool=None,
    input_tokens=100,
    output_tokens=20,
    cache_read_tokens=30,
    cache_write_5m_tokens=7,
)


@pytest.mark.parametrize(
    ("way", "piece_bytes"),
    [*((way, None) for way in WAYS), *((way, 3) for way in of(is_stream=True))],
    ids=lambda one: getattr(one, "name", None),
)
def test_the_call_site_gets_what_it_gets_without_the_gate(
    way: Way, api: StandIn, piece_bytes: int | None
) -> None:
    caller = Caller(way, api)
    turn = Turn(piece_bytes=piece_bytes, is_gzipped=piece_bytes is not None)
    api.will(caller.answers(turn), caller.answers(turn))
    plain = caller.call()
    assert caller.call(caller.fake()) == plain
    assert plain not in ("", None, 0)


@every_way
def test_one_hold_settled_by_what_the_provider_counted(way: Way, api: StandIn) -> None:
    caller = Caller(way, api)
    gate = caller.fake()
    api.will(caller.answers(TURN))
    caller.call(gate)
    [usage] = gate.world.spool.usages  # before any tick: settled with the call
    assert (usage.organization, usage.member, usage.surface) == ("acme", "ann", "web")
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (100, 20, 30)
    assert (usage.cache_write_5m_tokens, usage.usage_source) == (7, "reported")
    assert usage.hold_id is not None and usage.hold_id.startswith("acme/")
    assert gate.world.functions.calls.count("hold") == 1
    assert gate.reserved_micros == 0 and gate.stats().open_holds == 0


@every_way
def test_a_refused_call_never_reaches_the_provider(way: Way, api: StandIn) -> None:
    caller = Caller(way, api)
    with pytest.raises(Refused) as refused:
        caller.call(caller.fake(member_cap_usd="0.000001", cap_usd="0.000002"))
    assert [one.reason for one in refused.value.reasons] == ["organization_cap", "member_cap"]
    assert api.asked == []


@pytest.mark.parametrize(
    "way", [one for one in WAYS if "with_options" not in one.name], ids=lambda way: way.name
)
def test_a_retry_of_the_library_is_within_the_same_hold(way: Way, api: StandIn) -> None:
    caller = Caller(way, api, max_retries=2)
    gate = caller.fake()
    api.will(caller.failing(500), caller.failing(503), caller.answers())
    caller.call(gate)
    assert (len(api.asked), gate.world.functions.calls.count("hold")) == (3, 1)
    assert [usage.usage_source for usage in gate.usages] == ["reported"]


@pytest.mark.parametrize("way", of(is_async=False), ids=lambda way: way.name)
def test_without_an_identity_the_call_is_not_made(way: Way, api: StandIn) -> None:
    caller = Caller(way, api)
    gate = caller.fake()
    with pytest.raises(Misuse, match="acting_for"):
        caller.call(gate, lambda client: contextvars.Context().run(way.read, client))
    assert api.asked == [] and gate.world.functions.calls.count("hold") == 0


@every_stream
def test_a_stream_that_nobody_asked_for_usage_hides_that_it_was(way: Way, api: StandIn) -> None:
    caller = Caller(way, api)
    gate = caller.fake()
    api.will(caller.answers(TURN))
    caller.call(gate)
    options = api.asked[0].body.get("stream_options")
    assert options == ({"include_usage": True} if way.family == "openai-0" else None)
