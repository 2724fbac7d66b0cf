"""The ways of clients for asyncio. See `ways`."""

from __future__ import annotations

from typing import Any

from wrapping.ways import (
    ASKED,
    CHAT,
    RESPONSE,
    Called,
    delta_of,
    every_way,
    lines_text,
    way,
    whole_of,
)


@every_way()
async def create(client: Any, called: Called) -> str:
    resource, asked = called(client)
    return whole_of(await resource.create(**asked))


@every_way()
async def create_with_options(client: Any, called: Called) -> str:
    resource, asked = called(client.with_options(timeout=9).with_options(max_retries=0))
    return whole_of(await resource.create(**asked))


@every_way()
async def create_raw(client: Any, called: Called) -> str:
    resource, asked = called(client)
    raw = await resource.with_raw_response.create(**asked)
    parsed = raw.parse()
    return whole_of(await parsed if hasattr(parsed, "__await__") else parsed)


@every_way()
async def create_streaming_response(client: Any, called: Called) -> str:
    resource, asked = called(client)
    async with resource.with_streaming_response.create(**asked) as raw:
        return whole_of(await raw.parse())


@every_way(is_stream=True)
async def stream(client: Any, called: Called) -> str:
    resource, asked = called(client)
    events = await resource.create(**asked, stream=True)
    return "".join([delta_of(event) async for event in events])


@every_way(is_stream=True)
async def stream_in_with(client: Any, called: Called) -> str:
    resource, asked = called(client)
    async with await resource.create(**asked, stream=True) as events:
        first = delta_of(await anext(events))
        return first + "".join([delta_of(event) async for event in events])


@every_way(is_stream=True)
async def stream_raw(client: Any, called: Called) -> str:
    resource, asked = called(client)
    raw = await resource.with_raw_response.create(**asked, stream=True)
    parsed = raw.parse()
    events = await parsed if hasattr(parsed, "__await__") else parsed
    return "".join([delta_of(event) async for event in events])


@every_way(is_stream=True)
async def stream_lines(client: Any, called: Called) -> str:
    resource, asked = called(client)
    async with resource.with_streaming_response.create(**asked, stream=True) as raw:
        return lines_text([line async for line in raw.iter_lines()])


@way("anthropic-0", is_stream=True)
async def text_stream(client: Any) -> str:
    """The library's own helper, by its text."""
    async with client.messages.stream(**ASKED) as stream:
        return "".join([text async for text in stream.text_stream])


@way("anthropic-1", is_stream=True)
async def final_message(client: Any) -> tuple[str, int]:
    """The same, by its end."""
    async with client.beta.messages.stream(**ASKED) as stream:
        message = await stream.get_final_message()
    return whole_of(message), message.usage.output_tokens


@way("openai-0", is_stream=True)
async def chat_helper(client: Any) -> str:
    """The library's own helper."""
    async with client.chat.completions.stream(**CHAT) as stream:
        return whole_of(await stream.get_final_completion())


@way("openai-0")
async def parse(client: Any) -> str:
    """The library's own parsing."""
    return whole_of(await client.chat.completions.parse(**CHAT))


@way("openai-1", is_stream=True)
async def response_helper(client: Any) -> str:
    """The library's own helper."""
    async with client.responses.stream(**RESPONSE) as stream:
        texts = [e.delta async for e in stream if e.type == "response.output_text.delta"]
    return "".join(texts)
