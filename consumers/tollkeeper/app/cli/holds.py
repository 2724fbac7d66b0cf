"""`hold`, `release` and `holds`: asking the gate as a product service does, and looking at what is held."""

from __future__ import annotations

from contextlib import suppress

import click

from tollkeeper.app.cli.common import json_option, open_app, open_looking, positive_usd
from tollkeeper.app.cli.durations import duration_s
from tollkeeper.app.cli.exit_codes import AWAY, REFUSED
from tollkeeper.app.cli.output import err, out, print_json, print_table, to_the_second
from tollkeeper.app.holding import hold as hold_at_the_gate
from tollkeeper.app.inline import Inline
from tollkeeper.app.open_holds import ListedHold, list_holds
from tollkeeper.app.wiring import App
from tollkeeper.errors import GateUnavailable, InvalidInput, StoreUnavailable
from tollkeeper.events.ids import check_organization
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.amounts import NANOS_PER_MICRO, spent_micros
from tollkeeper.gate.hold_ids import parse_hold_id
from tollkeeper.gate.sdk.asks import Ask, ask, ask_amount
from tollkeeper.gate.sdk.book import Kept
from tollkeeper.gate.sdk.obstacles import Obstacle
from tollkeeper.gate.sdk.policies import Policy
from tollkeeper.gate.sdk.refused import Refused, unavailable
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.outbox.database import reading
from tollkeeper.reports.documents import instant, money
from tollkeeper.reports.organizations import find_organization

LAPSES = (
    "no process keeps it: it goes when Redis is replaced, and 900 s after this home's last asking"
)


@click.command()
@click.argument("organization")
@click.argument("member")
@click.option(
    "--surface", required=True, metavar="S", help="web, desktop, mobile, claude_code, cowork."
)
@click.option("--usd", "amount", metavar="X", help="What the call may cost at most.")
@click.option("--model", metavar="M", help="Or its model, with the tokens.")
@click.option("--input-tokens", type=int, metavar="N", help="The whole prompt.")
@click.option("--max-output-tokens", type=int, metavar="N", help="The request's own bound.")
@click.option(
    "--hold-id", "suffix", metavar="SUFFIX", help="A name: asked for again it is the same hold."
)
@json_option
def hold(
    organization: str,
    member: str,
    surface: str,
    amount: str | None,
    model: str | None,
    input_tokens: int | None,
    max_output_tokens: int | None,
    suffix: str | None,
    as_json: bool,
) -> None:
    """Reserve money for a call of MEMBER of ORGANIZATION, or hear every reason against it."""
    asked = _asked(organization, member, surface, amount, model, input_tokens, max_output_tokens)
    if suffix is not None and ("/" in suffix or not suffix):
        raise InvalidInput("--hold-id", "must be a name without /")
    with open_app() as app:
        try:
            kept, policy = hold_at_the_gate(app, asked, suffix=suffix, said=_say_waiting)
        except Refused as refused:
            _refuse(refused, as_json=as_json)
        except GateUnavailable as away:
            obstacle: Obstacle = "other" if app.settings.redis.is_embedded else "away"
            refusal = unavailable(organization, str(away), obstacle, requested_micros=None)
            _refuse(refusal, as_json=as_json)
    _print_granted(kept, policy, as_json=as_json)


def _asked(
    organization: str,
    member: str,
    surface: str,
    amount: str | None,
    model: str | None,
    input_tokens: int | None,
    max_output_tokens: int | None,
) -> Ask:
    tokens = (model, input_tokens, max_output_tokens)
    if amount is not None and any(one is not None for one in tokens):
        raise InvalidInput("--usd", "and --model with its tokens exclude each other")
    if amount is None and any(one is None for one in tokens):
        raise InvalidInput(
            "--usd", "must be given, or --model with --input-tokens and --max-output-tokens"
        )
    if amount is not None:
        micros = spent_micros(positive_usd(amount, field="--usd"))
        return ask_amount(
            organization=organization, member=member, surface=surface, max_cost_micros=micros
        )
    assert model is not None
    return ask(
        organization=organization,
        member=member,
        surface=surface,
        model=model,
        input_tokens=input_tokens,
        max_output_tokens=max_output_tokens,
    )


def _say_waiting(what: str) -> None:
    err().print(f"the gate isn't open yet: {what}", style="dim")


def _refuse(refused: Refused, *, as_json: bool) -> None:
    """Every reason (R24); exit code 3 when the gate didn't know, 1 when it said no."""
    if as_json:
        print_json(refused.as_document())
    else:
        for reason in refused.reasons:
            err().print(f"refused ({reason.rule}): {reason.message}", style="red")
            if reason.who_can_lift:
                err().print(f"  who can lift it: {', '.join(reason.who_can_lift)}")
            if reason.lifts_at is not None:
                err().print(f"  lifts by itself: {to_the_second(instant(reason.lifts_at))}")
            err().print(f"  next step: {reason.next_step}")
    raise SystemExit(AWAY if refused.is_unavailable else REFUSED)


def _print_granted(kept: Kept, policy: Policy | None, *, as_json: bool) -> None:
    nanos = kept.held_micros * NANOS_PER_MICRO
    if as_json:
        print_json(
            {
                "granted": True,
                "hold_id": kept.hold_id,
                **money("held", nanos),
                "granted_at": instant(kept.granted_at),
                "policy": None if policy is None else policy.name,
                "is_kept_by_a_process": False,
            }
        )
        return
    if policy is not None:
        out().print(f"let through by the policy {policy.name}: nothing is held", style="yellow")
        return
    out().print(f"granted: {nanos_to_usd(nanos)} USD are held as {kept.hold_id}")
    out().print(LAPSES, style="dim")


@click.command()
@click.argument("hold_id")
@json_option
def release(hold_id: str, as_json: bool) -> None:
    """Free HOLD_ID, of whose call the provider did not begin to answer."""
    parsed = parse_hold_id(hold_id)
    with open_app() as app:
        inline = Inline(app)
        inline.open(lambda: None, said=_say_waiting)
        functions = inline.enforcement.means.functions
        tag = functions.tag_of(parsed.organization)
        key = functions.run(encoding.read_epoch(tag=tag))
        if isinstance(key, a.NoEpoch):
            raise GateUnavailable("the gate has no epoch yet: start `tollkeeper run`")
        answer = functions.run(encoding.release(hold_id, epoch=key.epoch, tag=tag))
    if not isinstance(answer, a.Released):
        raise GateUnavailable(f"the hold can't be released now: {answer}")
    nanos = answer.freed_micros * NANOS_PER_MICRO
    if as_json:
        print_json({"released": True, "hold_id": hold_id, **money("freed", nanos)})
    elif nanos:
        out().print(f"released: {nanos_to_usd(nanos)} USD are free again")
    else:
        out().print("nothing was held under this id any more; it can't be used again")


@click.group()
def holds() -> None:
    """Money that is reserved for calls under way."""


@holds.command("list")
@click.argument("organization")
@click.option("--older-than", metavar="TIME", help="Held for longer: 90, 15m, 2h, 1d.")
@json_option
def holds_list(organization: str, older_than: str | None, as_json: bool) -> None:
    """The open holds of ORGANIZATION, the oldest first."""
    check_organization("organization", organization)
    least_s = 0.0 if older_than is None else duration_s(older_than, field="--older-than")
    with open_looking() as app:
        listed = list_holds(app, organization)
        if not listed:
            _check_is_known(app, organization)
    found = [one for one in listed if one.age_s >= least_s]
    if as_json:
        rows = [one.as_document() for one in found]
        print_json({"organization": organization, "holds": rows, "count": len(rows)})
        return
    columns = ("hold_id", "member", "held_usd", "granted_at", "age_s")
    print_table(f"open holds of {organization}", columns, [_row(one) for one in found])


def _check_is_known(app: App, organization: str) -> None:
    """InvalidInput: the ledger doesn't know it. While SQL is away, what Redis has is the answer."""
    with suppress(StoreUnavailable):
        app.check_database()
        with reading(app.engine) as connection:
            find_organization(connection, organization)


def _row(one: ListedHold) -> tuple[object, ...]:
    granted_at = to_the_second(instant(one.granted_at))
    return (one.hold_id, one.member, nanos_to_usd(one.held_nanos), granted_at, round(one.age_s))
