"""Whether the fold slows down, or grows, with history: on Kafka and PostgreSQL. Takes some minutes.

`run` folds the same events into a ledger that has five million charges already, and into one that has
none, in turn. `run_memory` folds ten times as much and looks at the peak of the process.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from bench.bench_pipeline import ORGANIZATIONS
from bench.bench_services import ground, rate_of
from bench.measuring import ROUNDS
from sqlalchemy import text

from tollkeeper.ledger.rows import ChargeRow
from tollkeeper.ledger.tables import charge
from tollkeeper.outbox.database import open_engine

STORED = 5_000_000
TIMES = 10
_OLD_INSTANT = 1_790_000_000_000_000
_TEXTS = {"member": "'member-' || n % 500", "publication_id": "'builtin'", "model": "'claude-old'"}


def run(events: int) -> dict[str, float]:
    """Events per second with and without history, medians of rounds; the first over the second."""
    with ground(events) as made, made.database() as old:
        _store(old, STORED)
        with_history = made.on(old)
        said: dict[str, list[list[dict[str, Any]]]] = {"without": [], "with": []}
        for _ in range(ROUNDS):
            said["without"].append(made.fold(1))
            said["with"].append(with_history.fold(1))
    rates = {name: round(median(map(rate_of, runs))) for name, runs in said.items()}
    return {
        "events": events,
        "stored_charges": STORED,
        "fold_without_history_events_per_s": rates["without"],
        "fold_with_history_events_per_s": rates["with"],
        "ratio_with_history": round(rates["with"] / rates["without"], 3),
    }


def run_memory(events: int) -> dict[str, float]:
    """Peak resident memory, in MB, of a process that folds `events`, and of one that folds tenfold."""
    few, many = _peak_mb(events), _peak_mb(events * TIMES)
    return {
        "events": events,
        "events_tenfold": events * TIMES,
        "peak_mb": few,
        "peak_mb_tenfold": many,
        "growth_mb": round(many - few, 1),
    }


def _peak_mb(events: int) -> float:
    with ground(events) as made:
        return float(made.fold(1)[0]["peak_mb"])


def _store(url: str, count: int) -> None:
    """Charges of earlier months, under ids that are older than those to come, as time-ordered ids are."""
    values = ", ".join(_value_of(name) for name in ChargeRow._fields)
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO charge (generation, {', '.join(ChargeRow._fields)}) "
                f"SELECT 1, {values} FROM generate_series(1, {count:d}) AS n"
            )
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE charge"))
        connection.execute(text("CHECKPOINT"))
    engine.dispose()


def _value_of(name: str) -> str:
    if name == "event_id":
        return "'00' || lpad(to_hex(n), 34, '0')"
    if name == "organization":
        return f"'org-' || lpad((n % {ORGANIZATIONS:d} + 1)::text, 3, '0')"
    if name == "payload_hash":
        return "decode(md5(n::text), 'hex')"
    if name in ("occurred_at", "appended_at", "period_start"):
        return f"{_OLD_INSTANT:d}"
    if charge.c[name].nullable:
        return "NULL"
    if name in _TEXTS:
        return _TEXTS[name]
    return "'standard'" if charge.c[name].type.python_type is str else "n % 1000"
