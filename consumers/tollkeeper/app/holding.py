"""Holds made from the command line: the SDK's own steps, for an emitter that no process keeps alive."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from secrets import token_hex
from typing import Any

from tollkeeper.app.command_line_emitter import CommandLineEmitter
from tollkeeper.app.inline import Inline, Said
from tollkeeper.app.wiring import App
from tollkeeper.errors import InvalidInput
from tollkeeper.gate.answers import HoldIdRefused
from tollkeeper.gate.commands import Request
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.hold_ids import hold_id
from tollkeeper.gate.redis_settings import open_functions
from tollkeeper.gate.sdk.asks import Ask
from tollkeeper.gate.sdk.book import Kept
from tollkeeper.gate.sdk.core import Core
from tollkeeper.gate.sdk.holding import Holding
from tollkeeper.gate.sdk.policies import Policy
from tollkeeper.gate.sdk.ports import Functions
from tollkeeper.gate.sdk.refused import Refused
from tollkeeper.gate.sdk.settings import GateSettings
from tollkeeper.gate.sdk.steps import drive

MICROS_PER_MILLI = 1_000
SETTINGS = GateSettings(warm_wait_s=10.0, start_wait_s=20.0, max_pause_s=0.1)
"""People wait longer than services: everything may have to be started and folded first."""


def hold(app: App, asked: Ask, *, suffix: str | None, said: Said) -> tuple[Kept, Policy | None]:
    """The hold; or that of a call which a policy lets through, without any money held.

    Raises Refused with every reason, GateUnavailable where the gate doesn't open. `said` hears what is
    waited for.
    """
    inline = Inline(app)
    emitter = CommandLineEmitter(app.settings.home, app.log)
    with closing(open_functions(app.settings.redis, trusted_only=True)) as functions:
        core = Core(emitter, functions, SETTINGS, clock=app.clock, has_thread=False)
        inline.open(core.tick, said=said)
        try:
            return _held(inline, core, emitter, asked, suffix)
        finally:
            core.reports.deliver()  # that it was refused, or let through by a policy
            inline.fold()


def _held(
    inline: Inline, core: Core, emitter: CommandLineEmitter, asked: Ask, suffix: str | None
) -> tuple[Kept, Policy | None]:
    functions = core.session.functions

    def pause(seconds: float) -> None:
        time.sleep(seconds)
        inline.step()
        core.tick()

    def begin(organization: str, request: Request) -> Kept | None:
        return _begun(core, emitter, organization, request, suffix=suffix)

    steps = Holding(core.session, asked, begin=begin).steps()
    run = functions.run if suffix is None else partial(_run_named, functions)
    try:
        return core.conclusions.of_hold(asked, drive(steps, run, pause))
    except Refused:
        core.tick()  # releases what may be held all the same
        raise


def _begun(
    core: Core,
    emitter: CommandLineEmitter,
    organization: str,
    request: Request,
    *,
    suffix: str | None,
) -> Kept | None:
    """A hold of its own; of a name, the same hold as when it was asked for within the hour."""
    now, name = core.session.redis_now(), core.session.emitter
    if now is None or name is None:
        return None
    issued = now // MICROS_PER_MILLI
    if suffix is not None:
        issued = emitter.issued_millis(f"{organization}/{name}/{suffix}", issued)
    # The emitter is shared by all commands of the home: counting from 1 isn't enough.
    text = hold_id(organization, name, issued_millis=issued, suffix=suffix or token_hex(6))
    kept = Kept(organization, name, request, text)
    core.session.book.add(kept)
    return kept


def _run_named(functions: Functions, call: Call[Any]) -> object:
    """The answer; InvalidInput when the name was used for something else, or its hold has ended."""
    answer: object = functions.run(call)
    if call.function == "hold" and isinstance(answer, HoldIdRefused):
        rule = {
            "other_request": "names a hold of other arguments: take another name",
            "used": "names a hold that has ended: take another name",
        }.get(answer.cause)
        if rule is not None:
            raise InvalidInput("--hold-id", rule)
    return answer
