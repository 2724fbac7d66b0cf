"""What commands print: tables for people, one JSON document for programs; all else on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

import click
import msgspec
from rich.box import SIMPLE_HEAD
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

from tollkeeper.app.cli.exit_codes import AWAY, DONE, REFUSED
from tollkeeper.events.refusal import Refusal
from tollkeeper.outbox.deciding import Done, Outcome, Pending

SENTENCE_WIDTH = 16
"""How narrow a column of sentences may become."""

Document = Mapping[str, object]


def out() -> Console:
    """Standard output, for results."""
    return Console(highlight=False, soft_wrap=True, markup=False)


def err() -> Console:
    """Standard error, for everything else."""
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    click.echo(text)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; numbers and money stand right, with their points below each other.

    Sentences wrap, ids and money are never cut: what is too wide for the terminal stays so wide.
    """
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        show_header=any(columns),
    )
    shown = [["" if cell is None else str(cell) for cell in row] for row in rows]
    aligned = []
    for place, column in enumerate(columns):
        cells = [row[place] for row in shown]
        is_number = bool(cells) and all(map(_is_number, cells))
        cells = _with_equal_decimals(cells) if is_number else cells
        is_sentence = any(" " in cell for cell in cells)
        table.add_column(
            column,
            justify="right" if is_number else "left",
            overflow="fold",
            min_width=SENTENCE_WIDTH if is_sentence else max(map(len, [column, *cells])),
        )
        aligned.append(cells)
    for row in zip(*aligned, strict=True):
        table.add_row(*row)
    console = out()
    console.width = max(console.width, console.measure(table).minimum)
    console.print(table)


def compact(count: int) -> str:
    """A count of tokens for people: 12.9M. `--json` has it exact."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


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
    if lag is None:
        out().print(
            "stale or wrong: the log is away, or isn't the one that this was folded from; "
            "run: tollkeeper doctor",
            style="yellow",
        )
        return
    out().print(
        f"stale: {lag} records wait on the log; run: tollkeeper consume --until-caught-up",
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
    digits = text.lstrip("-").removesuffix("G").removesuffix("M").removesuffix("k")
    return digits.replace(".", "", 1).replace(",", "").isdigit() or text == ""


def _with_equal_decimals(cells: list[str]) -> list[str]:
    """Numbers filled up with zeros to the same number of decimals, where any has some."""
    decimals = max(len(cell.partition(".")[2]) for cell in cells)
    if decimals == 0 or not all(
        cell.replace(".", "").lstrip("-").isdigit() for cell in cells if cell
    ):
        return cells
    return [
        cell
        and f"{cell}{'' if '.' in cell else '.'}".ljust(
            len(cell.partition(".")[0]) + 1 + decimals, "0"
        )
        for cell in cells
    ]
