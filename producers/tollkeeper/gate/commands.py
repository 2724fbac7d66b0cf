"""What the functions are given: a request, a fold's changes, a snapshot. Values; amounts in micro-USD.

Instants are microseconds since 1970. Pure.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tollkeeper.money.periods import Period

Phase = Literal["recovering", "open"]
Kind = Literal["prices", "policies"]
"""What is published to product services."""
CapSetting = int | Literal["unlimited", "inherit"]
"""A cap in micro-USD; `inherit` takes a scope's own cap away, so that its dimension's default holds."""

BEFORE_FIRST = -1
"""The offset of an organization of which nothing was folded yet."""


class Request(msgspec.Struct, frozen=True):
    """What a hold is asked for. `scopes` are further levels as `dimension/value`: `project/p-1`."""

    amount_micros: int
    member: str
    surface: str
    scopes: tuple[str, ...] = ()


class HeldCall(msgspec.Struct, frozen=True):
    """An open hold as its emitter has it in memory."""

    hold_id: str
    granted_at: int
    held_micros: int
    request: Request


class Spent(msgspec.Struct, frozen=True):
    """All that is spent by a scope in a period, an absolute total."""

    period: Period
    scope: str
    spent_micros: int


class Cap(msgspec.Struct, frozen=True):
    """The cap of a scope `dimension/value`, or of a dimension: the default of its scopes."""

    scope: str
    cap: CapSetting


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """What one fold changed for an organization; None is unchanged.

    `previous` and `offset` are of the organization's last folded record, before the fold and after it;
    `position` is the partition's next offset then.
    """

    previous: int
    offset: int
    position: int
    spent: tuple[Spent, ...] = ()
    caps: tuple[Cap, ...] = ()
    used_micros: int | None = None
    purchased_micros: int | None = None
    members: dict[str, bool] = {}
    settled: tuple[str, ...] = ()


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An organization as one SQL snapshot shows it, with SQL's epoch row as that snapshot read it.

    `periods` are the previous, current and next one. `settled` and `still_open` are the holds that Redis
    was seen to have, by what the snapshot says of them.
    """

    epoch: int
    phase: Phase
    offset: int
    position: int
    periods: tuple[Period, Period, Period]
    funding: Literal["prepaid", "arrears"]
    seats: str
    levels: tuple[str, ...]
    caps: tuple[Cap, ...]
    spent: tuple[Spent, ...]
    used_micros: int
    purchased_micros: int
    members: tuple[str, ...]
    retired: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    still_open: tuple[str, ...] = ()


class Incarnation(msgspec.Struct, frozen=True):
    """Which run of which history of data a server is; another one isn't trusted under the same epoch."""

    run_id: str
    replication_id: str
