"""`run` and `consume`: what stays and folds until a signal ends it."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import click

from tollkeeper.app.cli.common import json_option, open_app
from tollkeeper.app.cli.exit_codes import DONE, REFUSED, code_of
from tollkeeper.app.cli.output import err, out, print_json, progress
from tollkeeper.app.endpoints import answering
from tollkeeper.app.jobs import COMPANIONS, CONSUME, JOBS, CaughtUp, catch_up
from tollkeeper.app.jobs import consume as consume_until
from tollkeeper.app.logs import logging_to
from tollkeeper.app.run_settings import FORMATS, LEVELS, RunSettings, load_run_settings
from tollkeeper.app.sampling import Sampler
from tollkeeper.app.supervising import Ended, Job, Signals, Stopped, run_jobs, signals_caught
from tollkeeper.app.watch import SAMPLE, Watch
from tollkeeper.app.wiring import App
from tollkeeper.errors import InvalidInput
from tollkeeper.ledger.apply import FoldCounts
from tollkeeper.log.opening import open_log
from tollkeeper.logline import LogLine

logger = logging.getLogger(__name__)


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --log-format and --log-level."""
    levels = click.option(
        "--log-level", type=click.Choice(LEVELS), help="TOLLKEEPER_LOG_LEVEL [info]."
    )
    formats = click.option(
        "--log-format",
        type=click.Choice(FORMATS),
        help="TOLLKEEPER_LOG_FORMAT [text on a terminal, else json].",
    )
    return formats(levels(command))


@click.command()
@click.option("--only", metavar=",".join(JOBS), help="Some of the background jobs.")
@log_options
def run(only: str | None, log_format: str | None, log_level: str | None) -> None:
    """Run the background jobs until SIGTERM or SIGINT.

    \b
    TOLLKEEPER_HTTP [127.0.0.1:9464] answers /metrics, /healthz and /livez; `off` answers nothing.
    """
    names = _chosen(only)
    settings = load_run_settings(os.environ, log_format=log_format, log_level=log_level)
    with _logging(settings), _signals() as signals:
        _end(_run(names, settings, signals))


def _logging(settings: RunSettings) -> AbstractContextManager[None]:
    return logging_to(sys.stderr, log_format=settings.log_format, level=settings.log_level)


@contextmanager
def _signals() -> Iterator[Signals]:
    """Signals as the jobs want them; one that comes before they were started ends well, too."""
    with signals_caught() as signals:
        try:
            yield signals
        except Stopped:
            logger.info(LogLine("stopped", while_starting=True))


def _run(names: list[str], settings: RunSettings, signals: Signals) -> Ended:
    watch = Watch(time.monotonic, stuck_after_s=settings.stuck_after_s)
    with open_app() as app, answering(settings.http, watch) as address:
        app.gate_observer = watch.gate
        jobs: dict[str, Job] = {name: partial(JOBS[name], app, watch) for name in names}
        for name in names:
            jobs |= _companions(name, app, watch)
        jobs[SAMPLE] = partial(_sample, app, watch)
        for name in jobs:
            watch.turned(name)
        http = None if address is None else address.shown
        logger.info(LogLine("running", jobs=",".join(names), http=http, pid=os.getpid()))
        return _supervise(app, watch, jobs, signals)


def _companions(name: str, app: App, watch: Watch) -> dict[str, Job]:
    return {one: partial(job, app, watch) for one, job in COMPANIONS.get(name, {}).items()}


def _supervise(app: App, watch: Watch, jobs: dict[str, Job], signals: Signals) -> Ended:
    ended = run_jobs(jobs, signals, died=watch.died, leave=app.leave_group)
    logger.info(LogLine("stopped", abandoned=",".join(ended.abandoned) or None))
    if ended.abandoned:
        # A hung thread may hold what an orderly end would wait for. Nothing is lost by not having one.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(DONE if ended.failure is None else code_of(ended.failure))
    return ended


def _sample(app: App, watch: Watch, stop: threading.Event) -> None:
    log = open_log(app.settings, clock=app.clock)
    try:
        Sampler(log, app.engine, watch, spool_dir=app.settings.spool_dir, clock=app.clock).run(stop)
    finally:
        log.close()


def _end(ended: Ended) -> None:
    """The exit code of a job's error; the error itself stands in the log."""
    if ended.failure is not None:
        raise SystemExit(code_of(ended.failure))


def _chosen(only: str | None) -> list[str]:
    names = list(JOBS) if only is None else only.split(",")
    unknown = [name for name in names if name not in JOBS]
    if unknown:
        raise InvalidInput("--only", f"must name some of {', '.join(JOBS)}, not {unknown[0]!r}")
    if len(set(names)) < len(names):
        raise InvalidInput("--only", "names a job twice")
    return names


@click.command()
@click.option("--until-caught-up", is_flag=True, help="Drain and relay first, then end.")
@log_options
@json_option
def consume(
    until_caught_up: bool, log_format: str | None, log_level: str | None, as_json: bool
) -> None:
    """Fold the log into the ledger, until SIGTERM or SIGINT."""
    settings = load_run_settings(os.environ, log_format=log_format, log_level=log_level)
    with _logging(settings), _signals() as signals:
        if until_caught_up:
            _catch_up(signals, as_json=as_json)
        else:
            _consume(settings, signals, as_json=as_json)


def _consume(settings: RunSettings, signals: Signals, *, as_json: bool) -> None:
    watch = Watch(time.monotonic, stuck_after_s=settings.stuck_after_s)
    counts: list[FoldCounts] = []
    with open_app() as app:
        app.gate_observer = watch.gate

        def fold(stop: threading.Event) -> None:
            counts.append(consume_until(app, watch, stop))

        jobs = {CONSUME: fold, **_companions(CONSUME, app, watch)}
        ended = _supervise(app, watch, jobs, signals)
    if ended.failure is None:
        _print_counts(_counts(counts[0]), as_json=as_json)
    _end(ended)


def _catch_up(signals: Signals, *, as_json: bool) -> None:
    with open_app() as app, progress("folding", sum(app.log.end_offsets().values())) as bar:
        signals.is_awaited = True
        found = catch_up(
            app,
            signals.stop,
            progress=lambda records: bar.update(bar.task_ids[0], advance=records),
        )
    _print_counts(_document(found), as_json=as_json)
    for partition, halt in found.halted.items():
        err().print(f"partition {partition} halted: {halt}", style="red")
    if found.drained.left:
        err().print(f"{found.drained.left} usages are still spooled: run `tollkeeper doctor`")
    if found.halted:
        raise SystemExit(REFUSED)


def _counts(counts: FoldCounts) -> dict[str, object]:
    return {
        "records": counts.records,
        "charged": counts.charged,
        "duplicates": counts.duplicates,
        "dead_letters": counts.dead_letters,
    }


def _document(found: CaughtUp) -> dict[str, object]:
    return {
        **_counts(found.counts),
        "relayed": found.relayed,
        "drained": found.drained.sent,
        "spooled": found.drained.left,
        "halted": [
            {"partition": partition, "cause": halt} for partition, halt in found.halted.items()
        ],
    }


def _print_counts(document: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    out().print(
        ", ".join(
            f"{name} {value}" for name, value in document.items() if not isinstance(value, list)
        )
    )
