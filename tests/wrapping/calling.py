"""Makes a call in any way, with a wrapped client or a plain one, against a stand-in of its provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
import openai
from providers import anthropic_api, openai_api
from providers.stand_in import Answer, Script, StandIn
from providers.turns import Turn
from wrapping.ways import Way

from tollkeeper.gate.sdk import acting_for
from tollkeeper.testing import AsyncFakeGate, FakeGate, FakeWorld

_KINDS: dict[tuple[str, bool], tuple[Any, Any]] = {
    ("anthropic", False): (anthropic.Anthropic, anthropic.DefaultHttpxClient),
    ("anthropic", True): (anthropic.AsyncAnthropic, anthropic.DefaultAsyncHttpxClient),
    ("openai", False): (openai.OpenAI, openai.DefaultHttpxClient),
    ("openai", True): (openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient),
}

AnyFake = FakeGate | AsyncFakeGate


class Caller:
    """One way to call. The client's own retries are off unless `max_retries` says otherwise."""

    def __init__(self, way: Way, api: StandIn, **options: Any) -> None:
        self.way = way
        self.api = api
        self.family = way.family.partition("-")[0]
        self._options = {"max_retries": 0, "timeout": 10, "base_url": api.url, **options}

    def fake(self, **world: Any) -> AnyFake:
        """A gate that this way's client can be wrapped for."""
        made = FakeWorld(**world)
        return AsyncFakeGate(made) if self.way.is_async else FakeGate(made)

    def answers(self, turn: Turn | None = None) -> Script:
        """The turn in the format of this way's provider."""
        if self.family == "anthropic":
            return anthropic_api.answers(turn)
        return openai_api.answers(turn)

    def unfinished(self, **turn: Any) -> Turn:
        """A turn whose stream brings all of its text, "abc", "def" and "ghi", and no final count."""
        before = {"anthropic-0": 3, "anthropic-1": 3, "openai-0": 1, "openai-1": 4}
        text = ("abc", "def", "ghi")
        return Turn(text=text, events=before[self.way.family] + len(text), **turn)

    def failing(self, status: int) -> Answer:
        """An error in the format of this way's provider; a retry of it comes at once."""
        if self.family == "anthropic":
            return anthropic_api.failing(status, "scripted", retry_after_ms="1")
        return openai_api.failing(status, "scripted", retry_after_ms="1")

    def call(
        self, gate: AnyFake | None = None, read: Callable[[Any], Any] | None = None, **wrap: Any
    ) -> Any:
        """What the call site gets; with a gate it acts for ann of acme, with a wrapped client."""
        read = read or self.way.read
        if self.way.is_async:
            return asyncio.run(asyncio.wait_for(self._acall(gate, read, wrap), 30))
        with self.client() as client:
            if gate is None:
                return read(client)
            assert isinstance(gate, FakeGate)
            wrapped = gate.wrap(client, **wrap)
            with acting_for(organization="acme", member="ann", surface="web"):
                return read(wrapped)

    def client(self) -> Any:
        """The library's client, which reads no certificates: that takes most of its making."""
        kind, transport = _KINDS[self.family, self.way.is_async]
        return kind(api_key="k", http_client=transport(verify=False), **self._options)

    async def _acall(
        self, gate: AnyFake | None, read: Callable[[Any], Any], wrap: dict[str, Any]
    ) -> Any:
        async with self.client() as client:
            if gate is None:
                return await read(client)
            assert isinstance(gate, AsyncFakeGate)
            wrapped = gate.wrap(client, **wrap)
            with acting_for(organization="acme", member="ann", surface="web"):
                return await read(wrapped)
