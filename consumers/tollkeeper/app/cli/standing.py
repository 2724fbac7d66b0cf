"""`status`: how far an organization and its members are from what stops them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tollkeeper.app.cli.common import json_option, open_reports
from tollkeeper.app.cli.output import out, print_freshness, print_json, print_table
from tollkeeper.app.gate_status import ask_standing
from tollkeeper.errors import InvalidInput
from tollkeeper.events.ids import now_micros
from tollkeeper.gate.answers import Absent
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.money.instants import format_instant
from tollkeeper.money.periods import period_at
from tollkeeper.reports.organizations import find_organization, members
from tollkeeper.reports.status import LimitStanding, Standing, standing

FIGURES = ("cap_usd", "spent_usd", "held_usd", "remaining_usd", "open", "lifts_at")


@click.command()
@click.argument("organization")
@click.option("--member", metavar="M", help="The limits of one member, too.")
@click.option(
    "--members", "everybody", is_flag=True, help="A row a member, nearest to its cap first."
)
@json_option
def status(organization: str, member: str | None, everybody: bool, as_json: bool) -> None:
    """Each limit of ORGANIZATION in this period: spent, held, left; and when it lifts by itself."""
    if member is not None and everybody:
        raise InvalidInput("--member", "and --members exclude each other")
    found = _standing(organization, member, everybody=everybody)
    if as_json:
        print_json(_document(found, member, everybody=everybody))
        return
    title = f"{organization}, {found.period.label}"
    chosen = next((one for one in found.members if one.member == member), None)
    limits = (*([chosen.cap] if chosen else []), *found.limits)
    print_table(title, ("limit", *FIGURES), [(one.limit, *_figures(one)) for one in limits])
    if everybody:
        rows = [
            (one.member, *_figures(one.cap), ", ".join(one.stopped_by)) for one in found.members
        ]
        print_table("members", ("member", *FIGURES, "stopped_by"), rows, spare=("lifts_at",))
    if chosen is not None and not chosen.is_member:
        out().print(f"{member} is no member of {organization}", style="yellow")
    _print_gate(found)
    print_freshness(found.freshness.as_document())


def _standing(organization: str, member: str | None, *, everybody: bool) -> Standing:
    now = now_micros()
    with open_reports() as (app, connection):
        find_organization(connection, organization)
        if everybody:
            people = members(connection, organization)
            asked = [str(one["member"]) for one in people if one["removed_at"] is None]
        else:
            asked = [] if member is None else [member]
        return standing(
            connection,
            app.log,
            organization,
            period=period_at(now),
            now=now,
            of_gate=ask_standing(app.settings.redis, organization, asked),
            also=asked,
        )


def _document(found: Standing, member: str | None, *, everybody: bool) -> dict[str, object]:
    chosen = next((one for one in found.members if one.member == member), None)
    limits = (*([chosen.cap] if chosen else []), *found.limits)
    return {
        "organization": found.organization,
        "member": member,
        "period": found.period.label,
        "limits": [one.as_document() for one in limits],
        **({"members": [one.as_document() for one in found.members]} if everybody else {}),
        "gate": found.gate_document(),
        "freshness": found.freshness.as_document(),
    }


def _figures(one: LimitStanding) -> Sequence[object]:
    amounts = [
        "unlimited" if nanos is None and name != "held" else _usd(nanos)
        for name, nanos in (
            ("cap", one.cap_nanos),
            ("spent", one.spent_nanos),
            ("held", one.held_nanos),
            ("remaining", one.remaining_nanos),
        )
    ]
    lifts_at = "" if one.lifts_at is None else format_instant(one.lifts_at)
    return (*amounts, one.is_open, lifts_at)


def _usd(nanos: int | None) -> str:
    return "" if nanos is None else nanos_to_usd(nanos)


def _print_gate(found: Standing) -> None:
    if found.is_known_to_gate:
        return
    text = {
        True: "what is held isn't known: the gate is away, see tollkeeper doctor",
        False: "what is held isn't known: the gate reads it anew at the next hold",
    }[found.gate is None]
    if isinstance(found.gate, Absent):
        text = "nothing is held: nobody asked the gate here since it began"
    out().print(text, style="yellow" if found.gate is None else "dim")
