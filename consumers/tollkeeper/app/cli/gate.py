"""`gate`: watching it; its policies stand in `gate_policy`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import click
import msgspec
from rich.console import Group
from rich.live import Live
from rich.table import Table

from tollkeeper.app.cli.common import json_option, open_looking
from tollkeeper.app.cli.durations import duration_s
from tollkeeper.app.cli.exit_codes import AWAY
from tollkeeper.app.cli.gate_policy import policy
from tollkeeper.app.cli.output import out, print_json
from tollkeeper.app.gate_looking import (
    HeldNow,
    PrimaryNow,
    look_at_holds,
    look_at_primaries,
    running_functions,
)
from tollkeeper.app.settings import load_settings
from tollkeeper.errors import GateUnavailable, InvalidInput
from tollkeeper.events.ids import check_organization, now_micros
from tollkeeper.gate.embedded import running_gate, stop_embedded_gate
from tollkeeper.gate.functions import GateFunctions
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.reports.documents import instant

LEAST_EVERY_S = 0.1


class Moment(msgspec.Struct, frozen=True):
    """The gate at one moment; `away` says why it couldn't be asked."""

    at: int
    primaries: list[PrimaryNow]
    organizations: list[HeldNow]
    away: str | None

    def as_document(self) -> dict[str, object]:
        """One line of `gate watch --json`."""
        return {
            "at": instant(self.at),
            "primaries": [
                {**msgspec.structs.asdict(one), "grants": one.grants} for one in self.primaries
            ],
            "organizations": [one.as_document() for one in self.organizations],
            "away": self.away,
        }


@click.group()
def gate() -> None:
    """The gate, which product services ask before they spend."""


gate.add_command(policy)


@gate.command("watch")
@click.argument("organizations", nargs=-1, metavar="[ORGANIZATION]...")
@click.option("--for", "how_long", metavar="TIME", help="End after 10, 5m, 1h; 0 looks once.")
@click.option("--every", default="1", show_default=True, metavar="TIME", help="Between two looks.")
@json_option
def watch(organizations: tuple[str, ...], how_long: str | None, every: str, as_json: bool) -> None:
    """Epochs, leases, queues and holds as they are, until Ctrl-C; --json is a document a line."""
    for name in organizations:
        check_organization("organization", name)
    every_s = duration_s(every, field="--every")
    if every_s < LEAST_EVERY_S:
        raise InvalidInput("--every", f"must be at least {LEAST_EVERY_S:g} s")
    until_s = None if how_long is None else duration_s(how_long, field="--for")
    with open_looking() as app:
        functions = running_functions(app)
        moments = _moments(functions, organizations, every_s=every_s, until_s=until_s)
        if as_json:
            for moment in moments:
                click.echo(msgspec.json.encode(moment.as_document()))
        elif sys.stdout.isatty():
            with Live(console=out(), auto_refresh=False) as live:
                for moment in moments:
                    live.update(_shown(moment), refresh=True)
        else:
            for moment in moments:
                out().print(_shown(moment))
    if moment.away is not None:
        raise SystemExit(AWAY)


@gate.command("stop")
@json_option
def stop(as_json: bool) -> None:
    """End this home's embedded gate; its data stays, and the next hold starts it again."""
    settings = load_settings(os.environ).redis
    if not settings.is_embedded:
        raise InvalidInput("TOLLKEEPER_REDIS", "names a server that is stopped where it runs")
    was_running = running_gate(settings.home) is not None
    if was_running:
        stop_embedded_gate(settings.home)
    if as_json:
        print_json({"home": str(settings.home), "was_running": was_running})
    else:
        out().print("the embedded gate has ended" if was_running else "no embedded gate runs here")


def _moments(
    functions: GateFunctions,
    organizations: tuple[str, ...],
    *,
    every_s: float,
    until_s: float | None,
) -> Iterator[Moment]:
    """At least one; a gate that goes away is a moment like any other."""
    began = time.monotonic()
    while True:
        try:
            yield Moment(
                now_micros(),
                look_at_primaries(functions),
                [look_at_holds(functions, name) for name in organizations],
                None,
            )
        except GateUnavailable as away:
            yield Moment(now_micros(), [], [], str(away))
        if until_s is not None and time.monotonic() - began + every_s > until_s:
            return
        time.sleep(every_s)


def _shown(moment: Moment) -> Group:
    if moment.away is not None:
        return Group(f"{instant(moment.at)}: {moment.away}")
    primaries = Table(title=f"the gate at {instant(moment.at)}", title_justify="left")
    for column in ("primary", "epoch", "phase", "lease_s", "emitters", "asked", "prices"):
        primaries.add_column(column)
    for one in moment.primaries:
        words = (one.primary, one.epoch, one.phase, f"{max(0.0, one.lease_s):.1f}")
        more = (one.emitters, one.asked, one.prices_version)
        primaries.add_row(*map(str, (*words, *more)))
    if not moment.organizations:
        return Group(primaries)
    held = Table(title="holds", title_justify="left")
    for column in ("organization", "known", "offset", "holds", "held_usd", "oldest_granted_at"):
        held.add_column(column)
    for row in moment.organizations:
        usd = nanos_to_usd(row.held_nanos)
        known, oldest = "yes" if row.known else "no", instant(row.oldest_granted_at) or ""
        held.add_row(row.organization, known, str(row.offset), str(row.holds), usd, oldest)
    return Group(primaries, held)
