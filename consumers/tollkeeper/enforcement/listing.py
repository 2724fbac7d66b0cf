"""Writing to Redis' list who may hold, as the log says it."""

from __future__ import annotations

from collections.abc import Sequence

from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.functions import GateFunctions
from tollkeeper.ledger.effects import EpochRow

AT_ONCE = 1_000
"""Names in one call, so that none takes long."""


def list_emitters(
    functions: GateFunctions,
    epoch: int,
    *,
    started: Sequence[str],
    retired: Sequence[str],
    tag: str,
    asks: bool = False,
) -> bool:
    """Whether the primary has them all now; False when it doesn't take calls of this epoch.

    Retired ones first: a start that another partition tells of must find its end there. `asks` also when
    there is nobody to tell of.
    """
    calls = [
        encoding.list_emitters(epoch, retired=retired[at : at + AT_ONCE], tag=tag)
        for at in range(0, len(retired), AT_ONCE)
    ]
    calls += [
        encoding.list_emitters(epoch, started=started[at : at + AT_ONCE], tag=tag)
        for at in range(0, len(started), AT_ONCE)
    ]
    if asks and not calls:
        calls = [encoding.list_emitters(epoch, tag=tag)]
    return all(isinstance(functions.run(call), a.Done) for call in calls)


def epoch_of(row: EpochRow) -> tuple[object, ...]:
    """More than its number, which a database that was set back counts again."""
    return row.epoch, row.run_id, row.replication_id, row.begun_at


class EmitterList:
    """A primary's list for who tells it of all emitters again and again. Not for several threads.

    Remembers what was taken, since those that were ever retired are many after some months. Within an epoch
    nothing of it gets lost; the next one begins with an empty list. It asks in any case: another epoch may
    have begun.
    """

    def __init__(self, functions: GateFunctions, tag: str) -> None:
        self._functions = functions
        self._tag = tag
        self._epoch: tuple[object, ...] = ()
        self._started: set[str] = set()
        self._retired: set[str] = set()

    def tell(self, row: EpochRow, *, started: Sequence[str], retired: Sequence[str]) -> bool:
        """See `list_emitters`."""
        if epoch_of(row) != self._epoch:
            self._epoch, self._started, self._retired = epoch_of(row), set(), set()
        new_started = [one for one in started if one not in self._started]
        new_retired = [one for one in retired if one not in self._retired]
        names = {"started": new_started, "retired": new_retired}
        if not list_emitters(self._functions, row.epoch, **names, tag=self._tag, asks=True):
            return False
        self._started.update(new_started)
        self._retired.update(new_retired)
        return True
