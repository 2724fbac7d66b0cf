"""A product service for tests: emits a seeded load at a steady pace, and says what was accepted.

Started with SEED EVENTS PER_SECOND. After each group the number of events accepted so far is printed.
SIGTERM ends the emitting; the process ends when the log has all, or with an error after `FLUSH_S`.
"""

from __future__ import annotations

import signal
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
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    usages = load(seed, events)
    size = max(1, per_second // GROUPS_PER_SECOND)
    began, accepted = monotonic(), 0
    with open_emitter() as emitter:
        while not stop.is_set() and (group := list(islice(usages, size))):
            emitter.emit_many(group)
            accepted += len(group)
            print(accepted, flush=True)  # noqa: T201 - the test reads it
            stop.wait(max(0.0, began + accepted / per_second - monotonic()))
        if not emitter.flush(FLUSH_S):
            sys.exit(f"{emitter.stats()} after {FLUSH_S} s")
