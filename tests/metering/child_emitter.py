"""A product service for tests that kill it: emits, and prints each event id once it is accepted.

`python child_emitter.py SPOOL_DIR LOG_FILE EVENTS [GROUP]`; with `-` for the log it is away.
"""

from __future__ import annotations

import sys
from pathlib import Path

from metering.fake_log import MemoryLog, usage

from tollkeeper.log.port import Log
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.metering.emitter import Emitter, EmitterSettings

SETTINGS = EmitterSettings(
    segment_bytes=2_000, batch_records=5, first_backoff_s=0.01, takeover_interval_s=0.05
)


def main(spool_dir: str, log_file: str, events: str, group: str = "1") -> None:
    """Emit `events` usages of three organizations in groups of `group`, then flush and close."""

    def open_log() -> Log:
        log = MemoryLog()
        log.is_away = True
        return log if log_file == "-" else SqliteLog(Path(log_file))

    with Emitter(open_log, Path(spool_dir), settings=SETTINGS) as emitter:
        size = int(group)
        for first in range(0, int(events), size):
            numbers = range(first, first + size)
            ids = emitter.emit_many(usage(n, organization=f"org-{n % 3}") for n in numbers)
            sys.stdout.write("".join(f"{event_id}\n" for event_id in ids))
            sys.stdout.flush()
        emitter.flush(20)


if __name__ == "__main__":
    main(*sys.argv[1:])
