"""What a call may cost at most is read from its request, for each provider's ways to say it."""

from __future__ import annotations

from typing import Any

import pytest

from tollkeeper.errors import Misuse
from tollkeeper.gate.sdk.wrapping.endpoints import Api
from tollkeeper.gate.sdk.wrapping.expecting import expected_of
from tollkeeper.gate.sdk.wrapping.settings import WrapSettings
from tollkeeper.rating.worst_case import Expected

SETTINGS = WrapSettings(
    max_output_tokens=777,
    max_input_tokens=50_000,
    tool_overhead_tokens=1_000,
    tool_result_tokens=2_000,
    tool_uses=3,
)
USER = {"role": "user", "content": "hi"}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def messages(**more: Any) -> Expected:
    body = {"model": "m", "max_tokens": 10, "messages": [USER], **more}
    return expected_of(Api.MESSAGES, body, SETTINGS)[0]


def chat(**more: Any) -> Expected:
    return expected_of(Api.CHAT, {"model": "m", "messages": [USER], **more}, SETTINGS)[0]


def responses(**more: Any) -> Expected:
    return expected_of(Api.RESPONSES, {"model": "m", "input": "hi", **more}, SETTINGS)[0]


BARE = messages().input_tokens


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (messages(max_tokens=4_096), 4_096),
        (messages(max_tokens=0), 0),
        (messages(max_tokens=None), 777),
        (chat(), 777),
        (chat(max_tokens=5), 5),
        (chat(max_completion_tokens=6), 6),
        (chat(max_completion_tokens=6, max_tokens=5), 6),
        (chat(max_tokens=5, n=3), 15),
        (chat(max_tokens=5, n=None), 5),
        (responses(), 777),
        (responses(max_output_tokens=8), 8),
        (responses(max_output_tokens=None), 777),
    ],
)
def test_the_output_is_bounded_by_what_the_request_says(call: Expected, expected: int) -> None:
    assert call.max_output_tokens == expected


def test_a_prediction_may_be_billed_as_output() -> None:
    content = {"type": "content", "content": "x" * 100}
    assert chat(max_tokens=5, prediction=content).max_output_tokens >= 105


def test_a_provider_s_own_tool_reads_the_prompt_again_with_every_use() -> None:
    """Once with nothing, then with one, two and three results in it, as often as it may be used."""
    tooled = messages(tools=[SEARCH])
    size = messages(tools=[{**SEARCH, "max_uses": 1}]).input_tokens
    assert size == pytest.approx(2 * (BARE + 1_000) + 2_000, abs=300)
    assert tooled.input_tokens == pytest.approx(4 * (BARE + 1_000) + 12_000, abs=600)
    assert tooled.web_searches == 3
    assert messages(tools=[{**SEARCH, "max_uses": 2}]).web_searches == 2


def test_no_reading_is_longer_than_any_model_s_context() -> None:
    assert messages(system="x" * 60_000).input_tokens == 50_000
    assert messages(system="x" * 60_000, tools=[SEARCH]).input_tokens == 4 * 50_000


@pytest.mark.parametrize("kind", ["custom", "bash_20250124", "text_editor_20250728", None])
def test_a_tool_of_the_caller_reads_nothing_again(kind: str | None) -> None:
    tool = {"name": "t", "input_schema": {}, **({} if kind is None else {"type": kind})}
    call = messages(tools=[tool])
    assert BARE + 1_000 < call.input_tokens < BARE + 1_200
    assert call.web_searches == 0


@pytest.mark.parametrize(
    ("tools", "more", "searches"),
    [
        ([{"type": "function", "name": "f"}], {}, 0),
        ([{"type": "web_search"}], {}, 3),
        ([{"type": "web_search_preview"}], {"max_tool_calls": 7}, 7),
        ([{"type": "web_search"}], {"max_tool_calls": 0}, 0),
        ([{"type": "mcp"}], {}, 0),
    ],
)
def test_searches_of_a_response_are_bounded(
    tools: list[dict[str, Any]], more: dict[str, Any], searches: int
) -> None:
    assert responses(tools=tools, **more).web_searches == searches


def test_a_chat_that_searches_does_so_once() -> None:
    assert (chat().web_searches, chat(web_search_options={}).web_searches) == (0, 1)


def test_cache_writes_are_expected_where_the_request_marks_them() -> None:
    block = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert messages().cache_write is None
    assert messages(cache_control={"type": "ephemeral"}).cache_write == "5m"
    assert messages(system=[block], cache_control={"type": "ephemeral"}).cache_write == "1h"


def test_openai_writes_its_cache_unasked() -> None:
    assert (chat().cache_write, responses().cache_write) == ("any", "any")


def test_the_variant_of_the_price_is_the_one_asked_for() -> None:
    fast = messages(speed="fast", inference_geo="us")
    assert (fast.speed, fast.region, fast.service_tier) == ("fast", "us", "standard")
    plain = messages(service_tier="auto", inference_geo="global")
    assert (plain.speed, plain.region, plain.service_tier) == ("standard", "global", "standard")


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (None, "standard"),
        ("auto", "standard"),
        ("default", "standard"),
        ("flex", "flex"),
        ("fast", "priority"),
        ("priority", "priority"),
    ],
)
def test_openai_s_tiers_are_named_as_on_the_rate_card(tier: str | None, expected: str) -> None:
    assert chat(service_tier=tier).service_tier == expected


def test_further_models_may_consume_as_much_again() -> None:
    body = {
        "model": "a",
        "max_tokens": 10,
        "messages": [USER],
        "tools": [{"type": "advisor_20260301", "name": "advisor", "model": "b"}],
        "fallbacks": [{"model": "c"}],
        "context_management": {"edits": [{"type": "compact_20260112"}]},
    }
    found = expected_of(Api.MESSAGES, body, SETTINGS)
    assert [one.model for one in found] == ["a", "b", "c", "a"]
    assert {one.max_output_tokens for one in found} == {10}


def test_clearing_the_context_is_no_further_inference() -> None:
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    body = {"model": "a", "max_tokens": 1, "messages": [USER], "context_management": edits}
    assert len(expected_of(Api.MESSAGES, body, SETTINGS)) == 1


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"background": True}, "background"),
        ({"tools": [{"type": "image_generation"}]}, "image_generation"),
        ({"model": None}, "must name its model"),
    ],
)
def test_what_is_billed_unseen_is_refused_by_name(more: dict[str, Any], match: str) -> None:
    with pytest.raises(Misuse, match=match):
        responses(**more)


def test_a_setting_must_be_a_number_of_at_least_one() -> None:
    with pytest.raises(Misuse, match="image_tokens"):
        WrapSettings(image_tokens=0)
