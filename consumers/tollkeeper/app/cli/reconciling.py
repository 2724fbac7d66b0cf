"""`reconcile`: Redis against SQL at the same offset."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from tollkeeper.app.cli.common import json_option, open_app, open_reports
from tollkeeper.app.cli.exit_codes import REFUSED
from tollkeeper.app.cli.output import out, print_json, print_table
from tollkeeper.app.inline import Inline
from tollkeeper.app.wiring import App
from tollkeeper.enforcement.reconciling import Finding
from tollkeeper.enforcement.settings import EnforcementSettings
from tollkeeper.reports.organizations import find_organization, organizations

AT_ONCE = EnforcementSettings().warm_at_once
LOOKS = 20
"""One that is behind is looked at again: a fold may be on its way to Redis."""
PAUSE_S = 0.25
VERDICTS = ("equal", "unknown", "behind", "different")


@click.command()
@click.argument("organization", required=False)
@click.option("--repair", is_flag=True, help="Have what differs read anew from the ledger.")
@json_option
def reconcile(organization: str | None, repair: bool, as_json: bool) -> None:
    """Compare Redis with the ledger at one offset, and name the first difference of each organization."""
    with open_reports() as (_, connection):
        if organization is None:
            names = organizations(connection)
        else:
            names = [find_organization(connection, organization).organization]
    with open_app() as app:
        found = _compared(app, names, repair=repair)
    counts = {verdict: sum(one.verdict == verdict for one in found) for verdict in VERDICTS}
    differing = [one for one in found if one.verdict in ("behind", "different")]
    is_well = all(one.is_repaired for one in differing)
    if as_json:
        rows = [_document(one) for one in differing]
        print_json({"agrees": not differing, **counts, "findings": rows})
    else:
        columns = ("organization", "verdict", "field", "in_redis", "in_sql", "is_repaired")
        if differing:
            rows_ = [[getattr(one, name) for name in columns] for one in differing]
            print_table("first difference of each organization", columns, rows_)
        else:
            out().print("Redis and the ledger agree", style="green")
        out().print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if not is_well:
        raise SystemExit(REFUSED)


def _compared(app: App, names: Sequence[str], *, repair: bool) -> list[Finding]:
    if app.enforcing.running() is None:
        return [Finding(name, "unknown") for name in names]  # nothing there contradicts anything
    inline = Inline(app)
    found: dict[str, Finding] = {}
    pending = list(names)
    for look in range(LOOKS):
        inline.step()
        for at in range(0, len(pending), AT_ONCE):
            part = pending[at : at + AT_ONCE]
            for one in inline.enforcement.reconcile(part, repair=False):
                found[one.organization] = one
        pending = [name for name in pending if found[name].verdict == "behind"]
        if not pending:
            break
        if look < LOOKS - 1:
            time.sleep(PAUSE_S)
    differing = [name for name in names if found[name].verdict in ("behind", "different")]
    if repair:
        for at in range(0, len(differing), AT_ONCE):
            part = differing[at : at + AT_ONCE]
            for one in inline.enforcement.reconcile(part, repair=True):
                found[one.organization] = one
    return [found[name] for name in names]


def _document(one: Finding) -> dict[str, object]:
    return {
        "organization": one.organization,
        "verdict": one.verdict,
        "field": one.field,
        "in_redis": one.in_redis,
        "in_sql": one.in_sql,
        "repaired": one.is_repaired,
    }
