"""`setup`, `doctor` and `backup`: what operators look at and look after."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tollkeeper.app.cli.common import json_option, open_app
from tollkeeper.app.cli.exit_codes import AWAY, REFUSED
from tollkeeper.app.cli.output import err, out, print_json, print_table
from tollkeeper.app.doctor import Finding, diagnose
from tollkeeper.app.examining import Facts, ask_everything
from tollkeeper.app.run_settings import load_run_settings
from tollkeeper.app.wiring import still_pending
from tollkeeper.errors import InvalidInput
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.reports.documents import money


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
            "gate": app.settings.redis.shown,
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
    """What is configured, reachable and lagging; exit code 1 when something needs you, 3 when a
    service is away."""
    run_settings = load_run_settings(os.environ)
    with open_app(is_setup=True) as app:
        facts = ask_everything(app, run_settings)
        findings = diagnose(app.settings, facts)
    is_healthy = all(one.is_fine for one in findings)
    if as_json:
        print_json(_report(facts, findings, is_healthy=is_healthy))
    else:
        _print_findings(findings)
        columns = ("partition", "next_offset", "log_end", "lag", "owner", "halted")
        rows = [[getattr(one, name) for name in columns] for one in facts.partitions]
        print_table("partitions", columns, rows, spare=("halted",))
        print_table("settings", ("setting", "value"), list(facts.settings.items()))
    if not is_healthy:
        is_away = any(one.error is not None for one in facts.services)
        raise SystemExit(AWAY if is_away else REFUSED)


def _report(facts: Facts, findings: list[Finding], *, is_healthy: bool) -> dict[str, object]:
    letters = [] if facts.books is None else facts.books.letters
    return {
        "healthy": is_healthy,
        "findings": [one.as_document() for one in findings],
        "services": facts.services,
        "partitions": facts.partitions,
        "spool": facts.spool,
        "dead_letters": [
            {
                "cause": one.cause,
                "count": one.count,
                **money("at_risk", one.at_risk_nanos),
                "unpriced": one.unpriced,
            }
            for one in letters
        ],
        "settings": facts.settings,
    }


def _print_findings(findings: list[Finding]) -> None:
    rows = [
        ("ok" if one.is_fine else "look", one.what, one.detail, one.next_step) for one in findings
    ]
    print_table("tollkeeper doctor", ("", "what", "found", "next step"), rows)


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
