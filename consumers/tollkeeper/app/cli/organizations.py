"""`org`, `credits` and `cap`: an organization's members, money and limits."""

from __future__ import annotations

from typing import cast

import click

from tollkeeper.app.cli.common import (
    Change,
    changing,
    confirm,
    json_option,
    open_app,
    open_reports,
    positive_usd,
    usd,
)
from tollkeeper.app.cli.output import (
    out,
    print_fields,
    print_json,
    print_outcome,
    print_table,
    to_the_second,
)
from tollkeeper.errors import InvalidInput
from tollkeeper.events.organization import PLANS, CapScope, CapSetting, Channel, Role
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    OpenOrganization,
    RemoveMember,
    SetCap,
    SetRole,
    TransferOwnership,
    VoidCredits,
)
from tollkeeper.organizations.commands import Command as OrganizationCommand
from tollkeeper.reports import organizations as reports

ROLES = click.Choice(["owner", "admin", "member"])


@click.group()
def org() -> None:
    """Open organizations, and say who belongs to them."""


@click.group()
def credits() -> None:
    """Prepaid credits of self-serve organizations."""


@click.group()
def cap() -> None:
    """Spend caps of a billing period."""


@org.command("open")
@click.argument("organization")
@click.option("--plan", required=True, help=f"One of {', '.join(sorted(PLANS))}.")
@click.option("--owner", required=True, metavar="MEMBER", help="The primary owner.")
@click.option("--channel", type=click.Choice(["self_serve", "sales_assisted"]))
@json_option
@changing
def org_open(
    change: Change, organization: str, plan: str, owner: str, channel: str | None, as_json: bool
) -> None:
    """Open ORGANIZATION."""
    command = OpenOrganization(
        organization=organization, plan=plan, owner=owner, channel=cast(Channel | None, channel)
    )
    _handle(command, change, as_json, f"{organization} is open, owned by {owner}")


@org.command("list")
@json_option
def org_list(as_json: bool) -> None:
    """Every organization that the ledger knows."""
    with open_reports() as (_, connection):
        found = reports.list_organizations(connection)
    if as_json:
        print_json({"organizations": found, "count": len(found)})
        return
    columns = ("organization", "plan", "channel", "primary_owner", "charged_usd")
    print_table("organizations", columns, [[one[name] for name in columns] for one in found])


@org.command("show")
@click.argument("organization")
@json_option
def org_show(organization: str, as_json: bool) -> None:
    """Plan, members and totals of ORGANIZATION."""
    with open_reports() as (_, connection):
        found = reports.find_organization(connection, organization).as_document()
        people = reports.members(connection, organization)
    if as_json:
        print_json({**found, "member_list": people})
        return
    print_fields(organization, found)
    rows = [
        (
            one["member"],
            one["role"],
            to_the_second(one["added_at"]),
            to_the_second(one["removed_at"]),
        )
        for one in people
    ]
    print_table("members", ("member", "role", "added_at", "removed_at"), rows)


@org.command("history")
@click.argument("organization")
@json_option
def org_history(organization: str, as_json: bool) -> None:
    """Every decision about ORGANIZATION, with its place on the log."""
    with open_reports() as (_, connection):
        events = reports.history(connection, organization)
    if not events:
        raise InvalidInput(
            "organization",
            f"{organization} was never opened: tollkeeper org open {organization} --plan PLAN "
            "--owner MEMBER",
        )
    if as_json:
        print_json({"organization": organization, "events": events})
        return
    rows = []
    for one in events:
        event = cast(dict[str, object], one["event"])
        known = ("event", "organization", "version", "actor", "occurred_at", "command_id")
        details = ", ".join(
            f"{name}={value}"
            for name, value in event.items()
            if name not in known and value is not None and not name.endswith("_nanos")
        )
        place = (
            f"{one['log_partition']}-{one['log_offset']}"
            if one["log_offset"] is not None
            else "waits"
        )
        rows.append(
            (
                one["version"],
                to_the_second(event["occurred_at"]),
                event["event"],
                details,
                event["actor"],
                place,
            )
        )
    columns = ("version", "when", "event", "details", "actor", "log")
    print_table(f"history of {organization}", columns, rows, spare=("actor", "log"))


@org.command("add-member")
@click.argument("organization")
@click.argument("member")
@click.option("--role", type=ROLES, default="member", show_default=True)
@json_option
@changing
def org_add_member(
    change: Change, organization: str, member: str, role: str, as_json: bool
) -> None:
    """Let MEMBER into ORGANIZATION."""
    command = AddMember(organization=organization, member=member, role=cast(Role, role))
    _handle(command, change, as_json, f"{member} is {role} of {organization}")


@org.command("remove-member")
@click.argument("organization")
@click.argument("member")
@json_option
@changing
def org_remove_member(change: Change, organization: str, member: str, as_json: bool) -> None:
    """Let MEMBER go; usage that still arrives is charged and flagged."""
    command = RemoveMember(organization=organization, member=member)
    _handle(command, change, as_json, f"{member} no longer belongs to {organization}")


@org.command("set-role")
@click.argument("organization")
@click.argument("member")
@click.argument("role", type=ROLES)
@json_option
@changing
def org_set_role(change: Change, organization: str, member: str, role: str, as_json: bool) -> None:
    """Give MEMBER another ROLE."""
    command = SetRole(organization=organization, member=member, role=cast(Role, role))
    _handle(command, change, as_json, f"{member} is {role} of {organization}")


@org.command("transfer-ownership")
@click.argument("organization")
@click.argument("member")
@json_option
@changing
def org_transfer_ownership(change: Change, organization: str, member: str, as_json: bool) -> None:
    """Make MEMBER the primary owner."""
    command = TransferOwnership(organization=organization, member=member)
    _handle(command, change, as_json, f"{member} is the primary owner of {organization}")


@credits.command("buy")
@click.argument("organization")
@click.argument("amount", metavar="USD")
@click.option("--preview", is_flag=True, help="Show the amount, do nothing.")
@json_option
@changing
def credits_buy(
    change: Change, organization: str, amount: str, preview: bool, as_json: bool
) -> None:
    """Buy USD of prepaid credits for ORGANIZATION."""
    nanos = positive_usd(amount, field="USD")
    command = BuyCredits(organization=organization, credit_nanos=nanos)
    if preview:
        with open_app() as app:
            refusal = app.organizations.preview(command, change.context)
        if refusal is not None:
            print_outcome(refusal, as_json=as_json, done="")
        document = {
            "preview": True,
            "organization": organization,
            "credit_nanos": nanos,
            "credit_usd": nanos_to_usd(nanos),
        }
        if as_json:
            print_json(document)
        else:
            out().print(f"would buy {nanos_to_usd(nanos)} USD of credits for {organization}")
        return
    confirm(f"Buy {nanos_to_usd(nanos)} USD of credits for {organization}?", as_json=as_json)
    _handle(command, change, as_json, f"bought {nanos_to_usd(nanos)} USD for {organization}")


@credits.command("void")
@click.argument("organization")
@click.argument("purchase")
@click.option("--reason", required=True)
@json_option
@changing
def credits_void(
    change: Change, organization: str, purchase: str, reason: str, as_json: bool
) -> None:
    """Take the whole PURCHASE back (operator)."""
    command = VoidCredits(organization=organization, purchase_id=purchase, reason=reason)
    _handle(command, change, as_json, f"{purchase} of {organization} is void")


@credits.command("list")
@click.argument("organization")
@json_option
def credits_list(organization: str, as_json: bool) -> None:
    """Every purchase of ORGANIZATION."""
    with open_reports() as (_, connection):
        reports.find_organization(connection, organization)
        found = reports.credits(connection, organization)
    if as_json:
        print_json({"organization": organization, "purchases": found})
        return
    columns = ("purchase_id", "credit_usd", "purchased_at", "actor", "reference", "voided_at")
    rows = [
        [to_the_second(one[name]) if name.endswith("_at") else one[name] for name in columns]
        for one in found
    ]
    print_table(f"purchases of {organization}", columns, rows, spare=("reference", "actor"))


@cap.command("set")
@click.argument("organization")
@click.argument("amount", metavar="USD|unlimited|inherit")
@click.option("--member", help="The cap of one member.")
@click.option("--member-default", is_flag=True, help="The cap of members without one of their own.")
@json_option
@changing
def cap_set(
    change: Change,
    organization: str,
    amount: str,
    member: str | None,
    member_default: bool,
    as_json: bool,
) -> None:
    """Cap the spend of a billing period; without a scope, of the whole ORGANIZATION."""
    if member is not None and member_default:
        raise InvalidInput("--member", "and --member-default exclude each other")
    scope = (
        "member" if member is not None else "member_default" if member_default else "organization"
    )
    setting = amount if amount in ("unlimited", "inherit") else "capped"
    command = SetCap(
        organization=organization,
        scope=cast(CapScope, scope),
        setting=cast(CapSetting, setting),
        member=member,
        cap_nanos=usd(amount, field="USD") if setting == "capped" else None,
    )
    whose = member or ("members by default" if member_default else organization)
    _handle(command, change, as_json, f"the cap of {whose} is {amount}")


@cap.command("list")
@click.argument("organization")
@json_option
def cap_list(organization: str, as_json: bool) -> None:
    """Each member's effective cap, and where it comes from."""
    with open_reports() as (_, connection):
        reports.find_organization(connection, organization)
        found = reports.caps(connection, organization)
    if as_json:
        print_json(found)
        return
    people = cast(list[dict[str, object]], found["members"])
    rows = [(one["member"], one["cap_usd"] or "unlimited", one["source"]) for one in people]
    own = found["cap_usd"] or "unlimited"
    print_table(f"caps of {organization}: {own} in all", ("member", "cap_usd", "source"), rows)


def _handle(command: OrganizationCommand, change: Change, as_json: bool, done: str) -> None:
    with open_app() as app:
        outcome = app.organizations.handle(command, change.context)
    print_outcome(outcome, as_json=as_json, done=done)
