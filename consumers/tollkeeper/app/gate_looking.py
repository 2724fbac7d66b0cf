"""The gate as it is at one moment: every primary's epoch, lease, emitters and queue; holds.

It only looks: nothing is started, kept or warmed by it.
"""

from __future__ import annotations

import msgspec

from tollkeeper.app.wiring import App
from tollkeeper.errors import GateUnavailable
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.amounts import NANOS_PER_MICRO
from tollkeeper.gate.functions import GateFunctions
from tollkeeper.money.instants import MICROS_PER_SECOND
from tollkeeper.reports.documents import instant, money

MOST_ASKED = 1_000


class PrimaryNow(msgspec.Struct, frozen=True):
    """One primary. `epoch` 0: nobody has begun one. `asked` of MOST_ASKED is also more."""

    primary: str
    epoch: int
    phase: str
    lease_s: float
    emitters: int
    asked: int
    prices_version: int
    policies_version: int

    @property
    def grants(self) -> bool:
        """Whether a hold can be granted here now."""
        return self.phase == "open" and self.lease_s > 0


class GateFacts(msgspec.Struct, frozen=True):
    """For the doctor. Not running: nobody has needed the embedded gate yet. `eviction` is by primary."""

    is_running: bool
    primaries: list[PrimaryNow] = []
    eviction: dict[str, str] = {}


class HeldNow(msgspec.Struct, frozen=True):
    """An organization's holds, and whether Redis knows its totals."""

    organization: str
    known: bool
    offset: int | None
    holds: int
    held_nanos: int
    oldest_granted_at: int | None

    def as_document(self) -> dict[str, object]:
        """A part of a line of `gate watch --json`."""
        return {
            "organization": self.organization,
            "known": self.known,
            "offset": self.offset,
            "holds": self.holds,
            **money("held", self.held_nanos),
            "oldest_granted_at": instant(self.oldest_granted_at),
        }


def look_at_primaries(functions: GateFunctions) -> list[PrimaryNow]:
    """Every primary. Raises GateUnavailable."""
    return [_look_at(functions, tag) for tag in functions.tags()]


def look_at_holds(functions: GateFunctions, organization: str) -> HeldNow:
    """What is held of the organization in the present epoch. Raises GateUnavailable."""
    key = functions.run(encoding.read_epoch(tag=functions.tag_of(organization)))
    epoch = key.epoch if isinstance(key, a.EpochKey) else 0
    status = functions.run(encoding.status(organization, member="-"))
    held = [one for one in functions.run(encoding.open_holds(organization)) if one.epoch == epoch]
    is_known = isinstance(status, a.Status) and status.is_known and status.epoch == epoch
    return HeldNow(
        organization,
        is_known,
        status.offset if isinstance(status, a.Status) else None,
        len(held),
        sum(one.held_micros for one in held) * NANOS_PER_MICRO,
        min((one.granted_at for one in held), default=None),
    )


def look_at_gate(app: App) -> GateFacts:
    """All of it. Raises GateUnavailable."""
    enforcement = app.enforcing.running()
    if enforcement is None:
        return GateFacts(is_running=False)
    functions = enforcement.means.functions
    policies = {tag: functions.eviction_policy(tag=tag) for tag in functions.tags()}
    return GateFacts(True, look_at_primaries(functions), policies)


def running_functions(app: App) -> GateFunctions:
    """What asks the gate. GateUnavailable: the embedded one doesn't run, or no cluster answers."""
    enforcement = app.enforcing.running()
    if enforcement is None:
        raise GateUnavailable("the embedded gate doesn't run: the first hold starts it")
    return enforcement.means.functions


def _look_at(functions: GateFunctions, tag: str) -> PrimaryNow:
    key = functions.run(encoding.read_epoch(tag=tag))
    if isinstance(key, a.NoEpoch):
        return PrimaryNow(tag, 0, "absent", 0.0, 0, 0, 0, 0)
    return PrimaryNow(
        tag,
        key.epoch,
        key.phase,
        (key.lease_until - key.now) / MICROS_PER_SECOND,
        len(functions.run(encoding.emitters(tag=tag)).listed),
        len(functions.run(encoding.asked_to_warm(most=MOST_ASKED, tag=tag))),
        functions.run(encoding.published("prices", tag=tag)).version,
        functions.run(encoding.published("policies", tag=tag)).version,
    )
