"""`gate policy`: what becomes of calls that the gate refuses or can't know."""

from __future__ import annotations

from typing import cast, get_args

import click

from tollkeeper.app.cli.common import Change, changing, json_option, open_app, open_reports, usd
from tollkeeper.app.cli.output import out, print_json, print_outcome, print_table, to_the_second
from tollkeeper.errors import InvalidInput
from tollkeeper.events.ids import check_organization
from tollkeeper.events.organization import GatePolicy, GatePolicySetting
from tollkeeper.events.refusal import Refusal
from tollkeeper.ledger.policies import GatePolicyRow, gate_policies, policy_in_force
from tollkeeper.ledger.rows import EVERYBODY
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.money.instants import format_instant, parse_instant
from tollkeeper.operations.policies import DefaultPolicy
from tollkeeper.organizations.commands import SetGatePolicy
from tollkeeper.outbox.deciding import Outcome
from tollkeeper.reports.documents import instant, money
from tollkeeper.reports.organizations import find_organization


@click.command("policy")
@click.argument("words", nargs=-1, metavar="[ORGANIZATION] [closed|open|observe|inherit]")
@click.option("--all", "everybody", is_flag=True, help="For all without a policy of their own.")
@click.option("--ceiling", metavar="USD", help="Of `open`: at most so much a process.")
@click.option("--until", metavar="TIME", help="Then the default holds again, or `closed`.")
@click.option("--preview", is_flag=True, help="Show what would hold, do nothing.")
@json_option
@changing
def policy(
    change: Change,
    words: tuple[str, ...],
    everybody: bool,
    ceiling: str | None,
    until: str | None,
    preview: bool,
    as_json: bool,
) -> None:
    """Set what becomes of calls that the gate refuses or can't know; without words, list it.

    With ORGANIZATION alone: the policy in force for it.

    \b
    closed   no call is made [this is the default]
    open     while the gate can't be asked, calls are made up to a ceiling
    observe  every call is made, refusals are only recorded
    inherit  as all others
    """
    if not words and not everybody:
        return _list(as_json=as_json)
    if len(words) == 1 and not (everybody or ceiling or until or preview):
        return _show(words[0], as_json=as_json)
    organization, word = _meant(words, everybody)
    ceiling_nanos = None if ceiling is None else usd(ceiling, field="--ceiling")
    ends_at = None if until is None else parse_instant(until, field="--until")
    if (ceiling_nanos is not None) != (word == "open"):
        raise InvalidInput("--ceiling", "must be given exactly for open")
    if organization is None:
        wanted = DefaultPolicy(
            policy=cast(GatePolicy, word), ceiling_nanos=ceiling_nanos, until=ends_at
        )
        outcome = _set_default(wanted, change, preview)
    else:
        command = SetGatePolicy(
            organization=organization,
            policy=cast(GatePolicySetting, word),
            ceiling_nanos=ceiling_nanos,
            until=ends_at,
        )
        outcome = _set_own(command, change, preview)
    whose = organization or "all without one of their own"
    if outcome is not None:
        print_outcome(outcome, as_json=as_json, done=f"the gate's policy of {whose} is {word}")
    if as_json:
        document = {"preview": True, "organization": organization, "policy": word}
        print_json({**document, **money("ceiling", ceiling_nanos), "until": instant(ends_at)})
    else:
        out().print(f"would set the gate's policy of {whose} to {word}{_until(ends_at)}")


def _meant(words: tuple[str, ...], everybody: bool) -> tuple[str | None, str]:
    """The organization, None for all, and the policy."""
    known = get_args(GatePolicy if everybody else GatePolicySetting)
    if len(words) != (1 if everybody else 2):
        what = "--all and a policy, or an organization and its policy"
        raise InvalidInput("gate policy", f"must be given {what}")
    if words[-1] not in known:
        raise InvalidInput("policy", f"must be one of {', '.join(known)}, not {words[-1]!r}")
    return (None if everybody else words[0]), words[-1]


def _set_default(wanted: DefaultPolicy, change: Change, preview: bool) -> Outcome | None:
    """None: it was only looked at, and nothing stands against it."""
    if change.occurred_at is not None:
        raise InvalidInput("--at", "doesn't apply to the default policy: it holds from now")
    with open_app() as app:
        if preview:
            return app.policies.preview(wanted, actor=change.actor)
        return app.policies.set_default(wanted, actor=change.actor, command_id=change.command_id)


def _set_own(command: SetGatePolicy, change: Change, preview: bool) -> Outcome | None:
    with open_app() as app:
        if preview:
            found: Refusal | None = app.organizations.preview(command, change.context)
            return found
        return app.organizations.handle(command, change.context)


def _show(organization: str, *, as_json: bool) -> None:
    check_organization("organization", organization)
    with open_reports() as (app, connection):
        find_organization(connection, organization)
        _, rows = gate_policies(connection)
        found = policy_in_force(rows, organization, app.clock())
    is_default = found is None or found.organization == EVERYBODY
    found = found or GatePolicyRow(EVERYBODY, "closed", None, None)
    if as_json:
        print_json({**_document(found), "organization": organization, "is_default": is_default})
        return
    nanos, end = found.ceiling_nanos, _until(found.until)
    ceiling = "" if nanos is None else f" up to {nanos_to_usd(nanos)} USD"
    whose = "the default" if is_default else "its own"
    out().print(f"the gate's policy of {organization} is {found.policy}{ceiling}{end} ({whose})")


def _list(*, as_json: bool) -> None:
    with open_reports() as (_, connection):
        version, rows = gate_policies(connection)
    found = [_document(one) for one in rows]
    if as_json:
        print_json({"policies": found, "version": version, "default": "closed"})
        return
    columns = ("organization", "policy", "ceiling_usd", "until")
    cells = [
        [one["organization"] or "all others", one["policy"], one["ceiling_usd"], _end(one["until"])]
        for one in found
    ]
    print_table("the gate's policies", columns, cells)
    if not any(one["organization"] is None for one in found):
        out().print("all others: closed")


def _document(one: GatePolicyRow) -> dict[str, object]:
    return {
        "organization": None if one.organization == EVERYBODY else one.organization,
        "policy": one.policy,
        **money("ceiling", one.ceiling_nanos),
        "until": instant(one.until),
    }


def _until(ends_at: int | None) -> str:
    return "" if ends_at is None else f" until {format_instant(ends_at)}"


def _end(until: object) -> str | None:
    return None if until is None else to_the_second(until)
