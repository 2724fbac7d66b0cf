"""What is held now, as Redis has it. An embedded gate that doesn't run holds nothing."""

from __future__ import annotations

import msgspec

from tollkeeper.app.wiring import App
from tollkeeper.gate import encoding
from tollkeeper.gate.amounts import NANOS_PER_MICRO
from tollkeeper.gate.hold_ids import parse_hold_id
from tollkeeper.money.instants import MICROS_PER_SECOND
from tollkeeper.reports.documents import instant, money


class ListedHold(msgspec.Struct, frozen=True):
    """One open hold. `age_s` is by Redis' clock."""

    hold_id: str
    member: str
    emitter: str
    held_nanos: int
    granted_at: int
    age_s: float

    def as_document(self) -> dict[str, object]:
        """A row of `holds list`."""
        return {
            "hold_id": self.hold_id,
            "member": self.member,
            "emitter": self.emitter,
            **money("held", self.held_nanos),
            "granted_at": instant(self.granted_at),
            "age_s": self.age_s,
        }


def list_holds(app: App, organization: str) -> list[ListedHold]:
    """The organization's holds of the present epoch, the oldest first. Raises GateUnavailable.

    Holds of an epoch before wait to be dropped by the next `warm`; they reserve nothing.
    """
    enforcement = app.enforcing.running()
    if enforcement is None:
        return []
    functions = enforcement.means.functions
    key = functions.run(encoding.read_epoch(tag=functions.tag_of(organization)))
    found = [
        ListedHold(
            one.hold_id,
            one.member,
            parse_hold_id(one.hold_id).emitter,
            one.held_micros * NANOS_PER_MICRO,
            one.granted_at,
            max(0, key.now - one.granted_at) / MICROS_PER_SECOND,
        )
        for one in functions.run(encoding.open_holds(organization))
        if one.epoch == getattr(key, "epoch", 0)
    ]
    return sorted(found, key=lambda one: (one.granted_at, one.hold_id))
