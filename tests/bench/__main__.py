"""`make bench`: every figure of the README, measured in one run, printed and kept in build/bench.json.

Absolute figures drift on shared machines; the ratios to the floors of the same run are what counts.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable

from bench import (
    bench_apply,
    bench_cold,
    bench_emitter,
    bench_enforcement,
    bench_failover,
    bench_gate,
    bench_history,
    bench_latency,
    bench_memory,
    bench_metered,
    bench_pipeline,
    bench_sending,
    bench_services,
)
from bench.measuring import machine
from bench.targets import target_of
from rich.console import Console
from rich.table import Table
from support.project import ROOT

BENCHES: dict[str, tuple[Callable[[int], dict[str, float]], int]] = {
    "pipeline": (bench_pipeline.run, 200_000),
    "emitter": (bench_emitter.run, 50_000),
    "services": (bench_services.run, 200_000),
    "sending": (bench_sending.run, 100_000),
    "latency": (bench_latency.run, 300),
    "failover": (bench_failover.run, 5),
    "memory": (bench_memory.run, 200_000),
    "gate": (bench_gate.run, 5_000),
    "metered": (bench_metered.run, 2_000),
    "enforcement": (bench_enforcement.run, 200),
    "apply": (bench_apply.run, 100_000),
}
LONG: dict[str, tuple[Callable[[int], dict[str, float]], int]] = {
    "history": (bench_history.run, 300_000),
    "memory-on-services": (bench_history.run_memory, 500_000),
    "cold-start": (bench_cold.run, 100_000),
}
"""Some minutes each: only when they are named, as `make soak` does."""
RESULT = ROOT / "build" / "bench.json"


def main(chosen: list[str]) -> None:
    """Run the chosen benchmarks, or all but the long ones; others' figures in the file are left."""
    known = {**BENCHES, **LONG}
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        sys.exit(f"no benchmark {unknown[0]}; there are {', '.join(known)}")
    logging.disable(logging.WARNING)
    console = Console(highlight=False)
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    figures: dict[str, object] = {**before, "machine": machine()}
    for name in chosen or BENCHES:
        bench, events = known[name]
        with console.status(f"{name}: {events:,} events"):
            found = bench(events)
        figures[name] = found
        table = Table(title=name, title_justify="left", show_header=False)
        table.add_column()
        table.add_column(justify="right")
        table.add_column()
        for label, value in found.items():
            table.add_row(label, f"{value:,}", target_of(name, label, value))
        console.print(table)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
