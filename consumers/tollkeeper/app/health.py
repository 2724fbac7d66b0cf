"""Whether this process does its work, judged by progress and not by signs of life.

A consumer may keep its membership for hours and fold nothing: so a partition is well only when it has
no lag or its position moves. Pure but for its lock; the clock is given. Must not know HTTP or metrics.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Literal

import msgspec

from tollkeeper.errors import Halted

Kind = Literal[
    "job_died", "job_stuck", "partition_stuck", "partition_halted", "service_away", "gate_closed"
]

LONGEST_PAUSE_S = 30.0
"""A job is never called stuck earlier: the drain's round and its pause may take half of it."""


class Standing(msgspec.Struct, frozen=True):
    """Where the fold of a partition stands, and where its log ends."""

    next_offset: int
    end_offset: int

    @property
    def lag_records(self) -> int:
        """What isn't folded; never below zero, since both are read one after the other."""
        return max(0, self.end_offset - self.next_offset)


class Reason(msgspec.Struct, frozen=True):
    """Why this process isn't well. `may_restart_help`: a new process may be, with nothing else done."""

    reason: Kind
    detail: str
    may_restart_help: bool
    partition: int | None = None


class Progress(msgspec.Struct, frozen=True):
    """A partition's position, and for how long it was seen to lag there."""

    standing: Standing
    still_s: float


class Health:
    """Told by jobs and sampler, asked by the endpoints; safe to use from several threads.

    `stuck_after_s` bounds how long a partition may lag without a move, a job may stay silent, and a
    service may be away.
    """

    def __init__(self, monotonic: Callable[[], float], *, stuck_after_s: float) -> None:
        self._monotonic = monotonic
        self._stuck_after_s = stuck_after_s
        self._lock = threading.Lock()
        self._turned_at: dict[str, float] = {}
        self._died: dict[str, str] = {}
        self._away: dict[tuple[str, str], float] = {}
        self._owned_since: dict[int, float] = {}
        self._halted: dict[int, str] = {}
        self._progress: dict[int, Progress] = {}
        self._sampled_at: float | None = None
        self._gates_closed: dict[str, tuple[float, str]] = {}

    def turned(self, job: str) -> dict[str, float]:
        """The job begins, or ended a round. Which services came back, after how long."""
        with self._lock:
            now = self._turned_at[job] = self._monotonic()
            back = [key for key in self._away if key[0] == job]
            return {key[1]: now - self._away.pop(key) for key in back}

    def died(self, job: str, cause: str) -> None:
        """The job ended by an error that it doesn't know."""
        with self._lock:
            self._died[job] = cause

    def away(self, job: str, service: str) -> bool:
        """The job found a service away, and goes on trying: that is a sign of life. Whether it is news."""
        with self._lock:
            now = self._turned_at[job] = self._monotonic()
            is_news = (job, service) not in self._away
            self._away.setdefault((job, service), now)
            return is_news

    def gate(self, primary: str, *, is_open: bool, detail: str) -> None:
        """Whether a primary grants, as this process keeps it."""
        with self._lock:
            if is_open:
                self._gates_closed.pop(primary, None)
            else:
                since, _ = self._gates_closed.get(primary, (self._monotonic(), ""))
                self._gates_closed[primary] = (since, detail)

    def owns(self, partitions: Collection[int]) -> None:
        """Only these partitions are this process's business."""
        with self._lock:
            now = self._monotonic()
            self._owned_since = {p: self._owned_since.get(p, now) for p in partitions}
            self._halted = {p: cause for p, cause in self._halted.items() if p in partitions}

    def halted(self, halted: Mapping[int, Halted]) -> None:
        """These of its partitions are stopped by name."""
        with self._lock:
            self._halted = {partition: str(cause) for partition, cause in halted.items()}

    def sampled(self, standings: Mapping[int, Standing]) -> None:
        """Every partition as measured now."""
        with self._lock:
            now = self._monotonic()
            passed_s = 0.0 if self._sampled_at is None else now - self._sampled_at
            self._sampled_at = now
            self._progress = {
                partition: _progress(self._progress.get(partition), standing, passed_s)
                for partition, standing in standings.items()
            }

    def unsampled(self) -> None:
        """Nothing could be measured: the time until the next sample is nobody's fault."""
        with self._lock:
            self._sampled_at = None

    def reasons(self) -> list[Reason]:
        """What is wrong now; nothing when all is well."""
        with self._lock:
            now = self._monotonic()
            return [
                *(Reason("job_died", f"{job}: {cause}", True) for job, cause in self._died.items()),
                *self._stuck_jobs(now),
                *self._stuck_partitions(now),
                *(
                    Reason("partition_halted", cause, False, partition)
                    for partition, cause in sorted(self._halted.items())
                ),
                *self._services_away(now),
                *self._closed_gates(now),
            ]

    def away_s(self) -> dict[tuple[str, str], float]:
        """For how long each job has found each service away."""
        with self._lock:
            now = self._monotonic()
            return {key: now - since for key, since in self._away.items()}

    @property
    def owned(self) -> list[int]:
        """The partitions that this process owns."""
        with self._lock:
            return sorted(self._owned_since)

    def _stuck_jobs(self, now: float) -> list[Reason]:
        silent = {job: now - at for job, at in self._turned_at.items()}
        return [
            Reason("job_stuck", f"{job} gave no sign of life for {silent_s:.0f} s", True)
            for job, silent_s in silent.items()
            if silent_s > max(self._stuck_after_s, LONGEST_PAUSE_S)
        ]

    def _stuck_partitions(self, now: float) -> list[Reason]:
        found = []
        for partition, owned_since in sorted(self._owned_since.items()):
            progress = self._progress.get(partition)
            if progress is None or partition in self._halted or not progress.standing.lag_records:
                continue
            still_s = min(progress.still_s, now - owned_since)
            if still_s > self._stuck_after_s:
                standing = progress.standing
                detail = (
                    f"{standing.lag_records} records wait at offset {standing.next_offset}, and "
                    f"nothing was folded for {still_s:.0f} s"
                )
                found.append(Reason("partition_stuck", detail, True, partition))
        return found

    def _services_away(self, now: float) -> list[Reason]:
        return [
            Reason("service_away", f"{service}, says {job}, for {now - since:.0f} s", False)
            for (job, service), since in self._away.items()
            if now - since > self._stuck_after_s
        ]

    def _closed_gates(self, now: float) -> list[Reason]:
        return [
            Reason("gate_closed", f"primary {primary}: {detail}, for {now - since:.0f} s", False)
            for primary, (since, detail) in sorted(self._gates_closed.items())
            if now - since > self._stuck_after_s
        ]


def _progress(before: Progress | None, standing: Standing, passed_s: float) -> Progress:
    """How long the partition has lagged at one place, counted between samples that both succeeded."""
    is_still = (
        before is not None
        and before.standing.lag_records > 0
        and standing.next_offset == before.standing.next_offset
    )
    return Progress(standing, before.still_s + passed_s if before and is_still else 0.0)
