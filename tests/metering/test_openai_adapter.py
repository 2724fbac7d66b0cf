"""OpenAI's usage objects become counts: cached tokens are part of the input there."""

from __future__ import annotations

from typing import Any

import pytest
from metering.test_anthropic_adapter import as_model

from tollkeeper.errors import InvalidInput
from tollkeeper.metering.adapters.openai import OpenAIStream, usage_of
from tollkeeper.metering.adapters.provider import ProviderUsage

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-5.4",
    "service_tier": "default",
    "usage": {
        "prompt_tokens": 2_006,
        "completion_tokens": 300,
        "total_tokens": 2_306,
        "prompt_tokens_details": {"cached_tokens": 1_920, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 100},
    },
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5.6-sol",
    "service_tier": "priority",
    "output": [
        {"type": "web_search_call", "action": {"type": "search", "query": "x"}},
        {"type": "web_search_call", "action": {"type": "open_page", "url": "x"}},
        {"type": "message"},
    ],
    "usage": {
        "input_tokens": 5_000,
        "output_tokens": 40,
        "total_tokens": 5_040,
        "input_tokens_details": {"cached_tokens": 1_000, "cache_write_tokens": 3_207},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}


@pytest.mark.parametrize("shape", [dict, as_model])
def test_cached_tokens_are_subtracted_from_a_chat_completions_prompt(shape: Any) -> None:
    assert usage_of(shape(CHAT)) == ProviderUsage(
        model="gpt-5.4",
        request_id="chatcmpl-1",
        input_tokens=86,
        output_tokens=300,
        cache_read_tokens=1_920,
    )


@pytest.mark.parametrize("shape", [dict, as_model])
def test_reads_and_writes_are_subtracted_from_a_responses_input(shape: Any) -> None:
    assert usage_of(shape(RESPONSE)) == ProviderUsage(
        model="gpt-5.6-sol",
        request_id="resp_1",
        input_tokens=793,
        output_tokens=40,
        cache_read_tokens=1_000,
        cache_write_5m_tokens=3_207,
        web_search_requests=1,
        service_tier="priority",
    )


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (None, "standard"),
        ("auto", "standard"),
        ("default", "standard"),
        ("flex", "flex"),
        ("priority", "priority"),
        ("batch", "batch"),
    ],
)
def test_service_tiers_are_named_as_on_the_rate_card(tier: str | None, expected: str) -> None:
    assert usage_of({**CHAT, "service_tier": tier}).service_tier == expected


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt_tokens": -1}, "usage.prompt_tokens"),
        ({"prompt_tokens": None}, "usage.input_tokens"),
        ({"completion_tokens": None}, "usage.completion_tokens"),
        ({"completion_tokens": 1.0}, "usage.completion_tokens"),
        (
            {"prompt_tokens_details": {"cached_tokens": -1}},
            "usage.prompt_tokens_details.cached_tokens",
        ),
        (
            {"prompt_tokens_details": {"cached_tokens": 2_007}},
            "usage.prompt_tokens_details.cached_tokens",
        ),
        ({"prompt_tokens_details": [1]}, "usage.prompt_tokens_details"),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        usage_of({**CHAT, "usage": {**CHAT["usage"], **change}})
    assert refused.value.field == field


def test_an_answer_without_usage_says_how_to_get_it() -> None:
    with pytest.raises(InvalidInput, match="include_usage"):
        usage_of({"model": "gpt-5.4", "usage": None})


@pytest.mark.parametrize("shape", [dict, as_model])
def test_a_chat_stream_ends_with_a_chunk_that_carries_the_usage(shape: Any) -> None:
    stream = OpenAIStream()
    for _ in range(3):
        stream.feed(shape({"id": "chatcmpl-1", "model": "gpt-5.4", "choices": [], "usage": None}))
    assert not stream.is_complete
    with pytest.raises(InvalidInput, match="include_usage"):
        stream.usage()
    stream.feed(shape({**CHAT, "object": "chat.completion.chunk", "choices": []}))
    assert stream.is_complete
    assert stream.usage() == usage_of(CHAT)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_a_response_stream_ends_with_an_event_that_carries_the_response(kind: str) -> None:
    stream = OpenAIStream()
    stream.feed({"type": "response.created", "response": {**RESPONSE, "usage": None}})
    stream.feed({"type": "response.output_text.delta", "delta": "hi"})
    assert not stream.is_complete
    stream.feed({"type": kind, "response": RESPONSE})
    assert stream.usage() == usage_of(RESPONSE)
