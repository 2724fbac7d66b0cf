"""The gate's functions as a test sees them: at a tag of its own, in a server that is who the test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, TypeVar

from gate.servers import replaced
from redis import Redis

from tollkeeper.errors import GateUnavailable, TollkeeperError
from tollkeeper.gate.commands import Incarnation
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.functions import GateFunctions
from tollkeeper.gate.library import Library, lua_source

A = TypeVar("A")
INCARNATION = """\
  local told = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
  return told:match('\\nrun_id:(%w+)'), told:match('\\nmaster_replid:(%w+)')
"""


class Crash(BaseException):
    """The process ends here."""


class Functions(GateFunctions):
    """At a tag of the test's own; the server is who the test says.

    `before` and `after` are called with the name of each function, many at once being one after the
    other: they may raise, or do what somebody else does meanwhile, unseen by themselves.
    """

    def __init__(self, client: Redis, library: Library, tag: str) -> None:
        super().__init__(client, library)
        self._redis = client
        self._tag = tag
        self._here = f"tollkeeper-test:{tag}:incarnation"
        self.before: Callable[[str], None] | None = None
        self.after: Callable[[str], None] | None = None
        self.on_reconnect: Callable[[], None] = lambda: None
        self.become("run1")

    def run(self, call: Call[A]) -> A:
        """See GateFunctions."""
        self._pass(self.before, call)
        answer = super().run(call)
        self._pass(self.after, call)
        return answer

    def run_many(self, calls: Sequence[Call[A]]) -> list[A | TollkeeperError]:
        """See GateFunctions."""
        answers: list[A | TollkeeperError] = []
        for call in calls:
            try:
                answers.append(self.run(call))
            except TollkeeperError as error:
                answers.append(error)
        return answers

    def _pass(self, hook: Callable[[str], None] | None, call: Call[Any]) -> None:
        if hook is None:
            return
        kept = self.before, self.after
        self.before = self.after = None
        try:
            hook(call.function)
        finally:
            self.before, self.after = kept

    def reconnect(self) -> None:
        """See GateFunctions; connections are the test's to move."""
        self.on_reconnect()

    def be_led_to(self, other: Functions) -> None:
        """As a name that stands for another server from here on."""
        self._client, self._redis = other._client, other._redis

    def crash_at(self, number: int, *, is_after: bool) -> None:
        """The process ends before or after its call of this number, from 0."""
        left = count(number, -1)

        def hook(_: str) -> None:
            if next(left) == 0:
                raise Crash

        self.before, self.after = (None, hook) if is_after else (hook, None)

    def meanwhile(self, function: str, action: Callable[[], object], *, times: int = 1) -> None:
        """Before the next calls of this function somebody else does something."""
        left = [None] * times

        def hook(name: str) -> None:
            if name == function and left:
                left.pop()
                action()

        self.before = hook

    def be_away(self, *, is_heard: bool = False) -> None:
        """Until `be_back` nothing is answered; what is asked happens all the same when `is_heard`."""

        def hook(_: str) -> None:
            raise GateUnavailable("the test says so")

        self.before, self.after = (None, hook) if is_heard else (hook, None)

    def be_back(self) -> None:
        """Nothing happens at calls any more."""
        self.before = self.after = None

    def tag_of(self, organization: str) -> str:
        """The test's."""
        return self._tag

    def tags(self) -> tuple[str, ...]:
        """The test's."""
        return (self._tag,)

    def incarnation(self, *, tag: str = "") -> Incarnation:
        """Who the test says."""
        raw: Any = self._redis.get(self._here)
        return Incarnation(*raw.decode().split())

    def become(self, run_id: str, replication_id: str = "history1") -> None:
        """Another server answers from here on, with the same data."""
        self._redis.set(self._here, f"{run_id} {replication_id}")


def source_told_by(tag: str) -> str:
    """The functions, told by the test which server they are in."""
    told = f"  local told = redis.call('GET', 'tollkeeper-test:{tag}:incarnation')\n"
    return replaced(lua_source(), INCARNATION, f"{told}  return told:match('(%w+) (%w+)')\n")
