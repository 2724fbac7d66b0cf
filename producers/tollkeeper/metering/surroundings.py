"""What an emitter takes from outside itself: clocks, ids, the disk's confirmation, threads.

Product services take the defaults; tests and the simulator give their own. Knows nothing of its users.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic

import msgspec

from tollkeeper.events.ids import new_emitter_id, now_micros
from tollkeeper.metering.segments import Sync


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults are the real ones."""

    clock: Callable[[], int] = now_micros
    """The wall clock in microseconds since the epoch."""
    monotonic: Callable[[], float] = monotonic
    """Seconds, for deadlines and pauses. Another one needs `has_threads` to be off: threads wait
    in real time."""
    sync: Sync = os.fdatasync
    new_emitter_id: Callable[[], str] = new_emitter_id
    """Ids that were never used before, each greater as text than those before it."""
    has_threads: bool = True
    """Off: `emit` writes on the caller's thread and never waits for room, and nothing is sent but by
    `Emitter.send_step`, `flush` and `close`."""
