"""What runs in the background: folding, relaying, draining dead processes' spools, delivering. One
loop each.

Those that keep the gate stand in `gate_jobs`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from tollkeeper.app import gate_jobs
from tollkeeper.app.wiring import App
from tollkeeper.errors import GateUnavailable, Halted, Unavailable
from tollkeeper.ledger.apply import FoldCounts
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.metering.drain import DrainResult, drain_spools
from tollkeeper.metering.settings import EmitterSettings
from tollkeeper.outbox.database import reading
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.settings import PipelineSettings

if TYPE_CHECKING:  # `catch_up` does without the metrics' import
    from tollkeeper.app.watch import Watch

CONSUME, RELAY, DRAIN, DELIVER = "consume", "relay", "drain", "deliver"
DELIVER_PAUSE_S = 1.0
RELAY_PAUSE_S = 0.2
DRAIN_PAUSE_S = 5.0
RETRY_PAUSE_S = 1.0
RELAY_TIMEOUT_S = 5.0
"""One attempt to append: short enough that a stop doesn't have to leave the job behind."""
DRAINING = EmitterSettings(append_timeout_s=5.0)
NO_PROGRESS_S = 60.0
DRAIN_TIMEOUT_S = 600.0
LOOKS_AT_A_SHORTER_LOG = 4
TELLING_ROUNDS = 100
"""Each is bounded by `apply_within_s`."""

Progress = Callable[[int], None]


class CaughtUp(msgspec.Struct, frozen=True):
    """What `consume --until-caught-up` did."""

    counts: FoldCounts
    relayed: int
    drained: DrainResult
    halted: dict[int, str]


def consume(app: App, watch: Watch, stop: threading.Event) -> FoldCounts:
    """Fold until told to stop; a service that is away is waited for."""
    counts = FoldCounts()
    while not stop.is_set():
        try:
            pipeline = app.pipeline(watch)
        except Unavailable as away:
            watch.waits(CONSUME, away)
            stop.wait(RETRY_PAUSE_S)
            continue
        try:
            pipeline.run(stop)
        except Unavailable as away:
            watch.waits(CONSUME, away)
            stop.wait(RETRY_PAUSE_S)
        finally:
            counts += pipeline.totals
            pipeline.close()
    return counts


def relay(app: App, watch: Watch, stop: threading.Event) -> None:
    """Bring decided events to the log until told to stop."""
    while not stop.is_set():
        try:
            sent = app.relay.run_once(timeout_s=RELAY_TIMEOUT_S)
        except Unavailable as away:
            watch.waits(RELAY, away)
            stop.wait(RETRY_PAUSE_S)
            continue
        watch.turned(RELAY)
        watch.relayed(sent)
        if not sent:
            stop.wait(RELAY_PAUSE_S)


def drain(app: App, watch: Watch, stop: threading.Event) -> None:
    """Send what dead processes left in this home's spool, until told to stop."""
    while not stop.is_set():
        result = drain_spools(
            app.settings.spool_dir, app.log, timeout_s=DRAIN_PAUSE_S, settings=DRAINING, stop=stop
        )
        watch.turned(DRAIN)
        watch.drained(result)
        stop.wait(DRAIN_PAUSE_S)


def deliver(app: App, watch: Watch, stop: threading.Event) -> None:
    """Bring notifications to webhooks' endpoints until told to stop."""

    def goes_on() -> bool:
        watch.turned(DELIVER)  # an endpoint that doesn't answer takes its time
        return not stop.is_set()

    while goes_on():
        try:
            done = app.deliverer.deliver_once(app.clock(), clock=app.clock, goes_on=goes_on)
        except Unavailable as away:
            watch.waits(DELIVER, away)
            stop.wait(RETRY_PAUSE_S)
            continue
        watch.delivered(done)
        if not done.count:
            stop.wait(DELIVER_PAUSE_S)


JOBS: dict[str, Callable[[App, Watch, threading.Event], object]] = {
    CONSUME: consume,
    RELAY: relay,
    DRAIN: drain,
    DELIVER: deliver,
    gate_jobs.KEEP: gate_jobs.keep,
    gate_jobs.WARM: gate_jobs.warm,
    gate_jobs.TEND: gate_jobs.tend,
}
COMPANIONS: dict[str, dict[str, Callable[[App, Watch, threading.Event], object]]] = {
    CONSUME: {gate_jobs.APPLY: gate_jobs.apply}
}
"""What comes along with a job and can't be chosen: who folds tells the gate, too."""


def catch_up(
    app: App,
    stop: threading.Event,
    *,
    progress: Progress,
    settings: PipelineSettings | None = None,
) -> CaughtUp:
    """Drain, relay, and fold up to the log's end as it is read then.

    Other members of the group may own some partitions: they are waited for, as long as somebody makes
    progress. Raises Unavailable after `NO_PROGRESS_S` without any.
    """
    settings = settings or PipelineSettings()
    drained = drain_spools(app.settings.spool_dir, app.log, timeout_s=DRAIN_TIMEOUT_S)
    relayed = app.relay.run_until_empty()
    targets = app.log.end_offsets()
    pipeline = app.pipeline(settings=settings)
    try:
        if min(_missing(app, targets).values()) < 0:
            _look_at_a_shorter_log(pipeline)
        most_idle = round(NO_PROGRESS_S / settings.poll_timeout_s)
        _fold_up_to(app, pipeline, targets, stop, progress, most_idle=most_idle)
        _tell_gate(app)
        halted = {partition: str(halt) for partition, halt in pipeline.halted.items()}
        return CaughtUp(pipeline.totals, relayed, drained, halted)
    finally:
        pipeline.close()


def _tell_gate(app: App) -> None:
    """What Redis couldn't be told right after its commit; a gate that is away is caught up with later."""
    with suppress(GateUnavailable):
        enforcement = app.enforcing.running()
        for _ in range(TELLING_ROUNDS):
            if enforcement is None or enforcement.applier.tick():
                break


def lag_of(app: App) -> int:
    """How many records nobody has folded yet."""
    return _lag(app, app.log.end_offsets(), {})


def _look_at_a_shorter_log(pipeline: Pipeline) -> None:
    """Nothing is to be folded, and yet something is wrong: taking up the partitions names it.

    Bounded, since the partitions may be another member's, or may just have been folded further.
    """
    for _ in range(LOOKS_AT_A_SHORTER_LOG):
        if not pipeline.halted:
            pipeline.step()


def _fold_up_to(
    app: App,
    pipeline: Pipeline,
    targets: dict[int, int],
    stop: threading.Event,
    progress: Progress,
    *,
    most_idle: int,
) -> None:
    last = lag = _lag(app, targets, pipeline.halted)
    idle_steps = 0
    while lag and not stop.is_set():
        progress(pipeline.step().records)
        lag = _lag(app, targets, pipeline.halted)
        idle_steps = 0 if lag < last else idle_steps + 1
        last = lag
        if idle_steps > most_idle:
            raise Unavailable(
                f"{lag} records aren't folded, and nobody made progress for {NO_PROGRESS_S:.0f} s: another "
                "consumer holds their partitions; see `tollkeeper doctor`"
            )


def _lag(app: App, targets: dict[int, int], halted: dict[int, Halted]) -> int:
    return sum(
        max(0, records)
        for partition, records in _missing(app, targets).items()
        if partition not in halted
    )


def _missing(app: App, targets: dict[int, int]) -> dict[int, int]:
    """How many records each partition's fold lacks; below zero: it was folded further than that."""
    with reading(app.engine) as connection:
        known = positions(connection, live_generation(connection))
    return {
        partition: target - known[partition].next_offset for partition, target in targets.items()
    }
