"""What SQL would say: the folds and snapshots of an organization that a test makes up."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec

from tollkeeper.gate.commands import Cap, CapSetting, Fold, Phase, Snapshot, Spent
from tollkeeper.money.periods import Period, period_at

Scope = str


def periods_at(micros: int) -> tuple[Period, Period, Period]:
    """The previous, current and next period."""
    current = period_at(micros)
    return period_at(current.start_micros - 1), current, period_at(current.end_micros)


class Account(msgspec.Struct):
    """An organization's row in the books."""

    offset: int
    position: int
    spent: dict[tuple[Period, Scope], int]
    caps: dict[Scope, CapSetting]
    used: int = 0
    purchased: int = 100
    members: set[str] = msgspec.field(default_factory=lambda: {"ann", "bob"})
    settled: set[str] = msgspec.field(default_factory=set)
    retired: set[str] = msgspec.field(default_factory=set)
    funding: Any = "prepaid"
    seats: str = "every_member"
    levels: tuple[str, ...] = ("organization", "member")


class Books:
    """One organization's history: folds in their order, and the account after each."""

    def __init__(self, name: str, account: Account) -> None:
        self.name = name
        self.states = [account]
        self.folds: list[Fold] = []

    @property
    def now(self) -> Account:
        """After the last fold."""
        return self.states[-1]

    def fold(
        self, *, position: int, charges: dict[tuple[Period, str], int], **changes: Any
    ) -> Fold:
        """A fold that charges members, and whatever else it changes; as an organization's `apply` gets it."""
        new = deepcopy(self.now)
        new.offset, new.position = position - 1, position
        touched = set()
        for (period, member), micros in charges.items():
            for scope in (f"organization/{self.name}", f"member/{member}"):
                new.spent[period, scope] = new.spent.get((period, scope), 0) + micros
                touched.add((period, scope))
            new.used += micros
        new.caps |= changes.get("caps", {})
        new.purchased += changes.get("bought", 0)
        moved: dict[str, bool] = changes.get("members", {})
        new.members = {one for one in {*new.members, *moved} if moved.get(one, True)}
        new.settled |= set(changes.get("settled", ()))
        fold = Fold(
            previous=self.now.offset,
            offset=new.offset,
            position=position,
            spent=tuple(Spent(when, scope, new.spent[when, scope]) for when, scope in touched),
            caps=tuple(Cap(scope, cap) for scope, cap in changes.get("caps", {}).items()),
            used_micros=new.used if charges else None,
            purchased_micros=new.purchased if changes.get("bought") else None,
            members=moved,
            settled=tuple(changes.get("settled", ())),
        )
        self.states.append(new)
        self.folds.append(fold)
        return fold

    def snapshot(
        self,
        account: Account,
        *,
        epoch: int,
        now: int,
        held: tuple[str, ...],
        phase: Phase = "open",
        position: int | None = None,
    ) -> Snapshot:
        """The account as a snapshot read at that time; `held` are the holds that Redis was seen to have."""
        periods = periods_at(now)
        caps = [Cap(scope, cap) for scope, cap in account.caps.items() if cap != "inherit"]
        return Snapshot(
            epoch=epoch,
            phase=phase,
            offset=account.offset,
            position=account.position if position is None else position,
            periods=periods,
            funding=account.funding,
            seats=account.seats,
            levels=account.levels,
            caps=tuple(caps),
            spent=tuple(
                Spent(when, scope, micros)
                for (when, scope), micros in account.spent.items()
                if when in periods
            ),
            used_micros=account.used,
            purchased_micros=account.purchased,
            members=tuple(sorted(account.members)),
            retired=tuple(sorted(account.retired)),
            settled=tuple(one for one in held if one in account.settled),
            still_open=tuple(one for one in held if one not in account.settled),
        )
