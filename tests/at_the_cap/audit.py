"""Whether what product services were granted ever exceeded a cap: from what they wrote down themselves.

Each writes a grant after it has it, and its end before it asks for that: so what stands here as held was
held, and perhaps more. The services are on one machine, whose monotonic clock puts their lines in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["granted", "extended", "settling", "settled", "releasing", "refused"]
"""`settled`: its usage is durable. `refused` has the reason in the hold id's place."""


class Entry(msgspec.Struct, frozen=True):
    """One line of a journal. `at_ns` is on the machine's monotonic clock; `micros` is what is held."""

    at_ns: int
    kind: Kind
    hold_id: str
    organization: str
    member: str
    micros: int


class CapAsked(msgspec.Struct, frozen=True):
    """From when on caps may be as high as this: the command was given then. They only ever rise."""

    at_ns: int
    organization: str
    organization_micros: int
    member_micros: int


class Audit(msgspec.Struct, frozen=True):
    """`most_micros` is the most that was ever spent and held, by scope."""

    overspent: list[str]
    most_micros: dict[str, int]
    grants: int


class Journal:
    """A service's file, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.entries: list[Entry] = []

    def refresh(self) -> list[Entry]:
        """All entries until now. Half a line, of a killed writer or of one that is at it, waits."""
        if not self._path.exists():
            return self.entries
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        self.entries += [parsed(line) for line in whole.decode().splitlines()]
        return self.entries


def line_of(entry: Entry) -> str:
    """As it stands in a journal."""
    return " ".join(map(str, msgspec.structs.astuple(entry))) + "\n"


def parsed(line: str) -> Entry:
    """What `line_of` wrote."""
    at_ns, kind, hold_id, organization, member, micros = line.split(" ")
    fields = {"at_ns": int(at_ns), "kind": kind, "hold_id": hold_id, "micros": int(micros)}
    return msgspec.convert({**fields, "organization": organization, "member": member}, Entry)


def audited(
    entries: Iterable[Entry], caps: Iterable[CapAsked], charged_micros: Mapping[str, int]
) -> Audit:
    """Add up by scope, in order of time: what was charged of ended holds, and what open ones reserve.

    `charged_micros` is by hold id, rounded up. A grant by which the sum exceeds the cap of its moment is
    overspent, as is a charge above its hold.
    """
    sums: defaultdict[str, int] = defaultdict(int)
    most: defaultdict[str, int] = defaultdict(int)
    held: dict[str, int] = {}
    in_force: dict[str, CapAsked] = {}
    rising = sorted(caps, key=lambda one: one.at_ns)
    overspent: list[str] = []
    grants = 0
    for entry in sorted(entries, key=lambda one: one.at_ns):
        while rising and rising[0].at_ns <= entry.at_ns:
            cap = rising.pop(0)
            in_force[cap.organization] = cap
        change = _change(entry, held, charged_micros, overspent)
        grants += entry.kind == "granted"
        if not change:
            continue
        for scope, cap_micros in _limits(entry, in_force):
            sums[scope] += change
            most[scope] = max(most[scope], sums[scope])
            if change > 0 and sums[scope] > cap_micros:
                overspent.append(f"{scope}: {sums[scope]} of {cap_micros} with {entry.hold_id}")
    return Audit(overspent, dict(most), grants)


def _change(
    entry: Entry, held: dict[str, int], charged_micros: Mapping[str, int], overspent: list[str]
) -> int:
    match entry.kind:
        case "granted" | "extended":
            before = held.get(entry.hold_id, 0)
            held[entry.hold_id] = entry.micros
            return entry.micros - before
        case "releasing":
            return -held.pop(entry.hold_id)
        case "settling":
            reserved = held.pop(entry.hold_id)
            charged = charged_micros.get(entry.hold_id, 0)
            if charged > reserved:
                overspent.append(f"{entry.hold_id}: {charged} of {reserved} held")
            return charged - reserved
        case "settled" | "refused":
            return 0


def _limits(entry: Entry, in_force: Mapping[str, CapAsked]) -> tuple[tuple[str, int], ...]:
    cap = in_force[entry.organization]
    return (
        (entry.organization, cap.organization_micros),
        (f"{entry.organization}/{entry.member}", cap.member_micros),
    )
