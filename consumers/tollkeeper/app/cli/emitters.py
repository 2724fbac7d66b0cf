"""`emitters`: who may hold money at the gate, when each was seen, and retiring one that is gone."""

from __future__ import annotations

import click

from tollkeeper.app.cli.common import json_option, open_app, open_reports
from tollkeeper.app.cli.exit_codes import REFUSED
from tollkeeper.app.cli.output import (
    err,
    out,
    print_json,
    print_refusal,
    print_table,
    to_the_second,
)
from tollkeeper.app.inline import Inline
from tollkeeper.app.seen_emitters import SeenEmitter, seen_emitters
from tollkeeper.enforcement.emitter_facts import log_retirement
from tollkeeper.errors import GateUnavailable, InvalidInput
from tollkeeper.events.ids import check_id
from tollkeeper.events.organization import OPERATOR
from tollkeeper.events.refusal import Refusal
from tollkeeper.organizations.refusals import OPERATOR_ONLY, not_allowed
from tollkeeper.reports.documents import instant
from tollkeeper.reports.emitters import EmitterLife, emitter_lives

APPEND_TIMEOUT_S = 10.0


@click.group()
def emitters() -> None:
    """Processes that report usage, and may hold money for it."""


@emitters.command("list")
@click.option("--all", "everybody", is_flag=True, help="Retired ones, too.")
@json_option
def emitters_list(everybody: bool, as_json: bool) -> None:
    """Every emitter that may hold, and when it was seen last."""
    with open_reports() as (app, connection):
        lives = emitter_lives(connection)
        try:
            enforcement = app.enforcing.running()
            seen = {} if enforcement is None else seen_emitters(enforcement.means.functions)
            away = None
        except GateUnavailable as error:
            seen, away = {}, str(error)
    shown = [one for one in lives if everybody or one.retired_at is None]
    rows = [_document(one, seen.get(one.emitter)) for one in shown]
    if as_json:
        print_json({"emitters": rows, "count": len(rows), "gate_away": away})
        return
    columns = ("emitter", "standing", "started_at", "seen_at", "retired_at", "reason")
    cells = [
        [to_the_second(row[name]) if name.endswith("_at") else row[name] for name in columns]
        for row in rows
    ]
    print_table("emitters", columns, cells, spare=("started_at", "reason"))
    if away is not None:
        err().print(f"when they were seen isn't known: {away}", style="yellow")


def _document(life: EmitterLife, seen: SeenEmitter | None) -> dict[str, object]:
    standing = "unlisted" if seen is None else seen.standing
    return {
        "emitter": life.emitter,
        "standing": "retired" if life.retired_at is not None else standing,
        "started_at": instant(life.started_at),
        "seen_at": None if seen is None else instant(seen.seen_at),
        "unseen_s": None if seen is None else seen.unseen_s,
        "retired_at": instant(life.retired_at),
        "retired_by": life.retired_by,
        "reason": life.reason,
    }


@emitters.command("retire")
@click.argument("emitter")
@click.option("--as", "actor", default=OPERATOR, metavar="MEMBER", help="Who asks [operator].")
@json_option
def emitters_retire(emitter: str, actor: str, as_json: bool) -> None:
    """Free all that EMITTER holds. If it lives after all it begins anew; its usage is charged."""
    check_id("emitter", emitter)
    check_id("--as", actor)
    if actor != OPERATOR:
        reason = not_allowed(actor, None, "retire an emitter", OPERATOR_ONLY)
        print_refusal(Refusal((reason,)), as_json=as_json)
        raise SystemExit(REFUSED)
    with open_reports() as (app, connection):
        lives = emitter_lives(connection, name=emitter)
        if not lives:
            raise InvalidInput(
                "emitter", f"{emitter} isn't known: see tollkeeper emitters list --all"
            )
    was_retired = lives[0].retired_at is not None
    with open_app() as app:
        if not was_retired:
            log_retirement(
                app.log,
                emitter,
                "operator",
                now=app.clock(),
                timeout_s=APPEND_TIMEOUT_S,
                actor=actor,
            )
        if app.enforcing.running() is not None:
            Inline(app).step()
    if as_json:
        print_json({"emitter": emitter, "retired": True, "was_retired_before": was_retired})
    elif was_retired:
        out().print(f"{emitter} was retired before; nothing new")
    else:
        out().print(f"{emitter} is retired: what it holds is freed as soon as that is folded")
