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
from tollkeeper.app.cli.folded import Column, folded
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

    Sentences wrap, ids and money are never cut: what is too wide for the terminal is folded, once the
    `spare` columns are left out, the last of them first. Columns of money are those named `…_usd`, and
    those in `money`.
    """
    shown = [[_shown(cell) for cell in row] for row in rows]
    console = out()
    if not shown:
        console.print(f"{title}: none")
        return
    kept = [
        _column(
            name, [row[place] for row in shown], is_money=name.endswith("_usd") or name in money
        )
        for place, name in enumerate(columns)
    ]
    left_out: list[str] = []
    while not (is_fitting := _fits(kept, console)) and len(left_out) < len(spare):
        left_out.append(spare[-1 - len(left_out)])
        kept = [one for one in kept if one.name not in left_out]
    if is_fitting:
        console.print(_table(title, kept))
    else:
        console.print(title, style="table.title")
        for number, line in enumerate(folded(kept, console.width)):
            console.print(line, style=None if number else "bold")
    if left_out:
        missing = ", ".join(reversed(left_out))
        console.print(f"left out: {missing}; a wider terminal or --json has them", style="dim")


def _column(name: str, cells: list[str], *, is_money: bool) -> Column:
    is_number = is_money or (any(cells) and all(map(_is_number, cells)))
    return Column(name, _with_equal_decimals(cells) if is_money else cells, is_number)


def _fits(columns: Sequence[Column], console: Console) -> bool:
    wide = console.options.update(width=WIDEST)
    return console.measure(_table("", columns), options=wide).minimum <= console.width


def _table(title: str, columns: Sequence[Column]) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        show_header=any(one.name for one in columns),
    )
    for one in columns:
        longest_word = max(len(word) for cell in one.cells for word in (cell.split() or [""]))
        table.add_column(
            one.name,
            justify="right" if one.is_number else "left",
            overflow="fold",
            min_width=max(len(one.name), longest_word, SENTENCE_WIDTH if one.is_sentence else 0),
        )
    for row in zip(*(one.cells for one in columns), strict=True):
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
