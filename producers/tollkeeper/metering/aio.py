"""`AsyncEmitter`: the emitter for asyncio. It never blocks the event loop, not even for a sync.

Must not know the spool.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TypeVar

from tollkeeper.events.gate import GateEvent
from tollkeeper.events.ids import now_micros
from tollkeeper.log.port import Log
from tollkeeper.metering.emitter import Emitter, unanswered
from tollkeeper.metering.engine import EmitterStats, Engine
from tollkeeper.metering.intake import Announce, Asked, BeginAnew, full_in_memory
from tollkeeper.metering.segments import Sync
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.usage import Usage

T = TypeVar("T")


class AsyncEmitter:
    """Like `Emitter`, with `await`. Use it from any number of tasks, and from several event loops.

    A task that is cancelled while it waits for room withdraws its usage. Cancelled later, the usage
    may still be accepted: give it an event id of your own and emit it again by that id.
    """

    def __init__(
        self,
        log: Callable[[], Log],
        spool_dir: Path,
        *,
        settings: EmitterSettings | None = None,
        clock: Callable[[], int] = now_micros,
        sync: Sync = os.fdatasync,
    ) -> None:
        self.emitter = Emitter(log, spool_dir, settings=settings, clock=clock, sync=sync)
        """The same emitter, for threads that have no event loop."""

    async def emit(self, usage: Usage) -> str:
        """Make one usage durable; answers its event id."""
        return (await self.emit_many((usage,)))[0]

    async def emit_many(self, usages: Iterable[Usage]) -> list[str]:
        """Make usages durable with one write, all or none; answers their event ids in order."""
        entry = self.emitter.prepare(usages)
        if entry.usages:
            await self._ask(entry, entry.future)
        return [prepared.event_id for prepared in entry.usages]

    async def report(self, fact: GateEvent) -> None:
        """Make another fact than usage durable; it reaches the log as usage does, at least once."""
        entry = self.emitter.prepare_fact(fact)
        await self._ask(entry, entry.future)

    async def identity(self) -> str:
        """The id under which this process may have holds: see `Emitter.identity`."""
        known = self.emitter.start().identity
        if known is not None:
            return known
        asked = Announce(self.emitter.deadline(), Future())
        return await self._ask(asked, asked.future)

    async def begin_anew(self, emitter: str) -> bool:
        """Write no more as `emitter`, because it was retired; whether it was the current one."""
        asked = BeginAnew(emitter, self.emitter.deadline(), Future())
        return await self._ask(asked, asked.future)

    def ask_before_retiring(self, is_in_use: Callable[[str], bool]) -> None:
        """Retire no replaced emitter that has an open hold: see `Emitter.ask_before_retiring`."""
        self.emitter.ask_before_retiring(is_in_use)

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the log has acknowledged everything emitted so far; False when it hasn't."""
        return await asyncio.to_thread(self.emitter.flush, timeout_s)

    async def close(self, timeout_s: float = 10.0) -> bool:
        """Accept no more and wait for the log. False: something is left in the spool."""
        return await asyncio.to_thread(self.emitter.close, timeout_s)

    def stats(self) -> EmitterStats:
        """What this process's emitter holds and has done."""
        return self.emitter.stats()

    async def __aenter__(self) -> AsyncEmitter:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, asked: Asked, future: Future[T]) -> T:
        await self._hand_in(self.emitter.start(), asked)
        settings = self.emitter.settings
        answer = asyncio.wrap_future(future)
        try:
            async with asyncio.timeout(settings.full_timeout_s + settings.sync_timeout_s):
                return await answer
        except TimeoutError:
            raise unanswered(settings, was_withdrawn=future.cancel()) from None

    async def _hand_in(self, engine: Engine, asked: Asked) -> None:
        loop = asyncio.get_running_loop()
        while True:  # ends at the deadline
            room = asyncio.Event()

            def on_room(room: asyncio.Event = room) -> None:
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(room.set)

            if engine.offer(asked, on_room):
                return
            try:
                async with asyncio.timeout(max(0.0, asked.deadline - monotonic())):
                    await room.wait()
            except TimeoutError:
                raise full_in_memory(engine.stats().waiting_records) from None
            finally:
                engine.forget(asked)
