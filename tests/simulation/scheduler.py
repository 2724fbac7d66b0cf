"""Many processes in one thread: a seed decides who goes on at each effect, who stalls and who dies.

Real code runs in greenlets. Wherever it would do something that others can see (ask Redis, append to the
log, begin a transaction, wait), it pauses, and the scheduler picks whoever goes on. The same seed gives
the same run, whatever the machine does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from greenlet import getcurrent, greenlet

BEGIN = 1_793_500_000_000_000
"""2026-11-01T02:26:40Z, in microseconds."""
MICROS_PER_S = 1_000_000
MOST_TRACED = 50_000


class Crash(BaseException):
    """The process ends here: whatever catches errors must not catch this."""


class Process:
    """What dies as one: its tasks share memory, and lose it together."""

    def __init__(self, scheduler: Scheduler, name: str, *, skew_micros: int = 0) -> None:
        self.scheduler = scheduler
        self.name = name
        self.is_alive = True
        self.skew_micros = skew_micros
        self.stalled_until = 0
        self.tasks: list[Task] = []

    def clock(self) -> int:
        """This machine's clock, which may be wrong."""
        return self.scheduler.wall + self.skew_micros

    def monotonic(self) -> float:
        """Seconds of a clock that is never set."""
        return (self.scheduler.now - BEGIN) / MICROS_PER_S

    def pause(self, what: str) -> None:
        """Others may go on here."""
        self.scheduler.pause(self, what, wake_at=0)

    def sleep(self, duration_s: float) -> None:
        """Others go on until so much time has passed."""
        until = self.scheduler.now + max(1, round(duration_s * MICROS_PER_S))
        self.scheduler.pause(self, "sleeps", wake_at=until)

    def stall(self, duration_s: float) -> None:
        """Get no processor for so long, all tasks of it, and not know."""
        self.stalled_until = self.scheduler.now + round(duration_s * MICROS_PER_S)

    def start(self, name: str, function: Callable[[], None]) -> None:
        """One more task of this process."""
        task = Task(self, name, function)
        self.tasks.append(task)
        self.scheduler.tasks.append(task)

    def kill(self) -> None:
        """SIGKILL. From outside of its tasks."""
        self.is_alive = False
        self.scheduler.note(self.name, "is killed")
        tasks, self.tasks = self.tasks, []
        for task in tasks:
            task.end()


class Task:
    """One thread of a process."""

    def __init__(self, process: Process, name: str, function: Callable[[], None]) -> None:
        self.process = process
        self.name = name
        self.wake_at = 0
        self._greenlet = greenlet(lambda: _guarded(function))

    @property
    def is_over(self) -> bool:
        return bool(self._greenlet.dead)

    @property
    def due_at(self) -> int:
        """When it may go on."""
        return max(self.wake_at, self.process.stalled_until)

    def go_on(self) -> None:
        """Run to the next pause."""
        self._greenlet.switch()

    def end(self) -> None:
        """Never go on."""
        if self._greenlet:  # one that never began has nothing to be thrown out of
            self._greenlet.throw(Crash)
        self.process.scheduler.tasks.remove(self)


def _guarded(function: Callable[[], None]) -> None:
    try:
        function()
    except Crash:
        return


class Scheduler:
    """Time, chance, and whose turn it is."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = BEGIN
        self.wall_ahead_micros = 0
        """What a right clock shows more than has passed here."""
        self.idle_factor = 1.0
        """How much longer threads rest when nothing is to be seen any more between their rounds."""
        self.tasks: list[Task] = []
        self.trace: deque[str] = deque(maxlen=MOST_TRACED)
        self.steps = 0
        self._current: Task | None = None
        self._hub = getcurrent()

    @property
    def wall(self) -> int:
        """What a right clock shows."""
        return self.now + self.wall_ahead_micros

    def note(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{(self.now - BEGIN) / MICROS_PER_S:12.6f} {who:12} {what}")

    def chance(self, one_in: int) -> bool:
        """True once in so many times."""
        return self.random.randrange(one_in) == 0

    def pause(self, process: Process, what: str, *, wake_at: int) -> None:
        """Called by a task: go on when it is its turn again. Outside of tasks it does nothing."""
        if self._current is None or getcurrent() is self._hub:
            return
        if not process.is_alive:
            raise Crash
        task = self._current
        self.note(f"{process.name}.{task.name}", what)
        task.wake_at = wake_at
        self._hub.switch()
        if not process.is_alive:
            raise Crash

    def step(self) -> bool:
        """Let one task go on; False when nobody is left."""
        self.steps += 1
        self.now += self.random.randrange(1, 400)
        ready = [task for task in self.tasks if task.due_at <= self.now]
        if not ready:
            if not self.tasks:
                return False
            self.now = min(task.due_at for task in self.tasks)
            ready = [task for task in self.tasks if task.due_at <= self.now]
        task = self.random.choice(ready)
        self._current = task
        try:
            task.go_on()
        finally:
            self._current = None
        if task.is_over and task in self.tasks:
            self.tasks.remove(task)
            task.process.tasks.remove(task)
        return True
