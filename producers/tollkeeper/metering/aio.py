"""`AsyncEmitter`: the emitter for asyncio. It never blocks the event loop, not even for a sync.

Must not know the spool.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType

from tollkeeper.events.ids import now_micros
from tollkeeper.log.port import Log
from tollkeeper.metering.emitter import Emitter, unanswered
from tollkeeper.metering.engine import EmitterStats
from tollkeeper.metering.intake import Entry, Intake, full_in_memory
from tollkeeper.metering.segments import Sync
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.metering.usage import Usage


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
        self._emitter = Emitter(log, spool_dir, settings=settings, clock=clock, sync=sync)

    async def emit(self, usage: Usage) -> str:
        """Make one usage durable; answers its event id."""
        return (await self.emit_many((usage,)))[0]

    async def emit_many(self, usages: Iterable[Usage]) -> list[str]:
        """Make usages durable with one write, all or none; answers their event ids in order."""
        entry = self._emitter.prepare(usages)
        if entry.usages:
            await self._hand_in(self._emitter.start().intake, entry)
            await self._wait_for(entry)
        return [prepared.event_id for prepared in entry.usages]

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the log has acknowledged everything emitted so far; False when it hasn't."""
        return await asyncio.to_thread(self._emitter.flush, timeout_s)

    async def close(self, timeout_s: float = 10.0) -> bool:
        """Accept no more and wait for the log. False: something is left in the spool."""
        return await asyncio.to_thread(self._emitter.close, timeout_s)

    def stats(self) -> EmitterStats:
        """What this process's emitter holds and has done."""
        return self._emitter.stats()

    async def __aenter__(self) -> AsyncEmitter:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _hand_in(self, intake: Intake, entry: Entry) -> None:
        loop = asyncio.get_running_loop()
        while True:  # ends at the entry's deadline
            room = asyncio.Event()

            def on_room(room: asyncio.Event = room) -> None:
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(room.set)

            if intake.offer(entry, on_room):
                return
            try:
                async with asyncio.timeout(max(0.0, entry.deadline - monotonic())):
                    await room.wait()
            except TimeoutError:
                raise full_in_memory(intake.records) from None
            finally:
                intake.forget(entry)

    async def _wait_for(self, entry: Entry) -> None:
        settings = self._emitter.settings
        answer = asyncio.wrap_future(entry.future)
        try:
            async with asyncio.timeout(settings.full_timeout_s + settings.sync_timeout_s):
                await answer
        except TimeoutError:
            raise unanswered(settings, was_withdrawn=entry.future.cancel()) from None
