"""One consumer process of a measured fold: gets ready, waits for the word, folds its share, says how long.

Speaks over its standard streams: prints `ready`, reads a line, prints JSON. The settings come from the
environment, as they would for `tollkeeper run`.
"""

from __future__ import annotations

import json
import os
import sys
from time import perf_counter

from bench.stages import timed_stages

from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.pipeline.settings import PipelineSettings


def main(group: str, partitions: int) -> None:
    """Fold until nothing is left of as many partitions as this member is to have."""
    app = App(load_settings(os.environ))
    pipeline = app.pipeline(settings=PipelineSettings(group=group))
    ends = app.log.end_offsets()
    try:
        while len(pipeline.owned) != partitions:
            pipeline.step()
        before = pipeline.totals.records
        _say("ready")
        sys.stdin.readline()
        steps = 0
        with timed_stages() as seconds:
            began = perf_counter()
            while any(pipeline.owned[one] < ends[one] for one in pipeline.owned):
                steps += pipeline.step().records > 0
            took = perf_counter() - began
    finally:
        pipeline.close()
        app.close()
    records = pipeline.totals.records - before
    _say(json.dumps({"records": records, "seconds": took, "steps": steps, "stages": seconds}))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
