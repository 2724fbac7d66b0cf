"""A product service for tests that kill it: it may have holds, and begins anew halfway.

`python child_holder.py SPOOL_DIR LOG_FILE EVENTS`; with `-` for the log it is away. Prints each event
id once it is accepted. Half of the usage settles holds of the first emitter, some of it after that one
was replaced.
"""

from __future__ import annotations

import sys
from pathlib import Path

from metering.child_emitter import SETTINGS
from metering.fake_log import MemoryLog
from metering.lives import held

from tollkeeper.log.port import Log
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.metering.emitter import Emitter


def main(spool_dir: str, log_file: str, events: str) -> None:
    """Emit `events` usages, begin anew after half of them, then flush and close."""

    def open_log() -> Log:
        log = MemoryLog()
        log.is_away = True
        return log if log_file == "-" else SqliteLog(Path(log_file))

    with Emitter(open_log, Path(spool_dir), settings=SETTINGS) as emitter:
        first, open_until = emitter.identity(), int(events) * 3 // 4
        in_use = {first}
        emitter.ask_before_retiring(in_use.__contains__)
        for number in range(int(events)):
            if number == int(events) // 2:
                emitter.begin_anew(first)
            holder = first if number < open_until else emitter.identity()
            event_id = emitter.emit(held(holder, number, f"org-{number % 3}"))
            sys.stdout.write(f"{event_id}\n")
            sys.stdout.flush()
            if number == open_until:
                in_use.clear()
        emitter.flush(20)


if __name__ == "__main__":
    main(*sys.argv[1:])
