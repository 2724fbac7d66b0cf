"""`alerts` and `notifications`: when an organization's people are told something, and what they were told."""

from __future__ import annotations

import click

from tollkeeper.app.cli.common import (
    Change,
    changing,
    chosen_period,
    json_option,
    open_app,
    open_reports,
)
from tollkeeper.app.cli.figures import period_option
from tollkeeper.app.cli.output import (
    out,
    print_fields,
    print_freshness,
    print_json,
    print_outcome,
    print_table,
    to_the_second,
)
from tollkeeper.errors import InvalidInput
from tollkeeper.events.ids import now_micros
from tollkeeper.money.periods import Period
from tollkeeper.organizations.commands import SetThresholds
from tollkeeper.reports.freshness import freshness
from tollkeeper.reports.notifications import (
    admitted_calls,
    deliveries_of,
    find_notifications,
    open_stops,
    thresholds_of,
)
from tollkeeper.reports.organizations import find_organization

MAX_LISTED = 1_000


@click.group()
def alerts() -> None:
    """When owners and admins are told of spend."""


@alerts.command("set")
@click.argument("organization")
@click.option(
    "--threshold",
    "percents",
    multiple=True,
    type=int,
    metavar="PERCENT",
    help="Of a cap; give it once for each.",
)
@click.option("--no-thresholds", is_flag=True, help="Nothing on the way to a cap.")
@click.option("--credits-low", type=int, metavar="PERCENT", help="Of the last purchase; 0: never.")
@click.option("--preview", is_flag=True, help="Show what would hold, do nothing.")
@json_option
@changing
def alerts_set(
    change: Change,
    organization: str,
    percents: tuple[int, ...],
    no_thresholds: bool,
    credits_low: int | None,
    preview: bool,
    as_json: bool,
) -> None:
    """Say when ORGANIZATION is notified; what is left out stays."""
    if no_thresholds and percents:
        raise InvalidInput("--threshold", "and --no-thresholds exclude each other")
    if not no_thresholds and not percents and credits_low is None:
        raise InvalidInput("--threshold", "or --credits-low or --no-thresholds must be given")
    command = SetThresholds(
        organization=organization,
        cap_percents=percents if percents or no_thresholds else None,
        credits_low_percent=credits_low,
    )
    with open_app() as app:
        if preview:
            refusal = app.organizations.preview(command, change.context)
        else:
            outcome = app.organizations.handle(command, change.context)
    if not preview:
        print_outcome(outcome, as_json=as_json, done=f"the alerts of {organization} are set")
    if refusal is not None:
        print_outcome(refusal, as_json=as_json, done="")
    if as_json:
        print_json(
            {
                "preview": True,
                "organization": organization,
                "cap_percents": None if command.cap_percents is None else sorted(set(percents)),
                "credits_low_percent": credits_low,
            }
        )
    else:
        out().print(f"would set the alerts of {organization}")


@alerts.command("show")
@click.argument("organization")
@json_option
def alerts_show(organization: str, as_json: bool) -> None:
    """When ORGANIZATION is notified."""
    with open_reports() as (_, connection):
        found = thresholds_of(connection, organization)
    if as_json:
        print_json(found.as_document())
        return
    shares = ", ".join(f"{percent} %" for percent in found.cap_percents) or "none"
    low = f"below {found.credits_low_percent} % of the last purchase"
    print_fields(
        f"alerts of {organization}",
        {
            "thresholds of a cap": shares,
            "credits are low": low if found.credits_low_percent else "never told",
        },
    )


@click.command()
@click.argument("organization")
@click.option("--limit", type=click.IntRange(1, MAX_LISTED), default=50, show_default=True)
@period_option
@json_option
def notifications(organization: str, limit: int, period: str | None, as_json: bool) -> None:
    """What ORGANIZATION was told, the newest first; where its usage is stopped; what policies let through.

    --period is the one of the calls that policies let through.
    """
    of = chosen_period(period)
    with open_reports() as (app, connection):
        found = find_organization(connection, organization)
        told = find_notifications(connection, organization, limit=limit)
        deliveries = deliveries_of(connection, [one.notification_id for one in told])
        stops = open_stops(connection, organization)
        admitted = admitted_calls(connection, organization, of)
        fresh = freshness(
            connection, app.log, now=now_micros(), partitions=[found.log_partition]
        ).as_document()
    document: dict[str, object] = {
        "organization": organization,
        "notifications": [
            {**one.as_document(), "deliveries": deliveries[one.notification_id]} for one in told
        ],
        "stopped": stops,
        "admitted": {"period": of.label, "calls": admitted},
        "freshness": fresh,
    }
    if as_json:
        print_json(document)
        return
    rows = [
        [
            to_the_second(row["occurred_at"]),
            row["kind"],
            row["scope"],
            row["percent"],
            row.get("cap_usd", row.get("purchased_usd")),
            row.get("spent_usd", row.get("used_usd")),
            _deliveries_in_short(deliveries[one.notification_id]),
        ]
        for one, row in ((one, one.as_document()) for one in told)
    ]
    columns = ("when", "kind", "scope", "percent", "of_usd", "spent_usd", "webhooks")
    print_table(f"notifications of {organization}", columns, rows)
    _print_stops_and_admitted(organization, stops, admitted, of)
    print_freshness(fresh)


def _deliveries_in_short(deliveries: list[dict[str, object]]) -> str:
    """`2 delivered, 1 waiting`."""
    statuses = [str(one["status"]) for one in deliveries]
    return ", ".join(f"{statuses.count(name)} {name}" for name in sorted(set(statuses)))


def _print_stops_and_admitted(
    organization: str,
    stops: list[dict[str, object]],
    admitted: list[dict[str, object]],
    period: Period,
) -> None:
    if stops:
        rows = [[one["limit"], one["scope"], to_the_second(one["stopped_at"])] for one in stops]
        print_table(f"usage of {organization} is stopped", ("limit", "scope", "since"), rows)
    if admitted:
        columns = ("policy", "cause", "calls", "amount_usd")
        rows = [[one[name] for name in columns] for one in admitted]
        print_table(f"let through by policy in {period.label}", columns, rows)
