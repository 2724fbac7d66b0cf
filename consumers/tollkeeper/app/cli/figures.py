"""`balance`, `spend` and `invoice`: what finance asks."""

from __future__ import annotations

from typing import cast, get_args

import click

from tollkeeper.app.cli.common import chosen_period, json_option, open_reports
from tollkeeper.app.cli.output import compact, out, print_freshness, print_json, print_table
from tollkeeper.events.ids import now_micros
from tollkeeper.ledger.tables import COUNT_COLUMNS
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.reports.balance import balance as balance_of
from tollkeeper.reports.invoice import invoice_draft
from tollkeeper.reports.spend import Breakdown, spend_of

SHORT = {
    "cache_read_tokens": "read",
    "cache_write_5m_tokens": "write_5m",
    "cache_write_1h_tokens": "write_1h",
    "web_search_requests": "searches",
}
"""The columns of a table that must fit a terminal."""

period_option = click.option("--period", metavar="YYYY-MM", help="The billing period [this one].")


@click.command()
@click.argument("organization")
@json_option
def balance(organization: str, as_json: bool) -> None:
    """The prepaid credits of ORGANIZATION: bought, used, left."""
    with open_reports() as (app, connection):
        found = balance_of(connection, app.log, organization, now=now_micros())
    if as_json:
        print_json(found.as_document())
        return
    row = [
        nanos_to_usd(nanos)
        for nanos in (found.purchased_nanos, found.used_nanos, found.balance_nanos)
    ]
    print_table(organization, ("purchased_usd", "used_usd", "balance_usd"), [row])
    if found.channel == "sales_assisted":
        out().print("billed in arrears: usage draws on no credits; see `tollkeeper invoice draft`")
    print_freshness(found.freshness.as_document())


@click.command()
@click.argument("organization")
@period_option
@click.option("--by", type=click.Choice(get_args(Breakdown)), help="One row for each of these.")
@json_option
def spend(organization: str, period: str | None, by: str | None, as_json: bool) -> None:
    """What ORGANIZATION was charged in a billing period."""
    with open_reports() as (app, connection):
        found = spend_of(
            connection,
            app.log,
            organization,
            period=chosen_period(period),
            by=cast(Breakdown | None, by),
            now=now_micros(),
        )
    if as_json:
        print_json(found.as_document())
        return
    total = nanos_to_usd(found.total_nanos)
    title = f"{organization}, {found.period.label}: {total} USD, {found.events} events"
    if by is None:
        out().print(title)
    elif by == "token_type":
        rows = [
            [r.key, nanos_to_usd(r.charge_nanos), r.events, compact(r.counts["quantity"])]
            for r in found.rows
        ]
        print_table(title, (by, "charge_usd", "events", "quantity"), rows)
    else:
        used = [name for name in COUNT_COLUMNS if any(r.counts[name] for r in found.rows)]
        rows = [
            [
                r.key,
                nanos_to_usd(r.charge_nanos),
                r.events,
                *(compact(r.counts[name]) for name in used),
            ]
            for r in found.rows
        ]
        short = [SHORT.get(name, name.removesuffix("_tokens")) for name in used]
        print_table(title, (by, "charge_usd", "events", *short), rows, spare=short)
    print_freshness(found.freshness.as_document())


@click.group()
def invoice() -> None:
    """Usage invoices (sales-assisted) and statements (self-serve)."""


@invoice.command("draft")
@click.argument("organization")
@period_option
@json_option
def invoice_draft_command(organization: str, period: str | None, as_json: bool) -> None:
    """The draft of a period: a line per member, model and token type."""
    with open_reports() as (app, connection):
        draft = invoice_draft(
            connection, app.log, organization, period=chosen_period(period), now=now_micros()
        )
    if as_json:
        print_json(draft.as_document())
        return
    rows = [
        (line.member, line.model, line.token_type, line.quantity, nanos_to_usd(line.amount_nanos))
        for line in draft.lines
    ]
    title = f"{draft.kind} of {organization}, {draft.period.label} (draft)"
    print_table(title, ("member", "model", "token_type", "quantity", "amount_usd"), rows)
    cents = draft.total_cents
    out().print(
        f"total {nanos_to_usd(draft.total_nanos)} USD, to pay {cents // 100}.{cents % 100:02d} USD"
    )
    for reason in draft.incomplete:
        out().print(f"not final: {reason}", style="yellow")
    print_freshness(draft.freshness.as_document())
