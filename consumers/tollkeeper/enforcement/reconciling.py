"""Redis against SQL at the same offset: is what is held against a hold what the ledger says?

An organization that is unknown has nothing to compare; one on which Redis is behind is compared when both
are at one offset. The first difference is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from tollkeeper.enforcement.asking import run_all
from tollkeeper.enforcement.comparing import first_difference
from tollkeeper.enforcement.freeing import make_unknown
from tollkeeper.enforcement.means import Means
from tollkeeper.enforcement.warming import Warmer
from tollkeeper.errors import TollkeeperError
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import Snapshot
from tollkeeper.ledger.enforcing import read_epochs, snapshots
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.outbox.database import reading

TRIES = 5
"""How often both are read again when a fold came in between."""

Verdict = Literal["equal", "unknown", "behind", "different"]


class Finding(msgspec.Struct, frozen=True):
    """What was found of one organization.

    `field` is what differs first, in Redis' words (`gate/lua/organization.lua`), amounts in micro-USD;
    None is nothing there. Of one that is behind it is `offset`: look again, and when it stays so, a fold
    was never told.
    """

    organization: str
    verdict: Verdict
    field: str = ""
    in_redis: str | None = None
    in_sql: str | None = None
    is_repaired: bool = False


class Reconciler:
    """Compares, and repairs when told to."""

    def __init__(self, means: Means, warmer_of: Callable[[str], Warmer]) -> None:
        self._means = means
        self._functions = means.functions
        self._warmer_of = warmer_of

    def reconcile(self, organizations: Sequence[str], *, repair: bool = False) -> list[Finding]:
        """A finding for each, in their order. With `repair` what isn't equal is forgotten and warmed anew.

        Hand in no more than go into one SQL snapshot (`warm_at_once`). Raises Unavailable.
        """
        found: dict[str, Finding] = {}
        pending = list(dict.fromkeys(organizations))
        for _ in range(TRIES):
            found |= {one.organization: one for one in self._compare(pending)}
            pending = [name for name in pending if found[name].verdict == "behind"]
            if not pending:
                break
        if repair:
            for name, one in found.items():
                if one.verdict in ("behind", "different"):
                    found[name] = self._repaired(one)
        return [found[name] for name in organizations]

    def _compare(self, names: Sequence[str]) -> list[Finding]:
        """Redis first: SQL's snapshot then shows at least what Redis had been told."""
        copies = run_all(self._functions, [*map(encoding.copy, names)])
        known: dict[str, a.Copy] = {}
        for name, copy in zip(names, copies, strict=True):
            if isinstance(copy, TollkeeperError):
                raise copy
            if isinstance(copy, a.Copy) and copy.is_known:
                known[name] = copy
        wanted = {name: tuple(one.hold_id for one in copy.holds) for name, copy in known.items()}
        with reading(self._means.engine) as connection:
            epochs = {tag: row.epoch for tag, row in read_epochs(connection).items()}
            found = snapshots(
                connection, wanted, now_micros=self._means.clock(), tag_of=self._functions.tag_of
            )
        return [
            _finding(name, known[name], found[name])
            if name in known and known[name].epoch == epochs.get(self._functions.tag_of(name))
            else Finding(name, "unknown")
            for name in names
        ]

    def _repaired(self, finding: Finding) -> Finding:
        name = finding.organization
        with reading(self._means.engine) as connection:
            epochs = {tag: row.epoch for tag, row in read_epochs(connection).items()}
            place = positions(connection, live_generation(connection))[
                self._means.partition_of(name)
            ]
        is_unknown = make_unknown(self._functions, [name], epochs, position=place.next_offset)
        if is_unknown:
            self._warmer_of(self._functions.tag_of(name)).warm([name], now=self._means.clock())
        return msgspec.structs.replace(finding, is_repaired=is_unknown)


def _finding(name: str, copy: a.Copy, snapshot: Snapshot | None) -> Finding:
    if snapshot is None:
        return Finding(name, "different", "organization", "known", None)
    if copy.offset != snapshot.offset:
        return Finding(name, "behind", "offset", str(copy.offset), str(snapshot.offset))
    difference = first_difference(name, copy, snapshot)
    if difference is None:
        return Finding(name, "equal")
    return Finding(name, "different", difference.field, difference.in_redis, difference.in_sql)
