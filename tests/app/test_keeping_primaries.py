"""A primary that doesn't answer keeps nobody else's lease from being renewed."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from support.waiting import eventually

from tollkeeper.app.gate_jobs import Keepers
from tollkeeper.errors import GateUnavailable


class Primaries:
    """Stands in for enforcement: one primary hangs until it is let go, and is away then."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.ticks = {"0": 0, "1": 0}
        self.means = SimpleNamespace(functions=SimpleNamespace(tags=lambda: ("0", "1")))

    def keeper(self, tag: str) -> Any:
        """Of one primary."""
        return SimpleNamespace(tick=lambda: self._tick(tag))

    def _tick(self, tag: str) -> None:
        self.ticks[tag] += 1
        if tag == "1":
            assert self.let_go.wait(30)
            raise GateUnavailable("it was away")


def test_one_that_hangs_is_asked_once_and_the_other_again_and_again() -> None:
    primaries: Any = Primaries()
    keepers = Keepers()
    try:
        for ticks in range(1, 6):
            keepers.tick(primaries)
            eventually(lambda: keepers._ticks["0"].done(), what="its end")
            eventually(lambda: primaries.ticks["1"] > 0, what="the other's begin")
            assert primaries.ticks == {"0": ticks, "1": 1}
        primaries.let_go.set()
        eventually(lambda: keepers._ticks["1"].done(), what="its end")
        with pytest.raises(GateUnavailable):
            keepers.tick(primaries)
        eventually(lambda: primaries.ticks == {"0": 6, "1": 2}, what="both again")
    finally:
        primaries.let_go.set()
        keepers.close()
