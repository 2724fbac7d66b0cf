"""Every way in which call sites use the providers' clients, each answering what the call site gets of it.

`Way.read` has the call site read all; a way with `first` can be left after the first thing that it reads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

FAMILIES = ("anthropic-0", "anthropic-1", "openai-0", "openai-1")
"""Each library's resources that make model calls: messages and beta.messages, chat and responses."""
MODEL = "claude-sonnet-5"
PROMPT = "Who? " * 100
ASKED: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 1_000,
    "messages": [{"role": "user", "content": PROMPT}],
}
CHAT: dict[str, Any] = {**ASKED, "max_completion_tokens": 1_000}
del CHAT["max_tokens"]
RESPONSE: dict[str, Any] = {"model": MODEL, "max_output_tokens": 1_000, "input": PROMPT}


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way, of a client for threads or of one for asyncio."""

    name: str
    family: str
    read: Callable[[Any], Any]
    is_stream: bool = False
    is_async: bool = False


Called = Callable[[Any], tuple[Any, dict[str, Any]]]
"""Of a client: the resource that makes the calls, and what a call site asks it."""

WAYS: list[Way] = []


def way(family: str, *, is_stream: bool = False) -> Callable[[Callable[[Any], Any]], Any]:
    """Register a way by its function; a coroutine function is one for asyncio."""

    def register(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
        _register(read.__name__, family, read, is_stream)
        return read

    return register


def every_way(*, is_stream: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Register a way for every resource that makes model calls."""

    def register(read: Callable[..., Any]) -> Callable[..., Any]:
        for family in FAMILIES:
            of_one = partial(read, called=partial(resource_of, family))
            _register(read.__name__, family, of_one, is_stream)
        return read

    return register


def _register(name: str, family: str, read: Callable[[Any], Any], is_stream: bool) -> None:
    is_async = inspect.iscoroutinefunction(read)
    shown = f"{family}-{'async' if is_async else 'sync'}-{name}"
    WAYS.append(Way(name=shown, family=family, read=read, is_stream=is_stream, is_async=is_async))


def of(**wanted: Any) -> list[Way]:
    """The ways that are like this."""
    return [one for one in WAYS if all(getattr(one, k) == v for k, v in wanted.items())]


def text_of(message: Any) -> str:
    """The text of Anthropic's message."""
    return "".join(block.text for block in message.content if block.type == "text")


def delta_of(event: Any) -> str:
    """The text that one event of any stream brings."""
    if getattr(event, "object", None) == "chat.completion.chunk":
        return event.choices[0].delta.content or ""  # as call sites do: every chunk has a choice
    if event.type == "content_block_delta":
        return getattr(event.delta, "text", "")
    return event.delta if event.type == "response.output_text.delta" else ""


def whole_of(answer: Any) -> str:
    """The text of any whole answer."""
    if hasattr(answer, "choices"):
        return str(answer.choices[0].message.content)
    return str(answer.output_text) if hasattr(answer, "output_text") else text_of(answer)


def lines_text(lines: list[str]) -> str:
    """The text in lines of server-sent events, as a call site may decode them by itself."""
    documents = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    found = []
    for document in map(msgspec.json.decode, documents):
        if document.get("object") == "chat.completion.chunk":
            found.append(document["choices"][0]["delta"].get("content") or "")
        elif document["type"] == "content_block_delta":
            found.append(document["delta"].get("text", ""))
        elif document["type"] == "response.output_text.delta":
            found.append(document["delta"])
    return "".join(found)


def resource_of(family: str, client: Any) -> tuple[Any, dict[str, Any]]:
    """The resource of a family, and what a call site asks it."""
    if family == "anthropic-0":
        return client.messages, ASKED
    if family == "anthropic-1":
        return client.beta.messages, ASKED
    if family == "openai-0":
        return client.chat.completions, CHAT
    return client.responses, RESPONSE
