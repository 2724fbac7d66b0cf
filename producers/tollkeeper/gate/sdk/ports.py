"""What a session needs of Redis and of the spool, so that tests and the simulator can stand in for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from tollkeeper.errors import TollkeeperError
from tollkeeper.events.gate import GateEvent
from tollkeeper.gate.encoding import Call
from tollkeeper.metering.usage import Usage

A = TypeVar("A")


class Functions(Protocol):
    """The gate's functions, as `GateFunctions` asks them."""

    def tags(self) -> tuple[str, ...]:
        """The tags of all primaries."""

    def tag_of(self, organization: str) -> str:
        """The tag of the primary that has the organization. GateUnavailable: none has."""

    def follow(self, library: str) -> bool:
        """Ask this version of the functions from now on. False: its arguments are others."""

    def run(self, call: Call[A]) -> A:
        """The answer. GateUnavailable: whether the function ran is unknown."""

    def run_many(self, calls: Sequence[Call[Any]]) -> list[Any | TollkeeperError]:
        """The answer or the error of each."""

    def reconnect(self) -> None:
        """Ask over new connections from now on: the address may lead to another server."""

    def close(self) -> None:
        """Close the connections."""


class AsyncFunctions(Protocol):
    """The same for asyncio; what only the session asks, it asks in its thread."""

    def follow(self, library: str) -> bool:
        """Ask this version of the functions from now on. False: its arguments are others."""

    def reconnect(self) -> None:
        """Ask over new connections from now on: the address may lead to another server."""

    async def run(self, call: Call[A]) -> A:
        """The answer. GateUnavailable: whether the function ran is unknown."""

    async def close(self) -> None:
        """Close the connections."""


class Recorder(Protocol):
    """The spool. Nothing here waits: a future is done when the disk has confirmed, or says why it hasn't."""

    def identity(self) -> Future[str]:
        """The id of the current emitter, which the log is told of."""

    def begin_anew(self, emitter: str) -> None:
        """Write nothing more as this one."""

    def hand_in(self, usages: Sequence[Usage]) -> Future[None]:
        """Make usages durable, all or none; the same again with the same event ids charges once."""

    def report(self, facts: Sequence[GateEvent]) -> Future[None]:
        """Make other facts durable."""

    def mark(self) -> Callable[[], bool]:
        """Answers, from now on, whether the log has acknowledged everything that is durable now."""

    def close(self, timeout_s: float) -> bool:
        """Wait for the log and end. False: something is left in the spool."""
