"""Who asks the gate, in threads or in asyncio, with connections that last from call to call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeVar

from tollkeeper.errors import TollkeeperError
from tollkeeper.gate.async_functions import AsyncClient, AsyncGateFunctions, connect_async
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.library import Library

A = TypeVar("A")
WAYS = ("in threads", "in asyncio")


class Asking(Protocol):
    """What both can do."""

    def run(self, call: Call[A]) -> A:
        """One call."""

    def run_many(self, calls: Sequence[Call[A]]) -> list[A | TollkeeperError]:
        """Many at once."""

    def tag_of(self, organization: str) -> str:
        """The primary's tag."""

    def reconnect(self) -> None:
        """New connections."""

    def close(self) -> None:
        """The connections."""


class InAsyncio:
    """The asynchronous functions, asked from outside, in one loop."""

    def __init__(self, url: str, library: Library | None, *, trusted_only: bool) -> None:
        self._loop = asyncio.Runner()
        client = self._loop.run(_made(url, trusted_only))
        self._gate = AsyncGateFunctions(client, library)

    def run(self, call: Call[A]) -> A:
        """One call."""
        return self._loop.run(self._gate.run(call))

    def run_many(self, calls: Sequence[Call[A]]) -> list[A | TollkeeperError]:
        """Many at once."""
        return self._loop.run(self._gate.run_many(calls))

    def tag_of(self, organization: str) -> str:
        """The primary's tag."""
        return self._gate.tag_of(organization)

    def reconnect(self) -> None:
        """New connections."""
        self._gate.reconnect()

    def close(self) -> None:
        """The connections and the loop."""
        self._loop.run(self._gate.close())
        self._loop.close()


async def _made(url: str, trusted_only: bool) -> AsyncClient:
    return connect_async(url, trusted_only=trusted_only)


def asking(
    way: str, url: str, library: Library | None = None, *, trusted_only: bool = False
) -> Asking:
    """Somebody who asks in one of the WAYS."""
    if way == "in asyncio":
        return InAsyncio(url, library, trusted_only=trusted_only)
    return GateFunctions(connect(url, trusted_only=trusted_only), library)
