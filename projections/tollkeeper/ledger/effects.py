"""What a round of the fold changed for the gate: what `apply` brings to Redis once SQL has it. Pure.

All that a limit is checked against is here as absolute totals in the gate's micro-USD, so that effects
can be taken one after the other, and a lost one shows at the next: its `previous` doesn't fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from tollkeeper.gate.amounts import cap_micros, purchased_micros, spent_micros
from tollkeeper.gate.commands import BEFORE_FIRST, Cap, CapSetting, Fold, Phase, Spent
from tollkeeper.ledger.rows import CapRow, ChargeRow
from tollkeeper.ledger.view import ALL_MEMBERS, Changes, OrganizationTotals, View
from tollkeeper.money.periods import period_at

ORGANIZATION, MEMBER = "organization", "member"
LEVELS = (ORGANIZATION, MEMBER)
"""The dimensions whose caps bind (RULES R19)."""

_HOLD = ChargeRow._fields.index("hold_id")
_ORGANIZATION = ChargeRow._fields.index("organization")


class EpochRow(msgspec.Struct, frozen=True):
    """The trusted incarnation of one primary of the gate, as SQL has it; see the table `gate_epoch`."""

    tag: str
    epoch: int
    phase: Phase
    run_id: str
    replication_id: str
    begun_at: int


class OrganizationEffect(msgspec.Struct, frozen=True):
    """What a round changed for one organization."""

    organization: str
    partition: int
    fold: Fold


class Effects(msgspec.Struct, frozen=True):
    """What a committed round has to tell the gate.

    `epochs` are the rows that the round's transaction read, by primary; `positions` the next offset of
    each partition it moved. `started` and `retired` go to Redis' list before any organization's effect:
    an emitter is retired in the partition whose fold reached its retirement.
    """

    generation: int
    epochs: Mapping[str, EpochRow]
    positions: Mapping[int, int]
    organizations: tuple[OrganizationEffect, ...] = ()
    started: tuple[str, ...] = ()
    retired: Mapping[int, tuple[str, ...]] = {}


class Before(msgspec.Struct, frozen=True):
    """What an organization's effect is compared with: as it stood before the round."""

    last_offset: int
    used_nanos: int
    purchased_nanos: int


_NEW = Before(BEFORE_FIRST, 0, 0)


def before_of(view: View) -> dict[str, Before]:
    """To be kept before the fold works on the view."""
    return {
        name: Before(totals.last_offset, totals.used_nanos, totals.purchased_nanos)
        for name, totals in view.organizations.items()
    }


def effects_of(
    changes: Changes,
    view: View,
    before: Mapping[str, Before],
    *,
    generation: int,
    epochs: Mapping[str, EpochRow],
    positions: Mapping[int, int],
) -> Effects:
    """The effects of a settled round."""
    spent, caps, members = _spent(changes), _caps(changes), _members(changes)
    settled = _settled(changes)
    organizations = []
    for name in sorted(changes.organizations):
        totals, old = view.organizations[name], before.get(name, _NEW)
        if totals.last_offset == old.last_offset:
            continue  # a record that was dealt with before, and had no effect at all
        fold = Fold(
            previous=old.last_offset,
            offset=totals.last_offset,
            position=positions[totals.log_partition],
            spent=tuple(spent.get(name, ())),
            caps=tuple(caps.get(name, ())),
            used_micros=_used(totals, old),
            purchased_micros=_purchased(totals, old),
            members=members.get(name, {}),
            settled=tuple(settled.get(name, ())),
        )
        organizations.append(OrganizationEffect(name, totals.log_partition, fold))
    started, retired = _emitters(changes)
    return Effects(generation, epochs, positions, tuple(organizations), started, retired)


def scope_of(organization: str, member: str) -> str:
    """The scope of a row of `spent`, as the gate names it."""
    if member == ALL_MEMBERS:
        return f"{ORGANIZATION}/{organization}"
    return f"{MEMBER}/{member}"


def cap_of(row: CapRow) -> Cap:
    """The cap as the gate keeps it. A dimension's default can't be inherited from anything."""
    setting: CapSetting
    match row.setting:
        case "capped":
            assert row.cap_nanos is not None
            setting = cap_micros(row.cap_nanos)
        case "inherit" if row.scope != "member_default":
            setting = "inherit"
        case _:
            setting = "unlimited"
    match row.scope:
        case "organization":
            return Cap(f"{ORGANIZATION}/{row.organization}", setting)
        case "member_default":
            return Cap(MEMBER, setting)
        case _:
            return Cap(f"{MEMBER}/{row.member}", setting)


def _used(totals: OrganizationTotals, old: Before) -> int | None:
    return None if totals.used_nanos == old.used_nanos else spent_micros(totals.used_nanos)


def _purchased(totals: OrganizationTotals, old: Before) -> int | None:
    if totals.purchased_nanos == old.purchased_nanos:
        return None
    return purchased_micros(totals.purchased_nanos)


def _spent(changes: Changes) -> Mapping[str, list[Spent]]:
    found = defaultdict(list)
    for (name, period_start, member), nanos in sorted(changes.spent.items()):
        total = Spent(period_at(period_start), scope_of(name, member), spent_micros(nanos))
        found[name].append(total)
    return found


def _caps(changes: Changes) -> Mapping[str, list[Cap]]:
    found = defaultdict(list)
    for _, row in sorted(changes.caps.items()):
        found[row.organization].append(cap_of(row))
    return found


def _members(changes: Changes) -> Mapping[str, dict[str, bool]]:
    found: defaultdict[str, dict[str, bool]] = defaultdict(dict)
    for row in changes.members.values():
        found[row.organization][row.member] = row.removed_at is None
    return found


def _settled(changes: Changes) -> Mapping[str, list[str]]:
    """Each hold whose usage was folded, whatever became of it, once and in the order of the log."""
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    charged: Iterable[tuple[str, str]] = (
        (row[_ORGANIZATION], row[_HOLD]) for row in changes.charges if row[_HOLD] is not None
    )
    for holds in (charged, changes.settled):
        for name, hold in holds:
            found[name][hold] = None
    return {name: list(holds) for name, holds in found.items()}


def _emitters(changes: Changes) -> tuple[tuple[str, ...], dict[int, tuple[str, ...]]]:
    started: set[str] = set()
    retired: defaultdict[int, list[str]] = defaultdict(list)
    for (partition, name), row in sorted(changes.emitters.items()):
        if row.retired_offset is None:
            started.add(name)
        else:
            retired[partition].append(name)
    return tuple(sorted(started)), {partition: tuple(names) for partition, names in retired.items()}
