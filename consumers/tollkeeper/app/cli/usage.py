"""`emit`, `event`, `events` and `dead-letters`: usage on its way, and what became of it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, cast

import click
from rich.progress import Progress

from tollkeeper.app.cli.common import json_option, open_app, open_reports
from tollkeeper.app.cli.exit_codes import REFUSED
from tollkeeper.app.cli.output import (
    err,
    out,
    print_fields,
    print_json,
    print_table,
    progress,
    to_the_second,
)
from tollkeeper.errors import InvalidInput, Unavailable
from tollkeeper.events.ids import now_micros
from tollkeeper.metering.drain import find_spooled
from tollkeeper.metering.emitter import Emitter
from tollkeeper.metering.usage import Usage
from tollkeeper.money.instants import parse_instant
from tollkeeper.money.periods import parse_period
from tollkeeper.reports.charges import ChargeFilter, charge_document, charges
from tollkeeper.reports.organizations import find_organization
from tollkeeper.reports.tracing import trace_event
from tollkeeper.workloads.population import DEFAULT_POPULATION, Population
from tollkeeper.workloads.reading import WorkloadFormat, read_workload
from tollkeeper.workloads.rejected import RejectedLine

GROUP_RECORDS = 1_000
MAX_REJECTIONS_SHOWN = 1_000
SEND_TIMEOUT_S = 60.0


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--format",
    "workload_format",
    type=click.Choice(["events", "azure", "mooncake"]),
    default="events",
    show_default=True,
)
@click.option("--organization", "organizations", multiple=True, help="Who made the calls (traces).")
@click.option("--keep-time", is_flag=True, help="Leave a trace's times as they are.")
@json_option
def emit(
    file: BinaryIO,
    workload_format: str,
    organizations: tuple[str, ...],
    keep_time: bool,
    as_json: bool,
) -> None:
    """Accept the usage in FILE (- is standard input); accepted means durable.

    \b
    One JSON object a line:
      {"event_id": "e1", "organization": "acme", "member": "ann", "surface": "web",
       "model": "claude-sonnet-5-5", "occurred_at": "2026-11-21T12:00:00Z",
       "input_tokens": 1200, "output_tokens": 300}
    """
    for option, is_given in (("--organization", organizations), ("--keep-time", keep_time)):
        if is_given and workload_format == "events":
            raise InvalidInput(option, "is for traces; each event names its own")
    population = Population(organizations=organizations) if organizations else DEFAULT_POPULATION
    lines = read_workload(
        file,
        cast(WorkloadFormat, workload_format),
        population=population,
        ending_at=None if keep_time else now_micros(),
    )
    rejections: list[RejectedLine] = []
    with open_app(needs_database=False) as app, progress("emitting") as bar:
        emitter = app.emitter()
        try:
            accepted, rejected = _emit_all(lines, emitter, rejections, bar)
        finally:
            is_sent = emitter.close(SEND_TIMEOUT_S)
        if not is_sent:
            err().print("accepted and spooled; the log is away: it is sent as soon as it is back")
    document = {
        "accepted": accepted,
        "rejected": rejected,
        "rejections": [
            {"line": one.line, "field": one.field, "reason": one.reason} for one in rejections
        ],
    }
    if as_json:
        print_json(document)
    else:
        out().print(f"accepted {accepted}, rejected {rejected}")
        if rejections:
            rows = [(one.line, one.field, one.reason) for one in rejections]
            print_table("rejected", ("line", "field", "reason"), rows)
    if rejected:
        raise SystemExit(REFUSED)


def _emit_all(
    lines: Iterator[Usage | RejectedLine],
    emitter: Emitter,
    rejections: list[RejectedLine],
    bar: Progress,
) -> tuple[int, int]:
    """Emit in groups; keeps the first rejections, counts all. Answers (accepted, rejected)."""
    accepted = rejected = 0
    while group := list(islice(lines, GROUP_RECORDS)):
        usages = [one for one in group if isinstance(one, Usage)]
        refused = [one for one in group if isinstance(one, RejectedLine)]
        rejected += len(refused)
        rejections += refused[: max(0, MAX_REJECTIONS_SHOWN - len(rejections))]
        if usages:
            try:
                emitter.emit_many(usages)
            except Unavailable:
                err().print(
                    f"{accepted} usages were accepted before this; emit the file again when there is "
                    "room: what was accepted is charged once"
                )
                raise
        accepted += len(usages)
        bar.update(bar.task_ids[0], advance=len(group))
    return accepted, rejected


@click.group()
def event() -> None:
    """One usage event."""


@event.command("show")
@click.argument("organization")
@click.argument("event_id")
@json_option
def event_show(organization: str, event_id: str, as_json: bool) -> None:
    """Where is my event? Spooled, on the log, charged, quarantined or unknown."""
    with open_reports() as (app, connection):
        found = trace_event(
            connection,
            app.log,
            organization,
            event_id,
            is_spooled=lambda name, wanted: (
                find_spooled(app.settings.spool_dir, name, wanted) is not None
            ),
        )
    if as_json:
        print_json(found)
    else:
        _print_event(found)
    if found["status"] == "unknown":
        raise SystemExit(REFUSED)


def _print_event(found: dict[str, object]) -> None:
    print_fields(f"{found['event_id']} of {found['organization']}", found)
    charge = found.get("charge")
    if isinstance(charge, dict):
        print_fields("charge", charge)
        place = charge["position"]
        out().print(f"log position: partition {place['partition']}, offset {place['offset']}")
        lines = cast(list[dict[str, object]], found["lines"])
        columns = ("token_type", "quantity", "price_usd", "charge_usd")
        print_table("tokens x price", columns, [[one[name] for name in columns] for one in lines])
    letters = cast(list[dict[str, object]], found.get("dead_letters") or [])
    if letters:
        columns = ("id", "cause", "status", "detail")
        print_table("dead letters", columns, [[one[name] for name in columns] for one in letters])


@click.command("events")
@click.argument("organization")
@click.option("--member")
@click.option("--model")
@click.option("--period", metavar="YYYY-MM")
@click.option("--from", "from_time", metavar="TIME", help="From this instant on.")
@click.option("--to", "to_time", metavar="TIME", help="Up to, not including, this instant.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--cursor", help="Where the page before ended.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@json_option
def events(
    organization: str,
    member: str | None,
    model: str | None,
    period: str | None,
    from_time: str | None,
    to_time: str | None,
    limit: int,
    cursor: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """The charged events behind a figure of ORGANIZATION, a page at a time."""
    if as_csv and as_json:
        raise InvalidInput("--csv", "and --json exclude each other")
    chosen = ChargeFilter(
        member=member,
        model=model,
        period=None if period is None else parse_period(period, field="--period"),
        from_micros=None if from_time is None else parse_instant(from_time, field="--from"),
        to_micros=None if to_time is None else parse_instant(to_time, field="--to"),
    )
    if chosen.has_no_time:
        raise InvalidInput("--to", "must lie after --from")
    with open_reports() as (_app, connection):
        find_organization(connection, organization)
        page = charges(connection, organization, chosen, limit=limit + 1, after_event_id=cursor)
    documents = [charge_document(row) for row in page[:limit]]
    next_cursor = page[limit - 1].event_id if len(page) > limit else None
    if as_json:
        print_json({"organization": organization, "events": documents, "next_cursor": next_cursor})
    elif as_csv:
        _print_csv(documents)
        if next_cursor:
            err().print(f"more: --cursor {next_cursor}")
    else:
        columns = ("event_id", "occurred_at", "member", "model", "surface", "charge_usd")
        rows = [
            [to_the_second(one[name]) if name == "occurred_at" else one[name] for name in columns]
            for one in documents
        ]
        spare = ("model", "surface")
        print_table(f"charged events of {organization}", columns, rows, spare=spare)
        if next_cursor:
            out().print(f"more: --cursor {next_cursor}")


def _print_csv(documents: list[dict[str, object]]) -> None:
    writer = csv.writer(sys.stdout)
    for number, document in enumerate(documents):
        flat = {name: value for name, value in document.items() if not isinstance(value, dict)}
        place = cast(dict[str, object], document["position"])
        flat.update({"partition": place["partition"], "offset": place["offset"]})
        if number == 0:
            writer.writerow(flat)
        writer.writerow(flat.values())
