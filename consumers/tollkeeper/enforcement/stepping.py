"""What is to be done about a primary, from what is seen of its server, its epoch key and SQL's row. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from tollkeeper.gate.answers import EpochKey
from tollkeeper.gate.commands import Incarnation
from tollkeeper.gate.library import layout_of
from tollkeeper.ledger.enforcing import EpochRow

Step = Literal["raise", "begin", "elsewhere", "superseded", "take_over", "recover", "keep"]


class Seen(msgspec.Struct, frozen=True):
    """A primary as it was seen; `row` was read after `key`. `library` is the version of who looks."""

    key: EpochKey | None
    server: Incarnation
    row: EpochRow | None
    library: str


class Knowledge(msgspec.Struct, frozen=True):
    """What was seen before.

    `begun`: this epoch had begun on this server. `is_ours_to_mend`: the row's server is the one that was
    looked at until now, or the row names another one for long. `may_take_over`: this process has just
    started, or nobody keeps the version in force.
    """

    begun: int
    is_ours_to_mend: bool
    may_take_over: bool


class Verdict(msgspec.Struct, frozen=True):
    """The step, and why, where it isn't plain."""

    step: Step
    cause: str = ""


def next_step(seen: Seen, known: Knowledge) -> Verdict:
    """The one step that is due. Each may be taken by several consumers at once, and again after a crash."""
    key, row = seen.key, seen.row
    if row is None:
        return Verdict("raise", "no_row")
    if key is None:
        return _without_key(seen.server, row, known)
    if key.epoch > row.epoch:
        return Verdict("raise", "sql_behind")
    if key.epoch < row.epoch:
        return _raised_before(seen.server, row, known)
    if not incarnation_of(key) == incarnation_of(row) == seen.server:
        return Verdict("raise", "incarnation")
    if key.library != seen.library:
        return _of_another_version(key, seen.library, known)
    if key.phase == "recovering":
        return Verdict("recover")
    return Verdict("keep") if row.phase == "open" else Verdict("raise", "sql_not_open")


def incarnation_of(named: EpochKey | EpochRow) -> Incarnation:
    """Which server a key or a row vouches for."""
    return Incarnation(named.run_id, named.replication_id)


def _without_key(server: Incarnation, row: EpochRow, known: Knowledge) -> Verdict:
    is_named = incarnation_of(row) == server
    if row.phase == "recovering" and is_named and known.begun != row.epoch:
        return Verdict("begin")
    if row.phase == "recovering" and not is_named and not known.is_ours_to_mend:
        return Verdict("elsewhere")
    return Verdict("raise", "no_key")  # it is a new server, or was wiped


def _raised_before(server: Incarnation, row: EpochRow, known: Knowledge) -> Verdict:
    """By another consumer or a swap. Two servers that begin one epoch would both grant."""
    if incarnation_of(row) != server:
        return Verdict("raise", "elsewhere") if known.is_ours_to_mend else Verdict("elsewhere")
    return Verdict("begin") if row.phase == "recovering" else Verdict("raise", "key_behind")


def _of_another_version(key: EpochKey, library: str, known: Knowledge) -> Verdict:
    """While versions are mixed the newest process decides once; it doesn't go to and fro."""
    if not known.may_take_over:
        return Verdict("superseded")
    if layout_of(key.library) == layout_of(library):
        return Verdict("take_over")
    return Verdict("raise", "layout")
