"""How fast the emitter accepts usage, beside the bare work on the same events and the same disk.

`run` prints nothing: whoever calls it shows and stores the figures.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

from bench.measuring import events_per_s
from metering.fake_log import MemoryLog, usage

from tollkeeper.events.codec import encode
from tollkeeper.events.ids import new_emitter_id, new_event_id
from tollkeeper.metering.emitter import Emitter, EmitterSettings
from tollkeeper.metering.frames import frame_group
from tollkeeper.metering.usage import Prepared, Usage, recorded

GROUP = 1_000
THREADS = 32
ORGANIZATIONS = 20


class DiscardingLog(MemoryLog):
    """Acknowledges at once and keeps only a count, so that the emitter alone is measured."""

    def append(self, records: Sequence[object], *, timeout_s: float = 10.0) -> list[int]:
        return [0] * len(records)


def run(events: int) -> dict[str, float]:
    """Events per second of each way; `ratio…` is emitter over bare."""
    groups = groups_of(events)
    total = sum(map(len, groups))
    logging.getLogger("tollkeeper.metering").setLevel(
        logging.ERROR
    )  # that the log is away is meant
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rates = events_per_s(
            total,
            {
                "emitter_log_away_events_per_s": lambda: _emit(root, groups, is_away=True),
                "emitter_sending_events_per_s": lambda: _emit(root, groups, is_away=False),
                "bare_append_and_sync_events_per_s": lambda: _bare_disk(root, groups),
                "bare_encode_append_and_sync_events_per_s": lambda: _bare(root, groups),
            },
        )
        singles = groups[0][: max(1, min(GROUP, events // 20))]
        one_by_one = events_per_s(
            len(singles),
            {
                "emitter_single_events_per_s": lambda: _emit_one_by_one(root, singles, threads=1),
                f"emitter_{THREADS}_threads_events_per_s": lambda: _emit_one_by_one(
                    root, singles, threads=THREADS
                ),
            },
        )
    bare = rates["bare_encode_append_and_sync_events_per_s"]
    return {
        "events": total,
        **rates,
        **one_by_one,
        "ratio_log_away_to_bare": round(rates["emitter_log_away_events_per_s"] / bare, 3),
        "ratio_sending_to_bare": round(rates["emitter_sending_events_per_s"] / bare, 3),
        "ratio_log_away_to_bare_append": round(
            rates["emitter_log_away_events_per_s"] / rates["bare_append_and_sync_events_per_s"], 3
        ),
    }


def groups_of(events: int) -> list[list[Usage]]:
    """Usage in groups, as a service hands it over."""
    return [
        [
            usage(n, organization=f"org-{n % ORGANIZATIONS}", event_id=new_event_id())
            for n in range(first, min(first + GROUP, events))
        ]
        for first in range(0, events, GROUP)
    ]


def encoded(usages: list[Usage], emitter: str) -> list[tuple[bytes, bytes]]:
    """Key and value of each record, as the emitter makes them."""
    entries = []
    for number, reported in enumerate(usages):
        assert reported.event_id is not None
        assert isinstance(reported.occurred_at, int)
        prepared = Prepared(reported, reported.event_id, reported.occurred_at)
        event = recorded(prepared, emitter=emitter, sequence=number + 1)
        entries.append((reported.organization.encode(), encode(event)))
    return entries


def _bare_disk(root: Path, groups: list[list[Usage]]) -> float:
    """Only the writes and syncs, of bytes that are ready."""
    emitter = new_emitter_id()
    ready = [frame_group(encoded(g, emitter), 0, position=0, seed=0) for g in groups]
    with _fresh_file(root) as file:
        began = perf_counter()
        for data in ready:
            os.write(file.fileno(), data)
            os.fdatasync(file.fileno())
        return perf_counter() - began


def _bare(root: Path, groups: list[list[Usage]]) -> float:
    """Validating and encoding too, with nothing around it."""
    emitter = new_emitter_id()
    with _fresh_file(root) as file:
        began = perf_counter()
        for group in groups:
            data = b"".join(value for _key, value in encoded(group, emitter))
            os.write(file.fileno(), data)
            os.fdatasync(file.fileno())
        return perf_counter() - began


def _emit(root: Path, groups: list[list[Usage]], *, is_away: bool) -> float:
    """Until everything is durable; and on the log too unless that is away."""
    log = DiscardingLog()

    def open_log() -> MemoryLog:
        if is_away:
            raise OSError("away")
        return log

    with tempfile.TemporaryDirectory(dir=root) as spool:
        settings = EmitterSettings(first_backoff_s=1.0)
        emitter = Emitter(open_log, Path(spool), settings=settings)
        began = perf_counter()
        for group in groups:
            emitter.emit_many(group)
        assert is_away or emitter.flush(60)
        took = perf_counter() - began
        emitter.close(0.0 if is_away else 10.0)
    return took


def _emit_one_by_one(root: Path, usages: list[Usage], *, threads: int) -> float:
    with tempfile.TemporaryDirectory(dir=root) as spool, ThreadPoolExecutor(threads) as pool:
        emitter = Emitter(DiscardingLog().open, Path(spool))
        began = perf_counter()
        list(pool.map(emitter.emit, usages))
        took = perf_counter() - began
        emitter.close(10.0)
    return took


def _fresh_file(root: Path) -> tempfile._TemporaryFileWrapper[bytes]:
    return tempfile.NamedTemporaryFile(dir=root, buffering=0)
