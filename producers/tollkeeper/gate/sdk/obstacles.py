"""Why the gate doesn't know, told apart by what is to be done about it. Must not know how that was seen."""

from __future__ import annotations

from typing import Literal

Obstacle = Literal["away", "unkept", "recovering", "reading", "spool", "full", "other"]
"""away: Redis doesn't answer; unkept: no consumer leases it; recovering: open holds are being told anew;
reading: the organization or this emitter isn't read in yet; spool: usage couldn't be reported; full: this
process has too many open holds; other: nobody knows better."""

NEXT_STEPS: dict[Obstacle, str] = {
    "away": "try again; if it stays away, start Redis or set TOLLKEEPER_REDIS right",
    "unkept": "start tollkeeper run, which keeps the gate; tollkeeper gate watch shows its lease",
    "recovering": "try again in a minute; tollkeeper emitters list shows who may owe an answer",
    "reading": "try again in a second; if it stays so, see that tollkeeper run is there: "
    "tollkeeper doctor",
    "spool": "mend what is said of this service's spool, then try again",
    "full": "settle or release holds that are over, or raise GateSettings.max_open_holds",
    "other": "try again; tollkeeper doctor says what is away",
}

_OF_UNTRUSTED: dict[str, Obstacle] = {
    "absent": "unkept",
    "lease": "unkept",
    "recovering": "recovering",
    "unlisted": "reading",
}


def obstacle_of(untrusted: str) -> Obstacle:
    """What kind of obstacle it is that a server gave as the cause for not being trusted."""
    return _OF_UNTRUSTED.get(untrusted, "other")
