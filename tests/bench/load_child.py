"""A product service under steady load: emits so many events a second until its standard input is closed."""

from __future__ import annotations

import logging
import sys
import threading
from time import monotonic

from bench.folding_child import say

from tollkeeper.metering.opening import open_emitter
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

GROUPS_PER_S = 50
ORGANIZATIONS = 20


def main(events_per_s: int, ending_at: int) -> None:
    """Emit in fifty groups a second, without hurrying after a pause; says how many in the end."""
    stopped = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(stopped,), daemon=True).start()
    load = SyntheticLoad(
        seed=9, events=10_000_000, organizations=ORGANIZATIONS, ending_at=ending_at
    )
    usages = synthetic(load)
    size = events_per_s // GROUPS_PER_S
    emitted = 0
    with open_emitter() as emitter:
        say("ready")
        due = monotonic()
        while not stopped.wait(max(0.0, due - monotonic())):
            due = max(due + 1 / GROUPS_PER_S, monotonic() - 1.0)
            emitter.emit_many([next(usages) for _ in range(size)])
            emitted += size
    say(str(emitted))


def _wait_for_the_end(stopped: threading.Event) -> None:
    sys.stdin.read()
    stopped.set()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(int(sys.argv[1]), int(sys.argv[2]))
