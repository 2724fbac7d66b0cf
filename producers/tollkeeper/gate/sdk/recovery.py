"""How an emitter answers a recovering server: it re-asserts all its open holds, and says that it has.

Must not know threads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tollkeeper.errors import BrokenInvariant, GateUnavailable
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import HeldCall
from tollkeeper.gate.encoding import Call
from tollkeeper.gate.sdk.ports import Functions

AT_ONCE = 200
"""Holds in one call, and organizations in one note: a function keeps everybody else waiting."""


def reassert_all(
    functions: Functions, holds: Sequence[HeldCall], *, emitter: str, epoch: int, tag: str
) -> bool:
    """Whether the server now has all of them.

    False or GateUnavailable: it has changed meanwhile, or didn't answer; the whole of it may be done
    again, as often as need be.
    """
    by_organization: defaultdict[str, list[HeldCall]] = defaultdict(list)
    for one in holds:
        by_organization[one.hold_id.partition("/")[0]].append(one)
    organizations = sorted(by_organization)
    notes: list[Call[Any]] = [
        encoding.note(epoch, emitter, organizations[at : at + AT_ONCE], tag=tag)
        for at in range(0, len(organizations), AT_ONCE)
    ]
    tellings: list[Call[Any]] = [
        encoding.reassert(name, kept[at : at + AT_ONCE], emitter=emitter, epoch=epoch, tag=tag)
        for name, kept in by_organization.items()
        for at in range(0, len(kept), AT_ONCE)
    ]
    # All notes first: without its note an organization's holds are refused.
    return all(_are_done(functions, calls) for calls in (notes, tellings))


def say_answered(functions: Functions, *, emitter: str, epoch: int, tag: str) -> bool:
    """Say that this emitter has said everything; whether the server has heard it.

    It has when its open holds are re-asserted, and the usage of all that ended before is on the log:
    the recovery waits for the fold of what is on the log by then, and of nothing else.
    """
    return _are_done(functions, [encoding.answer(epoch, emitter, tag=tag)])


def _are_done(functions: Functions, calls: Sequence[Call[Any]]) -> bool:
    for answer in functions.run_many(calls) if calls else ():
        if isinstance(answer, Exception):
            if isinstance(answer, GateUnavailable):
                return False
            raise answer
        if isinstance(answer, a.HoldIdRefused):
            raise BrokenInvariant(f"a recovering server refused an open hold: {answer.cause}")
        if not isinstance(answer, a.Done | a.Reasserted):
            return False
    return True
