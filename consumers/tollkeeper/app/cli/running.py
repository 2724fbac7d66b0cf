"""`setup`, `doctor`, `run` and `consume`: what operators start and look at."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from tollkeeper.app.cli.common import json_option, open_app
from tollkeeper.app.cli.exit_codes import AWAY, REFUSED
from tollkeeper.app.cli.output import err, out, print_json, print_table, progress
from tollkeeper.app.doctor import Finding, examine
from tollkeeper.app.jobs import JOBS, CaughtUp, catch_up
from tollkeeper.app.jobs import consume as consume_until
from tollkeeper.app.wiring import still_pending
from tollkeeper.errors import InvalidInput
from tollkeeper.ledger.apply import FoldCounts
from tollkeeper.log.sqlite import SqliteLog

STOP_TIMEOUT_S = 10.0


@click.command()
@json_option
def setup(as_json: bool) -> None:
    """Make the log, the tables and the built-in prices, where they are missing."""
    with open_app(is_setup=True) as app:
        pending = still_pending(app.set_up())
        document = {
            "home": str(app.settings.home),
            "partitions": app.log.partition_count,
            "log": app.log.identity,
            "pending": pending,
        }
    if as_json:
        print_json(document)
    else:
        out().print(f"{document['home']} is ready: {document['partitions']} partitions")
    if pending:
        err().print("the built-in prices wait for the log; run `tollkeeper setup` again")
        raise SystemExit(AWAY)


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """What is configured, reachable and lagging; exit code 1 when something needs you."""
    with open_app() as app:
        findings, partitions = examine(app)
    if as_json:
        print_json(
            {
                "healthy": all(one.is_fine for one in findings),
                "findings": [one.as_document() for one in findings],
                "partitions": partitions,
            }
        )
    else:
        _print_findings(findings)
        columns = ("partition", "next_offset", "log_end", "lag")
        print_table("partitions", columns, [[one[name] for name in columns] for one in partitions])
    if not all(one.is_fine for one in findings):
        raise SystemExit(REFUSED)


def _print_findings(findings: list[Finding]) -> None:
    rows = [
        ("ok" if one.is_fine else "look", one.what, one.detail, one.next_step) for one in findings
    ]
    print_table("tollkeeper doctor", ("", "what", "found", "next step"), rows)


@click.command()
@click.option("--only", metavar=",".join(JOBS), help="Some of the background jobs.")
def run(only: str | None) -> None:
    """Run the background jobs until SIGTERM or SIGINT."""
    names = list(JOBS) if only is None else only.split(",")
    unknown = [name for name in names if name not in JOBS]
    if unknown:
        raise InvalidInput("--only", f"must name some of {', '.join(JOBS)}, not {unknown[0]!r}")
    if len(set(names)) < len(names):
        raise InvalidInput("--only", "names a job twice")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with open_app() as app, stopped_by_signals() as stop:
        failures: list[BaseException] = []

        def work(name: str) -> None:
            try:
                JOBS[name](app, stop)
            except BaseException as failure:
                failures.append(failure)
                stop.set()
                raise

        threads = [threading.Thread(target=work, args=(name,), name=name) for name in names]
        for thread in threads:
            thread.start()
        err().print(f"running {', '.join(names)}; stop with Ctrl-C")
        stop.wait()
        for thread in threads:
            thread.join(STOP_TIMEOUT_S)
    if failures:
        raise failures[0]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def backup(file: Path, as_json: bool) -> None:
    """Copy the embedded log into FILE, while everything runs.

    \b
    All else can be folded from it. To restore: put FILE as log.sqlite into a new home, then
      tollkeeper consume --until-caught-up
    """
    with open_app() as app:
        if not isinstance(app.log, SqliteLog):
            raise InvalidInput("TOLLKEEPER_LOG", "names a log that has copies of its own: Kafka's")
        app.log.back_up(file)
        copy = SqliteLog(file, partitions=app.log.partition_count)
        try:
            ends = copy.end_offsets()
            document = {
                "file": str(file.absolute()),
                "log": copy.identity,
                "records": sum(ends.values()),
                "positions": {str(partition): end for partition, end in ends.items()},
            }
        finally:
            copy.close()
    if as_json:
        print_json(document)
    else:
        out().print(f"{document['records']} records of log {document['log']} are in {file}")


@click.command()
@click.option("--until-caught-up", is_flag=True, help="Drain and relay first, then end.")
@json_option
def consume(until_caught_up: bool, as_json: bool) -> None:
    """Fold the log into the ledger, until SIGTERM or SIGINT."""
    with open_app() as app, stopped_by_signals() as stop:
        if not until_caught_up:
            counts = consume_until(app, stop)
            _print_counts(_counts(counts), as_json=as_json)
            return
        with progress("folding", sum(app.log.end_offsets().values())) as bar:
            found = catch_up(
                app, stop, progress=lambda records: bar.update(bar.task_ids[0], advance=records)
            )
    _print_counts(_document(found), as_json=as_json)
    for partition, halt in found.halted.items():
        err().print(f"partition {partition} halted: {halt}", style="red")
    if found.drained.left:
        err().print(f"{found.drained.left} usages are still spooled: run `tollkeeper doctor`")
    if found.halted:
        raise SystemExit(REFUSED)


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; what was begun is finished. A second one ends at once."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
