"""Anthropic's usage objects become counts; what doesn't fit is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tollkeeper.errors import InvalidInput, Misuse
from tollkeeper.metering.adapters.anthropic import AnthropicStream, usage_of
from tollkeeper.metering.adapters.provider import ProviderUsage


def message(**usage: Any) -> dict[str, Any]:
    """A message with the smallest usage, and what the test is about."""
    return {
        "id": "msg_01",
        "type": "message",
        "model": "claude-opus-5-5",
        "usage": {"input_tokens": 10, "output_tokens": 20, **usage},
    }


def as_model(value: Any) -> Any:
    """The same as the SDK's objects: attributes instead of keys."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_model(item) for key, item in value.items()})
    return [as_model(item) for item in value] if isinstance(value, list) else value


FULL = message(
    cache_read_input_tokens=300,
    cache_creation_input_tokens=70,
    cache_creation={"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 40},
    server_tool_use={"web_search_requests": 2, "web_fetch_requests": 5},
    service_tier="batch",
    inference_geo="us",
    speed="fast",
    output_tokens_details={"thinking_tokens": 7},
)


@pytest.mark.parametrize("shape", [dict, as_model])
def test_all_counts_are_read_from_dicts_and_models(shape: Any) -> None:
    assert usage_of(shape(FULL)) == ProviderUsage(
        model="claude-opus-5-5",
        request_id="msg_01",
        input_tokens=10,
        output_tokens=20,
        cache_read_tokens=300,
        cache_write_5m_tokens=30,
        cache_write_1h_tokens=40,
        web_search_requests=2,
        service_tier="batch",
        speed="fast",
        region="us",
    )


def test_cache_writes_without_their_split_are_for_five_minutes() -> None:
    usage = usage_of(message(cache_creation_input_tokens=70, cache_creation=None))
    assert (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == (70, 0)


@pytest.mark.parametrize("geo", ["global", "not_available", None])
def test_no_region_is_global(geo: str | None) -> None:
    assert usage_of(message(inference_geo=geo)).region == "global"


def test_absent_and_null_fields_are_standard_and_zero() -> None:
    usage = usage_of(message(service_tier=None, speed=None, server_tool_use=None))
    assert (usage.service_tier, usage.speed, usage.web_search_requests) == (
        "standard",
        "standard",
        0,
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"input_tokens": None}, "usage.input_tokens"),
        ({"output_tokens": -1}, "usage.output_tokens"),
        ({"output_tokens": "20"}, "usage.output_tokens"),
        ({"output_tokens": True}, "usage.output_tokens"),
        ({"cache_read_input_tokens": 1.5}, "usage.cache_read_input_tokens"),
        ({"input_tokens": 10**12}, "usage.input_tokens"),
        ({"cache_creation": 5}, "usage.cache_creation"),
        (
            {"cache_creation": {"ephemeral_1h_input_tokens": -2}},
            "usage.cache_creation.ephemeral_1h_input_tokens",
        ),
        (
            {"server_tool_use": {"web_search_requests": "one"}},
            "usage.server_tool_use.web_search_requests",
        ),
        ({"service_tier": 3}, "usage.service_tier"),
        ({"iterations": 3}, "usage.iterations"),
        ({"iterations": [3]}, "usage.iterations[0]"),
        ({"iterations": [{"type": "dream"}]}, "usage.iterations[0].type"),
        (
            {"iterations": [{"type": "advisor_message", "input_tokens": 1, "output_tokens": 1}]},
            "usage.iterations[0].model",
        ),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        usage_of(message(**change))
    assert refused.value.field == field


def test_a_message_without_usage_or_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^usage:"):
        usage_of({"model": "claude-opus-5-5"})
    with pytest.raises(InvalidInput, match=r"^model:"):
        usage_of({"usage": {"input_tokens": 1, "output_tokens": 1}})


COMPACTED = message(
    input_tokens=23_000,
    output_tokens=1_000,
    inference_geo="us",
    iterations=[
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
        {
            "type": "advisor_message",
            "model": "claude-fable-5-1",
            "input_tokens": 900,
            "output_tokens": 80,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 6,
        },
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
    ],
)


def test_what_the_totals_leave_out_becomes_further_parts() -> None:
    usage = usage_of(COMPACTED)
    assert (usage.input_tokens, usage.output_tokens) == (23_000, 1_000)
    compaction, advice = usage.further
    assert (compaction.model, compaction.input_tokens, compaction.region) == (
        "claude-opus-5-5",
        180_000,
        "us",
    )
    assert (advice.model, advice.input_tokens, advice.cache_write_5m_tokens) == (
        "claude-fable-5-1",
        900,
        6,
    )
    who: dict[str, Any] = {"organization": "acme", "member": "ann", "surface": "web"}
    with pytest.raises(Misuse, match="2 further"):
        usage.as_usage(**who)
    usages = usage.as_usages(**who, event_id="e-1", hold_id="h-1")
    assert [u.event_id for u in usages] == ["e-1", "e-1.1", "e-1.2"]
    assert sum(u.input_tokens for u in usages) == 23_000 + 180_000 + 900
    assert {u.hold_id for u in usages} == {"h-1"}


def test_a_call_becomes_the_usage_to_emit() -> None:
    usage = usage_of(FULL).as_usage(
        organization="acme", member="ann", surface="web", occurred_at=1, usage_source="estimated"
    )
    assert (usage.organization, usage.member, usage.surface) == ("acme", "ann", "web")
    assert (usage.model, usage.request_id, usage.usage_source) == (
        "claude-opus-5-5",
        "msg_01",
        "estimated",
    )
    assert (usage.cache_write_1h_tokens, usage.region, usage.event_id) == (40, "us", None)


STREAM: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": message(
            output_tokens=1,
            cache_creation_input_tokens=70,
            cache_creation={"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 40},
            service_tier="priority",
            inference_geo="us",
        ),
    },
    {"type": "content_block_start", "index": 0},
    {"type": "ping"},
    {"type": "message_delta", "usage": {"output_tokens": 15}},
    {
        "type": "message_delta",
        "usage": {
            "input_tokens": 12,
            "output_tokens": 33,
            "cache_creation_input_tokens": 90,
            "cache_read_input_tokens": None,
            "server_tool_use": {"web_search_requests": 1},
        },
    },
    {"type": "message_stop"},
]


@pytest.mark.parametrize("shape", [dict, as_model])
def test_in_a_stream_the_last_value_of_each_field_wins(shape: Any) -> None:
    stream = AnthropicStream()
    for event in STREAM:
        stream.feed(shape(event))
    usage = stream.usage()
    assert (usage.input_tokens, usage.output_tokens) == (12, 33)
    assert (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == (50, 40)
    assert (usage.web_search_requests, usage.service_tier, usage.region) == (1, "priority", "us")
    assert (usage.model, usage.request_id) == ("claude-opus-5-5", "msg_01")


def test_a_stream_that_was_cut_off_says_so_and_shows_what_was_seen() -> None:
    stream = AnthropicStream()
    with pytest.raises(InvalidInput, match="message_start"):
        stream.seen()
    stream.feed(STREAM[0])
    assert not stream.is_complete
    with pytest.raises(InvalidInput, match="estimated"):
        stream.usage()
    assert stream.seen().output_tokens == 1
