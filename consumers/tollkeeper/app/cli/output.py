"""What commands print: tables for people, one JSON document for programs; all else on standard error."""

from __future__ import annotations

import re
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

WIDEST = 10_000
"""How wide a table may be measured; ids end far below."""

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?[kMG]?")
_FRACTION = re.compile(r"\.[0-9]+Z$")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")

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


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    spare: Sequence[str] = (),
    money: Sequence[str] = (),
) -> None:
    """A table; numbers and money stand right, with their points below each other.

    Sentences wrap, ids and money are never cut: what is too wide for the terminal stays so wide, once
    the `spare` columns are left out, the last of them first. Columns of money are those named `…_usd`,
    and those in `money`.
    """
    shown = [[_shown(cell) for cell in row] for row in rows]
    console = out()
    if not shown:
        console.print(f"{title}: none")
        return
    left_out: list[str] = []
    while True:
        kept = [place for place, name in enumerate(columns) if name not in left_out]
        names = [columns[place] for place in kept]
        table = _table(title, names, [[row[place] for place in kept] for row in shown], money)
        width = console.measure(table, options=console.options.update(width=WIDEST)).minimum
        if width <= console.width or len(left_out) == len(spare):
            break
        left_out.append(spare[-1 - len(left_out)])
    console.width = max(console.width, width)
    console.print(table)
    if left_out:
        missing = ", ".join(reversed(left_out))
        console.print(f"left out: {missing}; a wider terminal or --json has them", style="dim")


def _table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], money: Sequence[str]
) -> Table:
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
    aligned = []
    for place, column in enumerate(columns):
        cells = [row[place] for row in rows]
        is_money = column.endswith("_usd") or column in money
        is_number = is_money or (any(cells) and all(map(_is_number, cells)))
        cells = _with_equal_decimals(cells) if is_money else cells
        is_sentence = any(" " in cell for cell in cells)
        longest_word = max(len(word) for cell in cells for word in (cell.split() or [""]))
        table.add_column(
            column,
            justify="right" if is_number else "left",
            overflow="fold",
            min_width=max(len(column), longest_word, SENTENCE_WIDTH if is_sentence else 0),
        )
        aligned.append(cells)
    for row in zip(*aligned, strict=True):
        table.add_row(*row)
    return table


def compact(count: int) -> str:
    """A count of tokens for people: 12.9M. `--json` has it exact."""
    if count < 1_000:
        return str(count)
    for unit, size in (("k", 10**3), ("M", 10**6)):
        if count * 20 < size * 19_999:  # 999.95 and above would be shown as 1000.0
            return f"{count / size:.1f}{unit}"
    return f"{count / 10**9:.1f}G"


def to_the_second(instant: object) -> str:
    """A time for people; `--json` has its microseconds."""
    return _FRACTION.sub("Z", str(instant or ""))


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


def _shown(cell: object) -> str:
    match cell:
        case None:
            return ""
        case True:
            return "yes"
        case False:
            return "no"
        case _:
            return str(cell)


def _is_number(text: str) -> bool:
    return text == "" or _NUMBER.fullmatch(text) is not None


def _with_equal_decimals(cells: list[str]) -> list[str]:
    """Numbers filled up with zeros to the same number of decimals; words and counts stay as they are."""
    plain = [bool(_DECIMAL.fullmatch(cell)) for cell in cells]
    decimals = max(
        (
            len(cell.partition(".")[2])
            for cell, is_plain in zip(cells, plain, strict=True)
            if is_plain
        ),
        default=0,
    )
    if decimals == 0:
        return cells
    return [
        cell.partition(".")[0] + "." + cell.partition(".")[2].ljust(decimals, "0")
        if is_plain
        else cell
        for cell, is_plain in zip(cells, plain, strict=True)
    ]
