"""`dead-letters`: what was quarantined, and the operator's decision about it."""

from __future__ import annotations

from typing import cast

import click

from tollkeeper.app.cli.common import Change, changing, json_option, open_app, open_reports
from tollkeeper.app.cli.exit_codes import AWAY, DONE, REFUSED
from tollkeeper.app.cli.output import out, print_fields, print_json, print_refusal, print_table
from tollkeeper.app.wiring import App
from tollkeeper.errors import InvalidInput
from tollkeeper.events.refusal import Refusal
from tollkeeper.ledger.rows import Place
from tollkeeper.operations.quarantine import MAX_LETTERS, parse_letter_id
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Pending
from tollkeeper.reports.letters import (
    MAX_LISTED,
    LetterFilter,
    all_letters,
    find_letter,
    find_letters,
    group_letters,
    letter_document,
    letter_id,
)

GROUPS = ("cause", "model", "organization")


@click.group("dead-letters")
def dead_letters() -> None:
    """Records that weren't folded, with their bytes and cause."""


@dead_letters.command("list")
@click.option("--cause")
@click.option("--model")
@click.option("--organization")
@click.option("--all", "closed_too", is_flag=True, help="Closed ones too.")
@click.option("--group-by", metavar=",".join(GROUPS), help="Counts and amounts at risk.")
@json_option
def letters_list(
    cause: str | None,
    model: str | None,
    organization: str | None,
    closed_too: bool,
    group_by: str | None,
    as_json: bool,
) -> None:
    """The open dead letters."""
    by = [] if group_by is None else group_by.split(",")
    unknown = [name for name in by if name not in GROUPS]
    if unknown:
        raise InvalidInput(
            "--group-by", f"must name some of {', '.join(GROUPS)}, not {unknown[0]!r}"
        )
    chosen = LetterFilter(
        cause=cause, model=model, organization=organization, status=None if closed_too else "open"
    )
    with open_reports() as (_app, connection):
        if by:
            groups = group_letters(all_letters(connection, chosen), by)
        else:
            letters = find_letters(connection, chosen)
    if by:
        if as_json:
            count = sum(cast(int, one["count"]) for one in groups)
            print_json({"groups": groups, "count": count})
        else:
            _print_groups(groups, by)
        return
    documents = [letter_document(letter) for letter in letters]
    if as_json:
        is_cut = len(documents) == MAX_LISTED
        print_json({"dead_letters": documents, "count": len(documents), "is_cut": is_cut})
        return
    columns = (
        "id",
        "cause",
        "status",
        "organization",
        "event_id",
        "model",
        "amount_at_risk_usd",
        "detail",
    )
    rows = [[one[name] for name in columns] for one in documents]
    spare = ("model", "event_id", "organization", "detail", "status")
    print_table("dead letters", columns, rows, spare=spare)
    if len(letters) == MAX_LISTED:
        out().print(f"these are the first {MAX_LISTED}; narrow it down, or use --group-by")


def _print_groups(groups: list[dict[str, object]], by: list[str]) -> None:
    rows = [
        [
            *(one[name] for name in by),
            one["count"],
            "unknown" if one["unpriced"] == one["count"] else one["amount_at_risk_usd"],
            one["unpriced"],
        ]
        for one in groups
    ]
    print_table("dead letters", (*by, "count", "at_risk_usd", "of_unknown_price"), rows)


@dead_letters.command("show")
@click.argument("letter")
@json_option
def letters_show(letter: str, as_json: bool) -> None:
    """One LETTER with its bytes."""
    with open_reports() as (_app, connection):
        found = letter_document(find_letter(connection, parse_letter_id(letter)), with_raw=True)
    if as_json:
        print_json(found)
    else:
        print_fields(letter, found)


@dead_letters.command("release")
@click.argument("letter", required=False)
@click.option("--cause")
@click.option("--model")
@click.option("--organization")
@click.option("--dry-run", is_flag=True, help="Show which, do nothing.")
@json_option
@changing
def letters_release(
    change: Change,
    letter: str | None,
    cause: str | None,
    model: str | None,
    organization: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fold LETTER, or all that match, again; what still can't be folded stays."""
    chosen = LetterFilter(cause=cause, model=model, organization=organization)
    _decide(change, letter, chosen, None, dry_run=dry_run, as_json=as_json)


@dead_letters.command("discard")
@click.argument("letter", required=False)
@click.option("--cause")
@click.option("--model")
@click.option("--organization")
@click.option("--reason", required=True, help="Why it will never be charged.")
@click.option("--dry-run", is_flag=True, help="Show which, do nothing.")
@json_option
@changing
def letters_discard(
    change: Change,
    letter: str | None,
    cause: str | None,
    model: str | None,
    organization: str | None,
    reason: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Close LETTER, or all that match, for good."""
    chosen = LetterFilter(cause=cause, model=model, organization=organization)
    _decide(change, letter, chosen, reason, dry_run=dry_run, as_json=as_json)


def _decide(
    change: Change,
    letter: str | None,
    chosen: LetterFilter,
    reason: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    is_filtered = any((chosen.cause, chosen.model, chosen.organization))
    if (letter is not None) == is_filtered:
        raise InvalidInput(
            "dead letter", "give either one id, or --cause, --model or --organization"
        )
    if change.occurred_at is not None:
        raise InvalidInput(
            "--at", "doesn't apply to dead letters: a decision about them holds from now"
        )
    verb = "released" if reason is None else "discarded"
    with open_app() as app:
        letters = _chosen(app, letter, chosen, dry_run=dry_run)
        document: dict[str, object] = {verb: 0, "letters": len(letters)}
        code = DONE
        if not dry_run:
            code = _decide_all(app, change, letters, reason, document, verb, as_json)
    if as_json and code != REFUSED:
        print_json({**document, "dry_run": dry_run})
    elif code != REFUSED:
        what = f"would have {verb}" if dry_run else verb
        out().print(f"{what} {len(letters) if dry_run else document[verb]}; fold them with consume")
    raise SystemExit(code)


def _decide_all(
    app: App,
    change: Change,
    letters: list[Place],
    reason: str | None,
    document: dict[str, object],
    verb: str,
    as_json: bool,
) -> int:
    """In groups, each under a key of its own, so that a retry goes on where this one ended."""
    decided = 0
    for start in range(0, len(letters), MAX_LETTERS):
        places = letters[start : start + MAX_LETTERS]
        key = change.command_id if len(letters) <= MAX_LETTERS else f"{change.command_id}:{start}"
        if reason is None:
            outcome = app.quarantine.release(places, actor=change.actor, command_id=key)
        else:
            outcome = app.quarantine.discard(
                places, reason=reason, actor=change.actor, command_id=key
            )
        if isinstance(outcome, Refusal):
            print_refusal(outcome, as_json=as_json)
            return REFUSED
        decided += len(places)
        document[verb] = decided
        if isinstance(outcome, Pending):
            document["pending"] = outcome.cause
            return AWAY
    return DONE


def _chosen(app: App, letter: str | None, chosen: LetterFilter, *, dry_run: bool) -> list[Place]:
    """The letters that are meant; that one is closed already is the command's to refuse or repeat."""
    with reading(app.engine) as connection:
        if letter is None:
            return [one.place for one in all_letters(connection, chosen)]
        found = find_letter(connection, parse_letter_id(letter))
    if dry_run and found.status != "open":
        raise InvalidInput("dead letter", f"{letter_id(found)} is {found.status} already")
    return [found.place]
