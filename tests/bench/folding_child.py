"""One consumer process of a measured fold: gets ready, waits for the word, folds its share, says how long.

Speaks over its standard streams: prints `ready`, reads a line, prints JSON. The settings come from the
environment, as they would for `tollkeeper run`.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from bench.measuring import peak_mb
from bench.recording import recorded
from bench.stages import timed_stages

from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.settings import PipelineSettings


def main(group: str, partitions: int, record_to: str) -> None:
    """Fold all of as many partitions as this member is to have; `record_to` is a file or empty."""
    app = App(load_settings(os.environ))
    pipeline = app.pipeline(settings=PipelineSettings(group=group))
    ends = app.log.end_offsets()
    try:
        join(pipeline, partitions)
        app.enforcing.running()  # connected, where there is a gate
        say("ready")
        sys.stdin.readline()
        taking_down: Any = recorded() if record_to else nullcontext([])
        with timed_stages() as seconds, taking_down as batches:
            began, cpu_began = perf_counter(), process_time()
            pipeline.step()  # takes up the positions
            while any(offset < ends[one] for one, offset in pipeline.owned.items()):
                pipeline.step()
            took, cpu = perf_counter() - began, process_time() - cpu_began
    finally:
        pipeline.close()
        app.close()
    if record_to:
        Path(record_to).write_bytes(pickle.dumps(batches))
    records = pipeline.totals.records
    said = {"records": records, "seconds": took, "cpu_seconds": cpu, "stages": seconds}
    say(json.dumps({**said, "peak_mb": peak_mb()}))


def join(pipeline: Pipeline, partitions: int) -> None:
    """Be a member with its share, and nothing read yet: until a step takes positions up."""
    consumer = pipeline._consumer  # a member that only joins is no use to anybody else
    while len(consumer.assignment) != partitions:
        consumer.poll(max_records=1, timeout_s=0.1)


def say(line: str) -> None:
    """Tell whoever started this process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
