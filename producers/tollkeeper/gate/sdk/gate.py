"""`Gate`: what a product service asks before it spends. For threads; `AsyncGate` for asyncio."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from types import TracebackType
from typing import NotRequired, Required, Self, TypedDict, TypeVar, Unpack

from tollkeeper.events.ids import now_micros
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.redis_settings import load_redis_settings, redis_url
from tollkeeper.gate.sdk.asks import Ask, ask
from tollkeeper.gate.sdk.core import Core
from tollkeeper.gate.sdk.hold import Hold
from tollkeeper.gate.sdk.holding import Holding
from tollkeeper.gate.sdk.identity import Identity
from tollkeeper.gate.sdk.ports import Functions, Recorder
from tollkeeper.gate.sdk.recorder import EmitterRecorder
from tollkeeper.gate.sdk.settings import GateSettings
from tollkeeper.gate.sdk.stats import GateStats
from tollkeeper.gate.sdk.steps import Pause, drive
from tollkeeper.gate.sdk.wrapping.settings import WrapSettings
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.opening import open_emitter
from tollkeeper.rating.worst_case import CacheWrite

C = TypeVar("C")


class CallFields(TypedDict, total=False):
    """What is said of a call before it is made.

    The tokens or the cost: `input_tokens` is the whole prompt, whatever of it is cached;
    `max_output_tokens` is the request's own bound. `max_cost_usd` is decimal USD as text and goes before
    both. `cache_write` says that the request may write its prompt to the cache, for how long.
    `service_tier`, `speed` and `region` are `standard`, `standard` and `global` unless said, and
    `scopes` are further levels that have caps, as `project/p-1`.
    """

    organization: Required[str]
    member: Required[str]
    surface: Required[str]
    model: Required[str]
    input_tokens: NotRequired[int | None]
    max_output_tokens: NotRequired[int | None]
    max_cost_usd: NotRequired[str | Decimal | None]
    cache_write: NotRequired[CacheWrite | None]
    web_searches: NotRequired[int]
    service_tier: NotRequired[str]
    speed: NotRequired[str]
    region: NotRequired[str]
    scopes: NotRequired[tuple[str, ...]]


class Gate:
    """One a process, for any number of threads; it may be made before a fork.

    `functions` is Redis' URL or what asks it. The gate closes both it and the emitter.
    """

    def __init__(
        self,
        emitter: Emitter | Recorder,
        functions: str | Functions,
        *,
        settings: GateSettings | None = None,
        clock: Callable[[], int] = now_micros,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Pause = time.sleep,
        has_thread: bool = True,
    ) -> None:
        self._functions = functions_at(functions)
        recorder = EmitterRecorder(emitter) if isinstance(emitter, Emitter) else emitter
        self._core = Core(
            recorder,
            self._functions,
            settings or GateSettings(),
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
        """The gate as TOLLKEEPER_HOME, TOLLKEEPER_LOG and TOLLKEEPER_REDIS name it; close it at the end.

        Without the last two it is embedded, and a Valkey is started unless one runs for this home.
        InvalidInput: a setting can't be. GateUnavailable: the embedded Valkey can't be started.
        """
        url = redis_url(load_redis_settings(environ))
        return cls(open_emitter(environ), url, settings=settings)

    @property
    def core(self) -> Core:
        """What drives it without its thread: `core.tick()`."""
        return self._core

    @property
    def settings(self) -> GateSettings:
        """Its bounds."""
        return self._core.settings

    def hold(self, **call: Unpack[CallFields]) -> Hold:
        """Reserve what the call can cost at most. `Refused` names every reason.

        InvalidInput: the call can't be as it was said. Misuse: the gate is closed.
        """
        return self.hold_asked(ask(**call))

    def hold_asked(self, asked: Ask) -> Hold:
        """The same for a call that was checked before."""
        self._core.check_open()
        holding = Holding(self._core.session, asked)
        outcome = drive(holding.steps(), self._functions.run, self._pause)
        kept, policy = self._core.conclusions.of_hold(asked, outcome)
        return Hold(*(self._core, asked, kept, policy), run=self._functions.run, pause=self._pause)

    def wrap(
        self,
        client: C,
        *,
        default: Identity | None = None,
        settings: WrapSettings | None = None,
        allow: Collection[str] = (),
    ) -> C:
        """A client of `anthropic` or `openai` like this one, whose model calls are held and settled.

        No call site changes: with `acting_for(...)` around it, or for `default`, each call has one
        hold, retries included, and may raise `Refused` besides what it raised before. What may cost
        tokens and isn't understood raises Misuse, unless `allow` names its path. The client itself
        stays as it is.
        """
        from tollkeeper.gate.sdk.wrapping.clients import wrap  # it is made of gates

        return wrap(self, client, default=default, settings=settings, allow=allow)

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until holds are asked for; False when they aren't yet. `stats().trouble` says why.

        For the start of a service: otherwise its first hold waits, at most `start_wait_s`.
        """
        return drive(self._core.ready_steps(timeout_s), self._functions.run, self._pause)

    def stats(self) -> GateStats:
        """What it has done and has in flight, for metrics."""
        return self._core.stats()

    def close(self, timeout_s: float | None = None) -> bool:
        """Release what is open, deliver what is owed, close the emitter. False: something is left.

        What is left in the spool is durable, and sent by the next emitter there.
        """
        return self._core.close(timeout_s or self.settings.close_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def functions_at(functions: str | Functions) -> Functions:
    """Those at a URL, asked only where its epoch is about that very server; or those that were given."""
    if isinstance(functions, str):
        return GateFunctions(connect(functions, trusted_only=True))
    return functions
