"""How long it takes from `emit` to the charge being visible in SQL, under load, on Kafka and PostgreSQL.

A probe is emitted and looked for until it is there, again and again, while another process emits steadily
and a third folds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import quantiles
from time import perf_counter
from unittest.mock import patch

from bench.bench_pipeline import ENDING_AT
from bench.bench_services import Ground, ground
from sqlalchemy import Connection, text
from support import homes

from tollkeeper.events.ids import new_event_id
from tollkeeper.metering.opening import open_emitter
from tollkeeper.metering.usage import Usage
from tollkeeper.outbox.database import open_engine

EVENTS_PER_S = 5_000
LOOK_EVERY_S = 0.002
LOST_S = 30.0
_FIND = text("SELECT 1 FROM charge WHERE generation = 1 AND organization = :o AND event_id = :e")


def run(probes: int) -> dict[str, float]:
    """Milliseconds at the median and at the 99th of a hundred; the load that was really reached."""
    with ground(1_000) as made, made.database() as url:
        environment = {**made.environment(url), "TOLLKEEPER_HTTP": "off"}
        with running(environment, *homes.command("run", "--only", "consume,relay")):
            took_ms, emitted, seconds = _probe(made, environment, url, probes)
    cuts = quantiles(took_ms, n=100)
    return {
        "probes": len(took_ms),
        "load_events_per_s": round(emitted / seconds),
        "emit_to_sql_p50_ms": round(cuts[49], 1),
        "emit_to_sql_p99_ms": round(cuts[98], 1),
        "emit_to_sql_max_ms": round(max(took_ms), 1),
    }


def _probe(
    made: Ground, environment: dict[str, str], url: str, probes: int
) -> tuple[list[float], int, float]:
    load = [sys.executable, "-m", "bench.load_child", str(EVENTS_PER_S), str(ENDING_AT)]
    engine = open_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    settings = {name: environment[name] for name in environment if name.startswith("TOLLKEEPER_")}
    with (
        running(environment, *load) as loading,
        patch.dict(os.environ, settings),
        open_emitter() as emitter,
        engine.connect() as connection,
    ):
        assert loading.stdout is not None
        assert loading.stdout.readline().strip() == "ready"
        began = perf_counter()
        for _ in range(probes // 10):  # until the consumer has joined and all is warm
            _one(emitter, connection)
        took_ms = [_one(emitter, connection) for _ in range(probes)]
        seconds = perf_counter() - began
        emitted = int(loading.communicate()[0])
    engine.dispose()
    return took_ms, emitted, seconds


def _one(emitter: object, connection: Connection) -> float:
    event_id = new_event_id()
    probe = Usage(
        organization="org-001",
        member="probe",
        surface="web",
        model="claude-sonnet-5-5",
        input_tokens=1,
        output_tokens=1,
        event_id=event_id,
        occurred_at=ENDING_AT,
    )
    pause = threading.Event()
    began = perf_counter()
    emitter.emit(probe)  # type: ignore[attr-defined]  # any emitter
    while connection.execute(_FIND, {"o": "org-001", "e": event_id}).scalar() is None:
        assert perf_counter() - began < LOST_S, f"{event_id} isn't charged"
        pause.wait(LOOK_EVERY_S)
    return (perf_counter() - began) * 1_000


@contextmanager
def running(environment: dict[str, str], *command: str) -> Iterator[subprocess.Popen[str]]:
    """A process meanwhile, which is asked to end afterwards."""
    child = subprocess.Popen(
        list(command), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.terminate()
        child.communicate()
