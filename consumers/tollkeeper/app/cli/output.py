"""What commands print: tables for people, one JSON document for programs; all else on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from tollkeeper.events.refusal import Refusal
from tollkeeper.outbox.deciding import Done, Outcome, Pending

DONE, REFUSED, USAGE, AWAY, BUG = 0, 1, 2, 3, 70
"""The shell exit codes that programs rely on."""

Document = Mapping[str, object]


def out() -> Console:
    """Standard output, for results."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Standard error, for everything else."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    click.echo(text)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; numbers and money stand right."""
    table = Table(title=title, title_justify="left", header_style="bold")
    shown = [["" if cell is None else str(cell) for cell in row] for row in rows]
    for place, column in enumerate(columns):
        is_number = bool(shown) and all(_is_number(row[place]) for row in shown)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in shown:
        table.add_row(*row)
    out().print(table)


def print_fields(title: str, fields: Document) -> None:
    """One thing's fields, a line each; nested documents are left to `--json`."""
    rows = [(name, value) for name, value in fields.items() if not isinstance(value, list | dict)]
    print_table(title, ("", ""), rows)


def print_freshness(freshness: Document) -> None:
    """How fresh the figures above are, and what to run when they are stale."""
    lag = freshness["lag_events"]
    if lag == 0:
        out().print(f"as of {freshness['as_of']}, nothing waits on the log", style="dim")
        return
    count = "an unknown number of" if lag is None else lag
    out().print(
        f"stale: {count} records wait on the log; run: tollkeeper consume --until-caught-up",
        style="yellow",
    )


def print_outcome(outcome: Outcome, *, as_json: bool, done: str) -> NoReturn:
    """What became of a command, and the exit code that says so."""
    match outcome:
        case Done():
            if as_json:
                print_json(outcome.answer)
            else:
                again = " (this was done before; nothing new)" if outcome.is_repeated else ""
                out().print(done + again)
            raise SystemExit(DONE)
        case Pending():
            document = {"pending": True, "cause": outcome.cause, **outcome.answer}
            if as_json:
                print_json(document)
            command_id = outcome.answer.get("command_id")
            err().print(
                f"pending: decided, but not yet on the log ({outcome.cause}); ask again with "
                f"--idempotency-key {command_id}, or start `tollkeeper run`",
                style="yellow",
            )
            raise SystemExit(AWAY)
        case Refusal():
            print_refusal(outcome, as_json=as_json)
            raise SystemExit(REFUSED)


def print_refusal(refusal: Refusal, *, as_json: bool) -> None:
    """Every reason, with who can lift it and the next step."""
    if as_json:
        print_json(refusal.as_document())
        return
    for reason in refusal.reasons:
        err().print(f"refused ({reason.rule}): {reason.message}", style="red")
        if reason.who_can_lift:
            err().print(f"  who can lift it: {', '.join(reason.who_can_lift)}")
        err().print(f"  next step: {reason.next_step}")


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Progress]:
    """A progress bar on standard error; invisible where that is no terminal."""
    console = err()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        bar.add_task(description, total=total)
        yield bar


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).replace(",", "").isdigit() or text == ""
