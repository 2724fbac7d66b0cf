"""Kills, stops and continues the consumers of one group at random; the same seed gives the same plan."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable
from random import Random
from time import monotonic

import msgspec
from on_kafka.installation import Installation
from on_kafka.watching import Watch

KILLS, STOPS = "kill", "stop"


class Plan(msgspec.Struct, frozen=True):
    """One disturbance: what happens to which member, for how long a stop lasts, how long calm follows."""

    what: str
    member: int
    stopped_s: float
    calm_s: float


def plans(random: Random, members: int, session_timeout_s: float) -> Plan:
    """Stops end before and after the session does, calm is shorter and longer than a recovery takes."""
    return Plan(
        what=random.choice((KILLS, STOPS)),
        member=random.randrange(members),
        stopped_s=random.uniform(0.2, 2.0) * session_timeout_s,
        calm_s=random.choice((0.5, session_timeout_s + 3.0)),
    )


class Disturber:
    """Keeps `members` consumer processes of one group, and disturbs them."""

    def __init__(
        self,
        installation: Installation,
        watch: Watch,
        *,
        members: int,
        is_holding_up: Callable[[], bool] | None = None,
    ) -> None:
        self._installation = installation
        self._watch = watch
        self._is_holding_up = is_holding_up or (lambda: False)
        self.members = [installation.consumer() for _ in range(members)]
        self.done: list[Plan] = []

    def run(self, random: Random, session_timeout_s: float, duration_s: float) -> None:
        """Disturb for at least `duration_s`."""
        pacing = threading.Event()
        ends_at = monotonic() + duration_s
        while monotonic() < ends_at:
            plan = plans(random, len(self.members), session_timeout_s)
            if plan.what == KILLS:
                self._kill(plan.member)
            else:
                self._stop(plan, pacing)
            self.done.append(plan)
            pacing.wait(plan.calm_s)

    def _kill(self, number: int) -> None:
        """Kill, and let another process take its place."""
        member = self.members[number]
        member.kill()
        member.wait()
        self._watch.disturb()
        self.members[number] = self._installation.consumer()

    def _stop(self, plan: Plan, pacing: threading.Event) -> None:
        member = self.members[plan.member]
        member.send_signal(signal.SIGSTOP)
        self._watch.disturb()
        # SQLite has one lock for all: who is stopped with it stops everybody, whoever owns what. Such
        # a stop is kept short; it ends in the middle of a transaction, which is worth having.
        pacing.wait(0.3 if self._is_holding_up() else plan.stopped_s)
        member.send_signal(signal.SIGCONT)
        self._watch.disturb()

    def finish(self) -> list[int]:
        """Ask every member to end in order; answers their exit codes."""
        for member in self.members:
            member.send_signal(signal.SIGTERM)
        return [_ended(member) for member in self.members]


def _ended(member: subprocess.Popen[bytes]) -> int:
    return member.wait(30)
