"""`AsyncGate`: the gate for asyncio. It never blocks the event loop, not even for the spool."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Self, TypeVar, Unpack

from tollkeeper.events.ids import now_micros
from tollkeeper.gate.async_functions import AsyncGateFunctions, connect_async
from tollkeeper.gate.redis_settings import load_redis_settings, redis_url
from tollkeeper.gate.sdk.asks import Ask, ask
from tollkeeper.gate.sdk.core import Core
from tollkeeper.gate.sdk.gate import CallFields, functions_at
from tollkeeper.gate.sdk.hold import AsyncHold
from tollkeeper.gate.sdk.holding import Holding
from tollkeeper.gate.sdk.identity import Identity
from tollkeeper.gate.sdk.ports import AsyncFunctions, Functions, Recorder
from tollkeeper.gate.sdk.recorder import EmitterRecorder
from tollkeeper.gate.sdk.settings import GateSettings
from tollkeeper.gate.sdk.stats import GateStats
from tollkeeper.gate.sdk.steps import AsyncPause, drive_async
from tollkeeper.gate.sdk.wrapping.settings import WrapSettings
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.opening import open_emitter

C = TypeVar("C")


class AsyncGate:
    """One a process and event loop. Its upkeep has a thread of its own, and connections of its own.

    So it stays alive at Redis while the loop is busy. It takes a plain `Emitter`, and closes it.
    """

    def __init__(
        self,
        emitter: Emitter | Recorder,
        functions: str | Functions,
        async_functions: AsyncFunctions | None = None,
        *,
        settings: GateSettings | None = None,
        clock: Callable[[], int] = now_micros,
        monotonic: Callable[[], float] = time.monotonic,
        pause: AsyncPause = asyncio.sleep,
        has_thread: bool = True,
    ) -> None:
        if async_functions is None:
            if not isinstance(functions, str):
                raise TypeError("async_functions must be given, or Redis' URL instead of both")
            async_functions = AsyncGateFunctions(connect_async(functions, trusted_only=True))
        self._functions = functions_at(functions)
        self._async_functions = async_functions
        recorder = EmitterRecorder(emitter) if isinstance(emitter, Emitter) else emitter
        self._core = Core(
            recorder,
            self._functions,
            settings or GateSettings(),
            follow=self._follow,
            reconnect=self._reconnect,
            clock=clock,
            monotonic=monotonic,
            has_thread=has_thread,
        )
        if isinstance(emitter, Emitter):
            emitter.ask_before_retiring(self._core.session.is_in_use)
        self._pause = pause

    @classmethod
    def open(
        cls, environ: Mapping[str, str] = os.environ, *, settings: GateSettings | None = None
    ) -> Self:
        """The gate as the environment names it; see `Gate.open`. It may wait for Valkey to start."""
        return cls(
            open_emitter(environ), redis_url(load_redis_settings(environ)), settings=settings
        )

    @property
    def core(self) -> Core:
        """What drives it without its thread: `core.tick()`."""
        return self._core

    @property
    def settings(self) -> GateSettings:
        """Its bounds."""
        return self._core.settings

    async def hold(self, **call: Unpack[CallFields]) -> AsyncHold:
        """Reserve what the call can cost at most. `Refused` names every reason.

        Cancelled while it waits, it leaves nothing held: what Redis may have is released.
        """
        return await self.hold_asked(ask(**call))

    async def hold_asked(self, asked: Ask) -> AsyncHold:
        """The same for a call that was checked before."""
        self._core.check_open()
        holding = Holding(self._core.session, asked)
        run = self._async_functions.run
        outcome = await drive_async(holding.steps(), run, self._pause)
        kept, policy = self._core.conclusions.of_hold(asked, outcome)
        return AsyncHold(self._core, asked, kept, policy, run=run, pause=self._pause)

    def wrap(
        self,
        client: C,
        *,
        default: Identity | None = None,
        settings: WrapSettings | None = None,
        allow: Collection[str] = (),
    ) -> C:
        """An asyncio client of `anthropic` or `openai` whose model calls are held; see `Gate.wrap`."""
        from tollkeeper.gate.sdk.wrapping.clients import wrap  # it is made of gates

        return wrap(self, client, default=default, settings=settings, allow=allow)

    async def wait_until_ready(self, timeout_s: float) -> bool:
        """See `Gate.wait_until_ready`."""
        return await drive_async(
            self._core.ready_steps(timeout_s), self._async_functions.run, self._pause
        )

    def stats(self) -> GateStats:
        """What it has done and has in flight, for metrics."""
        return self._core.stats()

    async def close(self, timeout_s: float | None = None) -> bool:
        """Release what is open, deliver what is owed, close the emitter. False: something is left."""
        timeout_s = timeout_s or self.settings.close_timeout_s
        try:
            return await asyncio.to_thread(self._core.close, timeout_s)
        finally:
            await self._async_functions.close()

    def _follow(self, library: str) -> bool:
        return self._async_functions.follow(library) and self._functions.follow(library)

    def _reconnect(self) -> None:
        self._async_functions.reconnect()
        self._functions.reconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
