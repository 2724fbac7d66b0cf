"""Writing to Redis' list who may hold, as the log says it."""

from __future__ import annotations

from collections.abc import Sequence

from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.functions import GateFunctions

AT_ONCE = 1_000
"""Names in one call, so that none takes long."""


def list_emitters(
    functions: GateFunctions,
    epoch: int,
    *,
    started: Sequence[str],
    retired: Sequence[str],
    tag: str,
) -> bool:
    """Whether the primary has them all now; False when it doesn't take calls of this epoch.

    Retired ones first: a start that another partition tells of must find its end there.
    """
    calls = [
        encoding.list_emitters(epoch, retired=retired[at : at + AT_ONCE], tag=tag)
        for at in range(0, len(retired), AT_ONCE)
    ]
    calls += [
        encoding.list_emitters(epoch, started=started[at : at + AT_ONCE], tag=tag)
        for at in range(0, len(started), AT_ONCE)
    ]
    return all(isinstance(functions.run(call), a.Done) for call in calls)
