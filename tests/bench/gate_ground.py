"""A whole installation with a gate: Kafka, PostgreSQL, a Redis of its own, and a `tollkeeper run`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

from bench.bench_latency import running
from bench.bench_services import Ground, ground
from services.redis_local import LocalRedis, local_valkey, why_unavailable
from support import homes
from support.waiting import eventually

from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.errors import Unavailable
from tollkeeper.gate.answers import EpochKey
from tollkeeper.gate.encoding import read_epoch
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.sdk import Gate
from tollkeeper.organizations.commands import Command, CommandContext, OpenOrganization
from tollkeeper.outbox.deciding import Done

OPEN_WITHIN_S = 60.0
OWNER = "owner"
PLAN = "enterprise_self_serve"
MODEL = "claude-sonnet-5-5"
CALL: dict[str, Any] = {"member": OWNER, "surface": "web", "model": MODEL}


class Installation:
    """Settings for its processes; in this process an app for commands, and gates as services have them."""

    def __init__(self, made: Ground, sql: str, server: LocalRedis) -> None:
        self.made = made
        self.sql = sql
        self.server = server
        self.environment = {**made.environment(sql), "TOLLKEEPER_REDIS": server.address}
        self._stack = ExitStack()

    @cached_property
    def app(self) -> App:
        """For commands and queries."""
        app = App(load_settings(self.environment_of_settings))
        self._stack.callback(app.close)
        return app

    @cached_property
    def functions(self) -> GateFunctions:
        """To look at the gate."""
        functions = GateFunctions(connect(self.server.address))
        self._stack.callback(functions.close)
        return functions

    @property
    def environment_of_settings(self) -> dict[str, str]:
        """Tollkeeper's own part of the environment."""
        return {
            name: value
            for name, value in self.environment.items()
            if name.startswith("TOLLKEEPER_") and name != "TOLLKEEPER_FAILPOINTS"
        }

    @contextmanager
    def kept(self) -> Iterator[None]:
        """`tollkeeper run` until the end, the gate open."""
        with running(self.environment, *homes.command("run", "--log-level", "error")):
            eventually(self.is_open, OPEN_WITHIN_S, what="an open gate")
            yield

    def is_open(self) -> bool:
        """Whether the primary may grant."""
        try:
            key = self.functions.run(read_epoch())
        except Unavailable:
            return False
        return isinstance(key, EpochKey) and key.phase == "open" and key.lease_until > key.now

    @contextmanager
    def gate(self) -> Iterator[Gate]:
        """A service's own gate, ready to hold."""
        with Gate.open(self.environment_of_settings) as gate:
            assert gate.wait_until_ready(OPEN_WITHIN_S), gate.stats().trouble
            yield gate

    def done(self, command: Command) -> None:
        """Carry a command out as the operator; it is done when this returns."""
        context = CommandContext(actor="operator", command_id=f"bench-{secrets.token_hex(8)}")
        outcome = self.app.organizations.handle(command, context)
        assert isinstance(outcome, Done), outcome

    def open(self, organization: str) -> None:
        """Open an organization, prepaid."""
        self.done(OpenOrganization(organization=organization, plan=PLAN, owner=OWNER))

    def close(self) -> None:
        """Close what was opened here."""
        self._stack.close()


def epoch_of(functions: GateFunctions) -> int:
    """The one that the server is in."""
    key = functions.run(read_epoch())
    assert isinstance(key, EpochKey)
    return key.epoch


def own_redis() -> LocalRedis:
    """This machine's Redis, else the Valkey of the embedded mode; not started."""
    return local_valkey() if why_unavailable() else LocalRedis()


@contextmanager
def installation(events: int) -> Iterator[Installation]:
    """Everything set up, with so much usage on the log, and nobody running yet."""
    with ExitStack() as stack:
        made = stack.enter_context(ground(events))
        sql = stack.enter_context(made.database())
        server = own_redis()
        stack.callback(server.close)
        server.start()
        installed = Installation(made, sql, server)
        stack.callback(installed.close)
        yield installed
