"""Cancels a task at any of the places where it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any


class Waits:
    """Awaits something, and at its n-th wait (from 0) throws a cancellation in. Counts the waits."""

    def __init__(self, inner: Coroutine[Any, Any, object], at: int | None) -> None:
        self._inner = inner
        self._at = at
        self.count = 0
        self.was_cancelled = False

    def __await__(self) -> Generator[Any, None, None]:
        steps = self._inner.__await__()
        try:
            waits_for = steps.send(None)
            while True:
                if self.count == self._at:
                    self.was_cancelled = True
                    self.count += 1
                    waits_for = steps.throw(asyncio.CancelledError())
                    continue
                self.count += 1
                yield waits_for
                waits_for = steps.send(None)
        except StopIteration:
            return


async def cancelled_at(make: Callable[[], Coroutine[Any, Any, object]], at: int | None) -> Waits:
    """Run it, cancelled at its n-th wait; None: not at all."""
    waits = Waits(make(), at)
    try:
        await _as_awaitable(waits)
    except asyncio.CancelledError:
        assert waits.was_cancelled
    return waits


async def _as_awaitable(waits: Awaitable[None]) -> None:
    await waits


def number_of_waits(make: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """How often it waits when nobody cancels it."""
    return asyncio.run(cancelled_at(make, None)).count
