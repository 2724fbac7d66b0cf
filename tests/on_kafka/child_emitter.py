"""A product service for tests: emits a seeded load at a steady pace, and says what was accepted.

Started with SEED EVENTS PER_SECOND. After each group the number of events accepted so far is printed;
the process ends when the log has them all, or after `FLUSH_S`.
"""

from __future__ import annotations

import sys
import threading
from itertools import islice
from time import monotonic

from on_kafka.installation import load

from tollkeeper.metering.opening import open_emitter

FLUSH_S = 120.0
GROUPS_PER_SECOND = 20


def main() -> None:
    """Emit in groups, each at its time; late groups follow at once."""
    seed, events, per_second = map(int, sys.argv[1:4])
    usages = load(seed, events)
    size = max(1, per_second // GROUPS_PER_SECOND)
    began, accepted, pacing = monotonic(), 0, threading.Event()
    with open_emitter() as emitter:
        while group := list(islice(usages, size)):
            pacing.wait(max(0.0, began + accepted / per_second - monotonic()))
            emitter.emit_many(group)
            accepted += len(group)
            print(accepted, flush=True)  # noqa: T201 - the test reads it
        if not emitter.flush(FLUSH_S):
            sys.exit(f"{emitter.stats()} after {FLUSH_S} s")
