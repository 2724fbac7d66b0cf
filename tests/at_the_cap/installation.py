"""A whole Tollkeeper of real processes around a cap, and what must be so when they have ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from at_the_cap.audit import Audit, CapAsked, Entry, Journal, audited
from at_the_cap.service import MEMBERS, MODEL, SURFACE
from sqlalchemy import func, select
from support import homes
from support.waiting import eventually

from tollkeeper.app.gate_looking import look_at_primaries, running_functions
from tollkeeper.app.jobs import lag_of
from tollkeeper.app.open_holds import list_holds
from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.errors import GateUnavailable
from tollkeeper.events.ids import now_micros
from tollkeeper.events.organization import CapScope
from tollkeeper.gate.amounts import NANOS_PER_MICRO, spent_micros
from tollkeeper.gate.sdk import Gate, Refused
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import charge
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    Command,
    CommandContext,
    OpenOrganization,
    SetCap,
)
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Done

READY_S = 90.0
ENDED_S = 120.0
QUIET_S = 90.0
CREDITS_NANOS = 1_000_000_000_000
MEMBER_SHARE = 0.4
"""Of the organization's cap: of four members one or the other comes to its own cap first."""
TESTS = Path(__file__).parents[1]


class Service:
    """A product service in a process of its own, and the journal that it leaves."""

    def __init__(self, process: subprocess.Popen[str], journal: Path) -> None:
        self.process = process
        self.journal = Journal(journal)

    def wait_until_ready(self) -> None:
        """Until it asks for holds."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def stop(self) -> dict[str, Any]:
        """Let it end in order; its figures."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.stdout is not None
        said = self.process.stdout.read()
        assert self.process.wait(ENDED_S) == 0
        figures: dict[str, Any] = json.loads(said)
        return figures

    def kill(self) -> None:
        """At once."""
        self.process.kill()
        self.process.wait(ENDED_S)

    def count(
        self,
        *kinds: str,
        since_ns: int = 0,
        reasons: Collection[str] = (),
        organizations: Collection[str] = (),
    ) -> int:
        """How many such entries there are until now. It must be alive."""
        assert self.process.poll() is None, "the service broke"
        return sum(
            entry.kind in kinds
            and entry.at_ns >= since_ns
            and (not reasons or entry.hold_id in reasons)
            and (not organizations or entry.organization in organizations)
            for entry in self.journal.refresh()
        )


class Installation:
    """A home, its consumers and services. All of them find Redis at `redis`, unless told otherwise."""

    def __init__(self, folder: Path, redis: str, **settings: object) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        lines = {"redis": redis, "session_timeout_s": "1.5", **settings}
        text = "".join(f'{name} = "{value}"\n' for name, value in lines.items())
        (self.home / homes.CONFIG).write_text(text, encoding="utf-8")
        self.app = App(load_settings(homes.settings_of(self.home)))
        self.organizations: list[str] = []
        self.caps: list[CapAsked] = []
        self.services: list[Service] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._commands = 0

    def open(self, *organizations: str) -> None:
        """Set up, with these organizations, their members, credits, and caps of one micro-USD."""
        self.app.set_up()
        for name in organizations:
            self._handle(
                OpenOrganization(organization=name, plan="enterprise_self_serve", owner=MEMBERS[0]),
                BuyCredits(organization=name, credit_nanos=CREDITS_NANOS),
                *(AddMember(organization=name, member=member) for member in MEMBERS[1:]),
            )
            self.organizations.append(name)
            self.raise_caps(name, 1)

    def raise_caps(self, organization: str, micros: int) -> None:
        """The organization's cap, and that of each member at its share."""
        member_micros = max(1, int(micros * MEMBER_SHARE))
        asked = CapAsked(time.monotonic_ns(), organization, micros, member_micros)
        self.caps.append(asked)
        scopes: tuple[tuple[CapScope, int], ...] = (
            ("organization", micros),
            ("member_default", member_micros),
        )
        for scope, cap_micros in scopes:
            self._handle(
                SetCap(
                    organization=organization,
                    scope=scope,
                    setting="capped",
                    cap_nanos=cap_micros * NANOS_PER_MICRO,
                )
            )

    def lift_member_caps(self, organization: str, micros: int) -> None:
        """The organization's cap alone counts; nobody audits that."""
        self._handle(
            SetCap(organization=organization, scope="member_default", setting="unlimited"),
            SetCap(
                organization=organization,
                scope="organization",
                setting="capped",
                cap_nanos=micros * NANOS_PER_MICRO,
            ),
        )

    def consume(self, *more: str, redis: str = "") -> subprocess.Popen[str]:
        """Start a `tollkeeper run`."""
        return self._start(homes.command("run", *more), redis)

    def serve(self, callers: int, way: str, *organizations: str, redis: str = "") -> Service:
        """Start a product service whose callers call in these organizations, or in all."""
        journal = self.folder / f"journal-{len(self.services)}"
        words = [journal, callers, way, len(self.services)]
        words += organizations or self.organizations
        command = [sys.executable, "-m", "at_the_cap.service", *map(str, words)]
        service = Service(self._start(command, redis), journal)
        self.services.append(service)
        return service

    def hold_for_ever(self, usd: str) -> subprocess.Popen[str]:
        """A service that holds so much in each organization until it is killed."""
        module = "at_the_cap.child_holder"
        process = self._start([sys.executable, "-m", module, usd, *self.organizations], "")
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    def wait_for_grants(
        self,
        count: int,
        *,
        what: str,
        by: Sequence[Service] = (),
        organizations: Collection[str] = (),
        from_s: float = 0.0,
    ) -> None:
        """Until that many more holds are granted from now, or from some seconds later on.

        To all services and in all organizations, or to these and in these.
        """
        since = time.monotonic_ns() + round(from_s * 1e9)
        services = by or self.services

        def are_granted() -> bool:
            found = [
                one.count("granted", since_ns=since, organizations=organizations)
                for one in services
            ]
            return sum(found) >= count

        eventually(are_granted, QUIET_S, what=what)

    def wait_for_epoch(self, epoch: int) -> None:
        """Until every primary grants holds in that epoch, or in a later one."""

        def is_open() -> bool:
            self.app.enforcing.reconnect()  # the address may have been led elsewhere
            try:
                primaries = look_at_primaries(running_functions(self.app))
            except GateUnavailable:
                return False
            return all(one.epoch >= epoch and one.grants for one in primaries)

        eventually(is_open, QUIET_S, what=f"epoch {epoch}")

    def wait_for_the_edge(self, organizations: Collection[str] = ()) -> None:
        """Until every service was told again and again that a cap of each of these is reached, or of all."""
        since = time.monotonic_ns()
        limits = ("organization_cap", "member_cap")

        def is_there() -> bool:
            return all(
                one.count("refused", since_ns=since, reasons=limits, organizations=[name]) >= 5
                for one in self.services
                for name in organizations or self.organizations
            )

        eventually(is_there, QUIET_S, what="a cap that is reached")

    def wait_until_quiet(self) -> None:
        """All is folded, and no hold is left."""
        eventually(lambda: not lag_of(self.app), QUIET_S, what="the fold")
        for name in self.organizations:
            eventually(partial(self._has_no_holds, name), QUIET_S, what=f"no hold of {name}")

    def audit(self) -> Audit:
        """What the services wrote down, against the caps and the ledger."""
        entries = self._entries()
        charged = self._charged()
        ended = {entry.hold_id for entry in entries if entry.kind == "settled"}
        begun = {entry.hold_id for entry in entries if entry.kind == "settling"}
        twice = {hold_id: count for hold_id, (count, _) in charged.items() if count != 1}
        assert not twice, twice
        assert not ended - charged.keys(), "what is durable is charged"
        assert not charged.keys() - begun, "and nothing else"
        micros = {hold_id: spent_micros(nanos) for hold_id, (_, nanos) in charged.items()}
        found = audited(entries, self.caps, micros)
        assert not found.overspent, found.overspent[:5]
        return found

    def assert_all_is_right(self) -> Audit:
        """Once it is quiet: nothing overspent or lost, what is left granted, Redis as SQL."""
        self.wait_until_quiet()
        found = self.audit()
        self.assert_exact_at_the_edge()
        self.wait_until_quiet()
        self.assert_reconciled()
        return found

    def assert_reconciled(self) -> None:
        """Redis says what SQL says, of every organization."""
        self._warm()
        told = homes.run(self.home, "reconcile", "--json")
        found = json.loads(told.stdout)
        assert (told.returncode, found["findings"]) == (0, []), told
        assert found["equal"] == len(self.organizations), found

    def _warm(self) -> None:
        """As the next hold would: what was told late on a busy machine is unknown until then."""
        self.app.enforcing.reconnect()  # the address may have been led elsewhere
        enforcement = self.app.enforcing.started()
        for name in self.organizations:
            warmer = enforcement.warmer(enforcement.means.functions.tag_of(name))
            assert warmer.warm([name], now=now_micros()) == 1

    def assert_exact_at_the_edge(self) -> None:
        """Of every organization's cap just what is left is granted, and not a micro-USD more."""
        environ = homes.settings_of(self.home)
        with Gate.open(environ) as gate:
            assert gate.wait_until_ready(READY_S), gate.stats().trouble
            for name in self.organizations:
                cap = max(one.organization_micros for one in self.caps if one.organization == name)
                self._handle(SetCap(organization=name, scope="member_default", setting="unlimited"))
                left = cap - self._spent(name)
                self._assert_left(gate, name, left)

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
            process.wait(ENDED_S)
        self.app.close()

    def _assert_left(self, gate: Gate, organization: str, left: int) -> None:
        def asks(micros: int) -> str:
            usd = f"{micros // 1_000_000}.{micros % 1_000_000:06d}"
            try:
                gate.hold(
                    organization=organization,
                    member=MEMBERS[0],
                    surface=SURFACE,
                    model=MODEL,
                    max_cost_usd=usd,
                ).release()
            except Refused as refused:
                return refused.reasons[0].reason
            return "granted"

        if left:
            # The member's cap is gone once the command is folded and applied.
            eventually(lambda: asks(left) == "granted", QUIET_S, what=f"a hold of {left}")
        eventually(lambda: asks(left + 1) != "unavailable", QUIET_S, what="an answer")
        assert asks(left + 1) == "organization_cap"

    def _start(self, command: list[str], redis: str) -> subprocess.Popen[str]:
        environment = homes.environment(self.home)
        environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(TESTS)])
        if redis:
            environment["TOLLKEEPER_REDIS"] = redis
        with (self.folder / f"errors-{len(self._processes)}").open("wb") as errors:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._processes.append(process)
        return process

    def _handle(self, *commands: Command) -> None:
        for command in commands:
            self._commands += 1
            context = CommandContext(actor="operator", command_id=f"cmd-{self._commands}")
            outcome = self.app.organizations.handle(command, context)
            assert isinstance(outcome, Done), outcome

    def _entries(self) -> list[Entry]:
        return [entry for one in self.services for entry in one.journal.refresh()]

    def _has_no_holds(self, organization: str) -> bool:
        self.app.enforcing.reconnect()  # the address may have been led elsewhere
        return not list_holds(self.app, organization)

    def _charged(self) -> dict[str, tuple[int, int]]:
        """How many charges, and how many nano-USD, by hold."""
        columns = charge.c.hold_id, func.count(), func.sum(charge.c.charge_nanos)
        with reading(self.app.engine) as connection:
            query = select(*columns).where(
                charge.c.generation == live_generation(connection), charge.c.hold_id.is_not(None)
            )
            rows = connection.execute(query.group_by(charge.c.hold_id))
            return {hold_id: (count, int(nanos)) for hold_id, count, nanos in rows}

    def _spent(self, organization: str) -> int:
        with reading(self.app.engine) as connection:
            nanos = connection.execute(
                select(func.sum(charge.c.charge_nanos)).where(
                    charge.c.generation == live_generation(connection),
                    charge.c.organization == organization,
                )
            ).scalar_one()
        return spent_micros(int(nanos or 0))


@contextmanager
def installation(
    folder: Path, redis: str, *organizations: str, **settings: object
) -> Iterator[Installation]:
    """Set up and opened; everything that it started ends with it."""
    made = Installation(folder, redis, **settings)
    try:
        made.open(*organizations)
        yield made
    finally:
        made.close()
