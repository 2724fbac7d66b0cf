"""`prices`: what is charged, and changes to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from tollkeeper.app.cli.common import Change, changing, json_option, open_app, open_reports
from tollkeeper.app.cli.exit_codes import REFUSED
from tollkeeper.app.cli.output import (
    err,
    out,
    print_json,
    print_outcome,
    print_refusal,
    print_table,
)
from tollkeeper.errors import InvalidInput
from tollkeeper.events.ids import now_micros
from tollkeeper.money.instants import MICROS_PER_HOUR, format_instant, parse_instant
from tollkeeper.operations.prices import price_history
from tollkeeper.outbox.database import reading
from tollkeeper.rating.files import read_price_file
from tollkeeper.rating.litellm import read_litellm
from tollkeeper.rating.publication import PriceChange, Proposal, changes, decide_publication
from tollkeeper.reports.prices import prices_in_force, publications

PICOS_SHOWN = 1_000_000  # pico-USD a token in one USD a million tokens

SHORT = {
    "input": "input",
    "output": "output",
    "cache_read": "read",
    "cache_write_5m": "write_5m",
    "cache_write_1h": "write_1h",
}
"""Token types with the names that fit a terminal; web searches aren't priced by the million."""


@click.group()
def prices() -> None:
    """List, publish and withdraw prices."""


@prices.command("list")
@click.option("--model")
@click.option("--at", "at", metavar="TIME", help="In force at this instant [now].")
@json_option
def prices_list(model: str | None, at: str | None, as_json: bool) -> None:
    """The prices in force, and every publication."""
    instant = now_micros() if at is None else parse_instant(at, field="--at")
    with open_reports() as (_app, connection):
        found = prices_in_force(connection, at=instant, model=model)
        published = publications(connection)
    if as_json:
        print_json({"at": format_instant(instant), "prices": found, "publications": published})
        return
    picos = [f"{name}_picos" for name in SHORT]
    rows = [
        [one["model"], _variant(one), one["over_prompt_tokens"], *(_usd(one[n]) for n in picos)]
        for one in found
    ]
    columns = ("model", "variant", "over", *SHORT.values())
    print_table("USD per million tokens", columns, rows, money=tuple(SHORT.values()))
    columns = ("publication_id", "effective_from", "rows", "withdrawn", "source", "source_date")
    rows = [[one[name] for name in columns] for one in published]
    print_table("publications", columns, rows, spare=("source_date", "source"))
    if not published:
        out().print("no prices are folded yet; run: tollkeeper consume --until-caught-up")


@prices.command("publish")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show the changes, do nothing.")
@click.option("--yes", is_flag=True, help="Also with changes of more than half.")
@json_option
@changing
def prices_publish(change: Change, file: Path, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Publish the prices in FILE (TOML); they never change afterwards."""
    _publish(change, read_price_file(_text(file)), dry_run=dry_run, yes=yes, as_json=as_json)


@prices.command("withdraw")
@click.argument("publication_id")
@json_option
@changing
def prices_withdraw(change: Change, publication_id: str, as_json: bool) -> None:
    """Take PUBLICATION_ID back before it takes effect."""
    with open_app() as app:
        outcome = app.prices.withdraw(
            publication_id, actor=change.actor, command_id=change.command_id
        )
    print_outcome(outcome, as_json=as_json, done=f"{publication_id} is withdrawn")


@prices.command("import-litellm")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--publication-id", required=True, help="The id to publish under.")
@click.option("--effective-from", metavar="TIME", help="When it takes effect [in an hour].")
@click.option("--model", "models", multiple=True, help="Only these models.")
@click.option("--dry-run", is_flag=True, help="Show the changes, do nothing.")
@click.option("--yes", is_flag=True, help="Also with changes of more than half.")
@json_option
@changing
def prices_import_litellm(
    change: Change,
    file: Path,
    publication_id: str,
    effective_from: str | None,
    models: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Publish prices from LiteLLM's price map (JSON)."""
    now = now_micros()
    imported = read_litellm(
        _text(file),
        publication_id=publication_id,
        effective_from=now + 2 * MICROS_PER_HOUR
        if effective_from is None
        else parse_instant(effective_from, field="--effective-from"),
        source_date=format_instant(now)[:10],
        models=models,
    )
    if imported.skipped and not as_json:
        rows = sorted(imported.skipped.items())
        print_table("not imported", ("model", "reason"), rows)
    _publish(
        change,
        imported.proposal,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
        extra={"skipped": imported.skipped},
    )


def _publish(
    change: Change,
    proposal: Proposal,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    extra: dict[str, object] | None = None,
) -> None:
    with open_app() as app:
        with reading(app.engine) as connection:
            history = price_history(connection)
        known = history.publications
        compared = [one for one in changes(known, proposal) if one.old_picos != one.new_picos]
        if dry_run:
            _preview(compared, proposal, extra or {}, as_json=as_json)
            refusal = decide_publication(
                known, proposal, now=app.clock(), withdrawn=history.withdrawn
            )
            if refusal is not None:
                if not as_json:
                    print_refusal(refusal, as_json=False)
                raise SystemExit(REFUSED)
            return
        large = [one for one in compared if one.is_large]
        if large and not yes:
            _print_changes(large, to_err=True)
            raise InvalidInput("--yes", f"is needed: {len(large)} prices change by more than half")
        outcome = app.prices.publish(proposal, actor=change.actor, command_id=change.command_id)
    print_outcome(
        outcome,
        as_json=as_json,
        done=f"{proposal.publication_id} is published: {len(proposal.prices)} rows, "
        f"in force from {format_instant(proposal.effective_from)}",
    )


def _preview(
    compared: list[PriceChange], proposal: Proposal, extra: dict[str, object], *, as_json: bool
) -> None:
    if not as_json:
        _print_changes(compared, to_err=False)
        return
    print_json(
        {
            "dry_run": True,
            "publication_id": proposal.publication_id,
            "effective_from": format_instant(proposal.effective_from),
            "changes": [_change_document(one) for one in compared],
            **extra,
        }
    )


def _change_document(one: PriceChange) -> dict[str, object]:
    return {
        "model": one.model,
        "service_tier": one.service_tier,
        "speed": one.speed,
        "region": one.region,
        "over_prompt_tokens": one.over_prompt_tokens,
        "token_type": one.token_type,
        "old_picos": one.old_picos,
        "new_picos": one.new_picos,
        "ratio": _ratio(one),
    }


def _print_changes(compared: list[PriceChange], *, to_err: bool) -> None:
    if to_err:
        for one in compared[:20]:
            err().print(
                f"{one.model} {one.token_type} ({one.service_tier}, {one.speed}, {one.region}): "
                f"{_usd(one.old_picos)} to {_usd(one.new_picos)}"
            )
        return
    columns = ("model", "variant", "over", "token_type", "old", "new", "ratio")
    rows = [
        (
            *(one.model, _variant(_change_document(one)), one.over_prompt_tokens, one.token_type),
            *(_usd(one.old_picos), _usd(one.new_picos), _ratio(one)),
        )
        for one in compared
    ]
    print_table("USD per million tokens", columns, rows, money=("old", "new"))


def _variant(one: Mapping[str, object]) -> str:
    """What makes the price differ from the usual one: `batch us`; the usual one is `standard`."""
    usual = {"service_tier": "standard", "speed": "standard", "region": "global"}
    differs = [str(one[name]) for name, value in usual.items() if one[name] != value]
    return " ".join(differs) or "standard"


def _ratio(one: PriceChange) -> str | None:
    """New over old in per cent, in whole numbers."""
    if not one.old_picos or one.new_picos is None:
        return None
    return f"{one.new_picos * 100 // one.old_picos} %"


def _usd(picos: object) -> str | None:
    """Pico-USD a token as USD a million tokens."""
    if picos is None:
        return None
    whole, rest = divmod(int(str(picos)), PICOS_SHOWN)
    return f"{whole}.{rest:06d}".rstrip("0").ljust(len(str(whole)) + 3, "0")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(str(file), f"isn't UTF-8 text: {error.reason}") from error
