"""Measures from outside how long each partition waits for somebody who folds it."""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic

import msgspec
from on_kafka.installation import Installation

SAMPLE_S = 0.05


class Wait(msgspec.Struct, frozen=True):
    """How long the oldest unfolded record of a partition waited, and since the last disturbance."""

    partition: int
    waited_s: float
    undisturbed_s: float


class Watch:
    """Samples the log's ends and SQL's positions on a thread, from `start` to `stop`.

    The oldest unfolded record of a partition has waited at least since the first sample that saw the
    log's end past SQL's position. While records arrive on every partition all the time, a partition
    that nobody owns shows such a wait within a sample; so does one that is owned and not folded. The
    wait is therefore never shorter than the time without an owner, and usually longer.

    Disturbances are told by `disturb`: a wait counts from the last of them, since every kill, stop and
    return begins the group's recovery anew.
    """

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._ends: dict[int, deque[tuple[int, float]]] = {}
        self._disturbed_at = monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None
        self.worst: dict[int, Wait] = {}
        """The longest undisturbed wait of each partition."""
        self.longest_s = 0.0
        """The longest wait of any, disturbed or not."""
        self.samples = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def disturb(self) -> None:
        """Something was killed, stopped, continued or started right now."""
        self._disturbed_at = monotonic()

    def stop(self) -> None:
        """End; raises what went wrong while watching."""
        self._stopped.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stopped.wait(SAMPLE_S):
                self._sample()
        except BaseException as failure:
            self._failure = failure
            raise

    def _sample(self) -> None:
        disturbed_at = (
            self._disturbed_at
        )  # before the rest, so that a wait is never judged too mildly
        ends = self._installation.app.log.end_offsets()
        now = monotonic()
        positions = self._installation.next_offsets()
        for partition, end in ends.items():
            seen = self._ends.setdefault(partition, deque())
            if not seen or seen[-1][0] < end:
                seen.append((end, now))
            while seen and seen[0][0] <= positions[partition]:
                seen.popleft()
            since = seen[0][1] if seen else now
            self._note(Wait(partition, now - since, now - max(since, disturbed_at)))
        self.samples += 1

    def _note(self, wait: Wait) -> None:
        worst = self.worst.get(wait.partition)
        if worst is None or wait.undisturbed_s > worst.undisturbed_s:
            self.worst[wait.partition] = wait
        self.longest_s = max(self.longest_s, wait.waited_s)
