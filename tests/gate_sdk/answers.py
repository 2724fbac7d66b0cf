"""What providers answer and how their clients fail, as tests of metered calls need it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

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


class HTTPException(Exception):
    """As web frameworks raise it to answer their own caller."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


class Status(HTTPException):
    """As the providers' clients raise it."""

    def __init__(self, status_code: int) -> None:
        super().__init__(status_code)
        self.response = SimpleNamespace(status_code=status_code)


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


def asynchronously(tell: Callable[[AsyncFakeGate], Any], **world: Any) -> AsyncFakeGate:
    """Told on an event loop; the gate as it is then."""

    async def telling() -> AsyncFakeGate:
        gate = AsyncFakeGate(FakeWorld(**world))
        await tell(gate)
        return gate

    return asyncio.run(telling())


def wrapped(error: Exception, outer: Exception | None = None) -> Exception:
    """As a provider's client raises it, from what its HTTP client raised; or another error from that."""
    try:
        raise outer or APIConnectionError() from error
    except (APIConnectionError, HTTPException) as raised:
        return raised
