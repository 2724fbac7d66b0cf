"""This process's enforcement: there from the moment in which the gate can be asked.

The embedded gate is started by who first needs it: until then there is nothing to follow, since a server
that is started anew is a new epoch. Safe to use from several threads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from tollkeeper.errors import Unavailable
from tollkeeper.gate.redis_settings import RedisSettings, open_functions, open_running_functions
from tollkeeper.ledger.effects import Effects
from tollkeeper.ledger.port import Position
from tollkeeper.logline import LogLine, failure

if TYPE_CHECKING:  # most commands do without redis-py's import
    from tollkeeper.enforcement.bundle import Enforcement
    from tollkeeper.gate.functions import GateFunctions

logger = logging.getLogger(__name__)

Build = Callable[["GateFunctions"], "Enforcement"]
LivePositions = Callable[[], tuple[int, dict[int, Position]]]


class Enforcing:
    """Opens enforcement once, when it can be."""

    def __init__(self, settings: RedisSettings, build: Build) -> None:
        self._settings = settings
        self._build = build
        self._lock = threading.Lock()
        self._enforcement: Enforcement | None = None

    def started(self) -> Enforcement:
        """Enforcement, on an embedded gate that is started where it doesn't run. Raises GateUnavailable."""
        with self._lock:
            if self._settings.is_embedded or self._enforcement is None:
                self._take(open_functions(self._settings))
            assert self._enforcement is not None
            return self._enforcement

    def running(self) -> Enforcement | None:
        """Enforcement; None as long as nobody has started the embedded gate. Raises GateUnavailable."""
        with self._lock:
            if self._enforcement is None:
                functions = open_running_functions(self._settings)
                if functions is not None:
                    self._take(functions)
            return self._enforcement

    def reconnect(self) -> None:
        """Ask over new connections from now on: a server that became a replica keeps those that it has."""
        with self._lock:
            if self._enforcement is not None:
                self._enforcement.means.functions.reconnect()

    def close(self) -> None:
        """Close the connections; the embedded gate lives on."""
        with self._lock:
            if self._enforcement is not None:
                self._enforcement.means.functions.close()
                self._enforcement = None

    def _take(self, functions: GateFunctions) -> None:
        if self._enforcement is None:
            self._enforcement = self._build(functions)
        else:
            functions.close()  # it was only to be started: the connections that are there find it


class LateFollower:
    """Follows a pipeline for an enforcement that may not be there yet (`pipeline.following.Follower`).

    `live_positions` reads where the live fold stands, and up to where Redis was told.
    """

    def __init__(self, enforcing: Enforcing, live_positions: LivePositions) -> None:
        self._enforcing = enforcing
        self._live_positions = live_positions
        self._followed: Enforcement | None = None
        self._owned: Collection[int] = ()

    @property
    def is_following(self) -> bool:
        """Whether Redis can be told; from then on what was folded before counts as not told."""
        if self._followed is None:
            self._follow(self._live_positions)
        return self._followed is not None

    def adopted(self, generation: int, positions: Mapping[int, Position]) -> None:
        """These partitions are this member's now."""
        self._owned = tuple(positions)
        if self._followed is not None:
            self._followed.applier.adopted(generation, positions)
        else:
            self._follow(lambda: (generation, dict(positions)))

    def folded(self, effects: Effects) -> None:
        """A round was committed."""
        if self._followed is not None:
            self._followed.applier.folded(effects)

    def applied(self) -> Mapping[int, int]:
        """Up to where Redis was told."""
        return {} if self._followed is None else self._followed.applier.applied()

    def _follow(self, positions_now: LivePositions) -> None:
        try:
            found = self._enforcing.running()
            if found is None:
                return
            generation, positions = positions_now()
        except Unavailable as away:
            logger.warning(LogLine("gate_not_followed", **failure(away)))
            return
        owned = {one: positions[one] for one in self._owned if one in positions}
        found.applier.adopted(generation, owned)
        self._followed = found
