"""How the SDK's decisions are written once, for threads and for asyncio: as generators of what is to be done.

A decision yields a `Call` to be made, or a `Wait`, and is sent the answer, or thrown what went wrong; also
a cancellation, which it can't prevent but must not lose a hold to. Must not know Redis' clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

import msgspec

from tollkeeper.gate.encoding import Call

R = TypeVar("R")


class Wait(msgspec.Struct, frozen=True):
    """Nothing is to be done for so long."""

    seconds: float


Steps = Generator["Call[Any] | Wait", Any, R]
Run = Callable[[Call[Any]], object]
Pause = Callable[[float], None]
AsyncRun = Callable[[Call[Any]], Awaitable[object]]
AsyncPause = Callable[[float], Awaitable[None]]


def drive(steps: Steps[R], run: Run, pause: Pause) -> R:
    """Do what the steps say, in this thread; their result."""
    try:
        step = next(steps)
        while True:
            answer: object = None
            try:
                if isinstance(step, Wait):
                    pause(step.seconds)
                else:
                    answer = run(step)
            except BaseException as error:  # noqa: BLE001 - the steps decide; what they don't take goes on
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as ended:
        result: R = ended.value
        return result


async def drive_async(steps: Steps[R], run: AsyncRun, pause: AsyncPause) -> R:
    """The same in a task."""
    try:
        step = next(steps)
        while True:
            answer: object = None
            try:
                if isinstance(step, Wait):
                    await pause(step.seconds)
                else:
                    answer = await run(step)
            except BaseException as error:  # noqa: BLE001 - the steps decide; what they don't take goes on
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as ended:
        result: R = ended.value
        return result
