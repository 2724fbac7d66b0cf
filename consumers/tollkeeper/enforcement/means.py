"""What every part of enforcement works with, handed to each as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from tollkeeper.enforcement.bounded import Deadline
from tollkeeper.enforcement.observing import Observer, Unobserved
from tollkeeper.enforcement.settings import EnforcementSettings
from tollkeeper.gate.functions import GateFunctions
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Log


@dataclass(frozen=True, slots=True)
class Means:
    """`clock` is microseconds since 1970, for what is written down; `monotonic` seconds, for all timers."""

    engine: Engine
    log: Log
    functions: GateFunctions
    clock: Callable[[], int]
    monotonic: Callable[[], float]
    settings: EnforcementSettings = EnforcementSettings()  # noqa: RUF009 - it is frozen
    observer: Observer = field(default_factory=Unobserved)

    def partition_of(self, organization: str) -> int:
        """The log partition that has the organization's records."""
        return partition_for(organization, self.log.partition_count)

    def deadline(self) -> Deadline:
        """By when a round, or a piece of catching up, has to leave off."""
        return Deadline(self.monotonic, self.settings.apply_within_s)
