"""The ways of clients for threads. See `ways`."""

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
def create(client: Any, called: Called) -> str:
    resource, asked = called(client)
    return whole_of(resource.create(**asked))


@every_way()
def create_with_options(client: Any, called: Called) -> str:
    resource, asked = called(client.with_options(timeout=9).with_options(max_retries=0))
    return whole_of(resource.create(**asked))


@every_way()
def create_raw(client: Any, called: Called) -> str:
    resource, asked = called(client)
    raw = resource.with_raw_response.create(**asked)
    assert raw.http_response.status_code == 200
    return whole_of(raw.parse())


@every_way()
def create_streaming_response(client: Any, called: Called) -> str:
    resource, asked = called(client)
    with resource.with_streaming_response.create(**asked) as raw:
        return whole_of(raw.parse())


@every_way()
def create_streaming_bytes(client: Any, called: Called) -> int:
    resource, asked = called(client)
    with resource.with_streaming_response.create(**asked) as raw:
        return len(b"".join(raw.iter_bytes(chunk_size=3)))


@every_way(is_stream=True)
def stream(client: Any, called: Called) -> str:
    resource, asked = called(client)
    return "".join(delta_of(event) for event in resource.create(**asked, stream=True))


@every_way(is_stream=True)
def stream_in_with(client: Any, called: Called) -> str:
    resource, asked = called(client)
    with resource.create(**asked, stream=True) as events:
        return delta_of(next(events)) + "".join(map(delta_of, events))


@every_way(is_stream=True)
def stream_raw(client: Any, called: Called) -> str:
    resource, asked = called(client)
    raw = resource.with_raw_response.create(**asked, stream=True)
    return "".join(map(delta_of, raw.parse()))


@every_way(is_stream=True)
def stream_lines(client: Any, called: Called) -> str:
    resource, asked = called(client)
    with resource.with_streaming_response.create(**asked, stream=True) as raw:
        return lines_text(list(raw.iter_lines()))


@every_way()
def post(client: Any, called: Called) -> str:
    """A call site that knows the path, and takes the document as it is."""
    resource, asked = called(client)
    paths = {"Messages": "/v1/messages", "Completions": "/chat/completions"}
    path = paths.get(type(resource).__name__, "/responses")
    answer = client.post(path, body=asked, cast_to=object)
    return str(answer["id"])


@way("anthropic-0", is_stream=True)
def text_stream(client: Any) -> str:
    """The library's own helper, by its text."""
    with client.messages.stream(**ASKED) as stream:
        return "".join(stream.text_stream)


@way("anthropic-1", is_stream=True)
def final_message(client: Any) -> tuple[str, int]:
    """The same, by its end."""
    with client.beta.messages.stream(**ASKED) as stream:
        message = stream.get_final_message()
    return whole_of(message), message.usage.output_tokens


@way("openai-0", is_stream=True)
def chat_helper(client: Any) -> str:
    """The library's own helper."""
    with client.chat.completions.stream(**CHAT) as stream:
        stream.until_done()
        return whole_of(stream.get_final_completion())


@way("openai-0", is_stream=True)
def stream_with_usage(client: Any) -> list[Any]:
    """A call site that asks for the usage itself, and gets it."""
    options = {"include_usage": True}
    stream = client.chat.completions.create(**CHAT, stream=True, stream_options=options)
    return [chunk.model_dump() for chunk in stream]


@way("openai-0")
def parse(client: Any) -> str:
    """The library's own parsing."""
    return whole_of(client.chat.completions.parse(**CHAT))


@way("openai-1", is_stream=True)
def response_helper(client: Any) -> str:
    """The library's own helper."""
    with client.responses.stream(**RESPONSE) as stream:
        return "".join(e.delta for e in stream if e.type == "response.output_text.delta")
