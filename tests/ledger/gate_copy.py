"""What Redis would have after some effects, told in plain dictionaries, to be held against a snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field

from tollkeeper.gate.commands import BEFORE_FIRST, CapSetting, Fold, Snapshot
from tollkeeper.ledger.effects import Effects


@dataclass
class Copy:
    """One organization. Credits of zero and absent ones are the same."""

    offset: int = BEFORE_FIRST
    spent: dict[tuple[int, str], int] = field(default_factory=dict)
    caps: dict[str, CapSetting] = field(
        default_factory=lambda: {"organization": "unlimited", "member": "unlimited"}
    )
    used_micros: int = 0
    purchased_micros: int = 0
    members: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)

    def apply(self, fold: Fold) -> None:
        assert fold.previous == self.offset < fold.offset < fold.position
        self.offset = fold.offset
        for one in fold.spent:
            self.spent[one.period.start_micros, one.scope] = one.spent_micros
        for cap in fold.caps:
            if cap.cap == "inherit":
                self.caps.pop(cap.scope, None)
            else:
                self.caps[cap.scope] = cap.cap
        if fold.used_micros is not None:
            self.used_micros = fold.used_micros
        if fold.purchased_micros is not None:
            self.purchased_micros = fold.purchased_micros
        for member, is_one in fold.members.items():
            (self.members.add if is_one else self.members.discard)(member)
        self.settled.update(fold.settled)


def apply_all(copies: dict[str, Copy], told: list[Effects]) -> None:
    for effects in told:
        for one in effects.organizations:
            assert one.fold.position == effects.positions[one.partition]
            copies.setdefault(one.organization, Copy()).apply(one.fold)


def copy_of(snapshot: Snapshot) -> Copy:
    """The snapshot's own view, of the periods that it has."""
    return Copy(
        snapshot.offset,
        {(one.period.start_micros, one.scope): one.spent_micros for one in snapshot.spent},
        {one.scope: one.cap for one in snapshot.caps},
        snapshot.used_micros,
        snapshot.purchased_micros,
        set(snapshot.members),
        set(snapshot.settled),
    )
