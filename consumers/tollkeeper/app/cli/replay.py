"""`replay verify` and `rebuild`: proving the figures by folding history again."""

from __future__ import annotations

import click

from tollkeeper.app.cli.common import json_option, open_app
from tollkeeper.app.cli.exit_codes import REFUSED
from tollkeeper.app.cli.output import out, print_json, print_table, progress
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.replay.folding import Progress
from tollkeeper.replay.verify import ReplayReport
from tollkeeper.replay.verify import rebuild as rebuild_ledger
from tollkeeper.replay.verify import verify as verify_ledger


@click.group()
def replay() -> None:
    """Fold history again."""


@replay.command("verify")
@json_option
def verify(as_json: bool) -> None:
    """Fold the whole log beside the live ledger and name the first difference of each organization."""
    with open_app() as app, progress("folding", sum(app.log.end_offsets().values())) as bar:
        report = verify_ledger(app.log, app.ledger, now=app.clock(), progress=_advance(bar))
    _show(report, as_json=as_json)


@click.command()
@click.option("--swap", is_flag=True, help="Make the new fold the live one, if both agree.")
@json_option
def rebuild(swap: bool, as_json: bool) -> None:
    """Fold the whole log anew; with --swap put the result in the live ledger's place."""
    with open_app() as app, progress("folding", sum(app.log.end_offsets().values())) as bar:
        report = rebuild_ledger(
            app.log, app.ledger, swap=swap, now=app.clock(), progress=_advance(bar)
        )
    _show(report, as_json=as_json)


def _advance(bar: object) -> Progress:
    from rich.progress import Progress as Bar

    assert isinstance(bar, Bar)
    return lambda records: bar.update(bar.task_ids[0], advance=records)


def _show(report: ReplayReport, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(report))
    else:
        total = nanos_to_usd(report.charged_nanos)
        out().print(
            f"folded {report.records} records: {report.organizations} organizations, "
            f"{report.charged_events} charged events, {total} USD"
        )
        if report.differences:
            rows = [[one.describe()] for one in report.differences]
            print_table("first difference of each organization", ("difference",), rows)
        for line in report.untied:
            out().print(f"sums don't agree: {line}", style="red")
        if report.agrees:
            out().print("the replay agrees with the live ledger in every row", style="green")
        if report.swapped:
            out().print(f"generation {report.replayed_generation} is live now")
    if not report.agrees:
        raise SystemExit(REFUSED)


def _document(report: ReplayReport) -> dict[str, object]:
    return {
        "agrees": report.agrees,
        "swapped": report.swapped,
        "live_generation": report.live_generation,
        "replayed_generation": report.replayed_generation,
        "positions": {str(key): value for key, value in report.positions.items()},
        "records": report.records,
        "organizations": report.organizations,
        "charged_events": report.charged_events,
        "charged_nanos": report.charged_nanos,
        "charged_usd": nanos_to_usd(report.charged_nanos),
        "differences": [
            {
                "organization": one.organization,
                "table": one.table,
                "key": one.key,
                "column": one.column,
                "live": one.live,
                "replayed": one.replayed,
                "message": one.describe(),
            }
            for one in report.differences
        ],
        "differences_cut_short": report.is_cut_short,
        "untied": list(report.untied),
    }
