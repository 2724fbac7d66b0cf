"""`setup`, `doctor` and `backup`: what operators look at and look after."""

from __future__ import annotations

from pathlib import Path

import click

from tollkeeper.app.cli.common import json_option, open_app
from tollkeeper.app.cli.exit_codes import AWAY, REFUSED
from tollkeeper.app.cli.output import err, out, print_json, print_table
from tollkeeper.app.doctor import Finding, examine
from tollkeeper.app.wiring import still_pending
from tollkeeper.errors import InvalidInput
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
