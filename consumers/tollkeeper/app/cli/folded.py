"""A table that is wider than the terminal: its widest columns stand below their row, and stay whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

import msgspec

GAP = "  "


class Column(msgspec.Struct, frozen=True):
    """A column's name and all its cells; numbers stand right."""

    name: str
    cells: Sequence[str]
    is_number: bool

    @property
    def width(self) -> int:
        """Of what is longest in it."""
        return max(map(len, (self.name, *self.cells)))

    @property
    def is_sentence(self) -> bool:
        """Whether it may wrap between words."""
        return any(" " in cell for cell in self.cells)


def folded(columns: Sequence[Column], width: int) -> Iterator[str]:
    """The lines of the table: its head, a rule, and the rows.

    None is wider than `width` unless a word alone is: that has the line for itself, so that it can be
    copied whole.
    """
    # Of two columns the first says what the second is of, and stays beside it.
    beside = columns if len(columns) == 2 else _beside(columns, width)
    below = [one for one in columns if one not in beside]
    if any(one.name for one in columns):
        yield _line(beside, [one.name for one in beside])
        yield "─" * min(width, _width(beside))
    for row in range(len(columns[0].cells)):
        cells = [one.cells[row] for one in beside]
        if len(columns) == 2:
            yield from _labelled(cells[0].ljust(columns[0].width) + GAP, cells[1], width)
        else:
            yield _line(beside, cells)
        for one in below:
            if one.cells[row]:
                yield from _labelled(f"{GAP}{one.name}: ", one.cells[row], width)


def _beside(columns: Sequence[Column], width: int) -> list[Column]:
    beside = list(columns)
    while len(beside) > 1 and _width(beside) > width:
        beside.remove(max(beside, key=lambda one: one.width))
    return beside


def _width(columns: Sequence[Column]) -> int:
    return sum(one.width for one in columns) + len(GAP) * (len(columns) - 1)


def _line(columns: Sequence[Column], cells: Sequence[str]) -> str:
    return GAP.join(
        cell.rjust(one.width) if one.is_number else cell.ljust(one.width)
        for one, cell in zip(columns, cells, strict=True)
    ).rstrip()


def _labelled(label: str, cell: str, width: int) -> Iterator[str]:
    """The cell beside its label, or below it where a word of it has no room there."""
    left = width - len(label)
    if max(map(len, cell.split()), default=0) > left:
        yield label.rstrip()
        yield from _wrapped(cell, width)
        return
    for number, line in enumerate(_wrapped(cell, left)):
        yield ((" " * len(label) if number else label) + line).rstrip()


def _wrapped(cell: str, width: int) -> list[str]:
    return wrap(cell, width, break_long_words=False, break_on_hyphens=False) or [""]
