"""An organization's copy in Redis beside one SQL snapshot of it, at the same offset. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import msgspec

from tollkeeper.gate.answers import Copy
from tollkeeper.gate.commands import Snapshot
from tollkeeper.gate.hold_ids import parse_hold_id

Fields = Mapping[str, str]


class Difference(msgspec.Struct, frozen=True):
    """What differs, in Redis' words (`gate/lua/organization.lua`); None is nothing there."""

    field: str
    in_redis: str | None
    in_sql: str | None


def first_difference(organization: str, copy: Copy, snapshot: Snapshot) -> Difference | None:
    """The first in the order of: what it is, members, caps, totals, credits, holds, what they reserve."""
    return next(_differences(organization, copy, snapshot), None)


def _differences(organization: str, copy: Copy, snapshot: Snapshot) -> Iterator[Difference]:
    bounds = [int(word) for word in copy.fields.get("bounds", "").split()]
    yield from _between(_plain(copy.fields), _plain_of(snapshot))
    yield from _between(_having(copy.fields, "member "), _members(snapshot))
    yield from _between(_having(copy.fields, "cap "), _caps(snapshot))
    in_both = {one.start_micros for one in snapshot.periods} & {*bounds[:-1]}
    spent = _having(copy.fields, "spent ")
    yield from _between(_in_periods(spent, in_both), _in_periods(_spent(snapshot), in_both))
    yield from _ended_holds(copy, snapshot)
    held = {**_having(copy.fields, "held "), "held": copy.fields.get("held", "0")}
    yield from _between(_not_zero(held), _not_zero(_held(organization, copy, bounds)))


def _between(in_redis: Fields, in_sql: Fields) -> Iterator[Difference]:
    for field in sorted(in_redis.keys() | in_sql.keys()):
        if in_redis.get(field) != in_sql.get(field):
            yield Difference(field, in_redis.get(field), in_sql.get(field))


def _plain(fields: Fields) -> Fields:
    names = ("funding", "seats", "levels", "purchased", "used")
    return {name: fields[name] for name in names if name in fields}


def _plain_of(snapshot: Snapshot) -> Fields:
    return {
        "funding": snapshot.funding,
        "seats": snapshot.seats,
        "levels": " ".join(snapshot.levels),
        "purchased": str(snapshot.purchased_micros),
        "used": str(snapshot.used_micros),
    }


def _having(fields: Fields, beginning: str) -> Fields:
    return {name: value for name, value in fields.items() if name.startswith(beginning)}


def _members(snapshot: Snapshot) -> Fields:
    return {f"member {member}": "1" for member in snapshot.members}


def _caps(snapshot: Snapshot) -> Fields:
    return {f"cap {one.scope}": str(one.cap) for one in snapshot.caps}


def _spent(snapshot: Snapshot) -> Fields:
    return {
        f"spent {one.period.start_micros} {one.scope}": str(one.spent_micros)
        for one in snapshot.spent
    }


def _in_periods(spent: Fields, starts: Iterable[int]) -> Fields:
    """A period that Redis has left behind, or can't know yet, is no part of its copy."""
    wanted = {str(start) for start in starts}
    return _not_zero({name: sum_ for name, sum_ in spent.items() if name.split()[1] in wanted})


def _not_zero(sums: Fields) -> Fields:
    return {name: sum_ for name, sum_ in sums.items() if sum_ != "0"}


def _ended_holds(copy: Copy, snapshot: Snapshot) -> Iterator[Difference]:
    """Holds that SQL knows to have ended."""
    for one in copy.holds:
        if one.hold_id in snapshot.settled:
            yield Difference(f"hold {one.hold_id}", "open", "settled")
        if parse_hold_id(one.hold_id).emitter in snapshot.retired:
            yield Difference(f"hold {one.hold_id}", "open", "retired")


def _held(organization: str, copy: Copy, bounds: list[int]) -> Fields:
    """What the open holds add up to, of all credits and of each scope in their periods."""
    sums: defaultdict[str, int] = defaultdict(int)
    for one in copy.holds:
        sums["held"] += one.held_micros
        for start, end in pairwise(bounds):
            if start <= one.granted_at < end:
                sums[f"held {start} organization/{organization}"] += one.held_micros
                sums[f"held {start} member/{one.member}"] += one.held_micros
    return {name: str(sum_) for name, sum_ in sums.items()}
