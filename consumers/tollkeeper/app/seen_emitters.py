"""When each emitter was seen at the gate: of several primaries, the one that saw it last."""

from __future__ import annotations

import msgspec

from tollkeeper.gate import encoding
from tollkeeper.gate.functions import GateFunctions
from tollkeeper.money.instants import MICROS_PER_SECOND


class SeenEmitter(msgspec.Struct, frozen=True):
    """`seen_at` in microseconds, by Redis' clock."""

    standing: str
    seen_at: int
    unseen_s: float


def seen_emitters(functions: GateFunctions) -> dict[str, SeenEmitter]:
    """By id, those that aren't retired. An emitter that owes one primary its answer hasn't answered.

    Raises GateUnavailable.
    """
    found: dict[str, SeenEmitter] = {}
    for tag in functions.tags():
        listed = functions.run(encoding.emitters(tag=tag))
        for one in listed.listed:
            unseen_s = max(0, listed.now - one.seen_at) / MICROS_PER_SECOND
            before = found.get(one.emitter)
            standing = one.standing
            if before is not None and before.standing == "started":
                standing = before.standing
            if before is not None and before.seen_at > one.seen_at:
                found[one.emitter] = SeenEmitter(standing, before.seen_at, before.unseen_s)
            else:
                found[one.emitter] = SeenEmitter(standing, one.seen_at, unseen_s)
    return found
