"""Names of the gate's keys in Redis. Pure; `lua/organization.lua` and `lua/primary.lua` say what they hold.

An organization's keys are in one slot. A primary's keys are in a slot of that primary, so that a function
may look at both: in a cluster each primary has a tag of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

SINGLE = "0"
"""The tag of the only primary where there is no cluster."""


def organization_keys(organization: str) -> tuple[str, str]:
    """State and marks: the keys of every function on an organization, in this order."""
    stem = f"tollkeeper:{{{organization}}}"
    return f"{stem}:state", f"{stem}:marks"


def primary_prefix(tag: str = SINGLE) -> str:
    """What all keys of a primary begin with."""
    return f"tollkeeper-primary:{{{tag}}}"


def epoch_key(tag: str = SINGLE) -> str:
    """The key of every function on a primary."""
    return f"{primary_prefix(tag)}:epoch"


def tag_where(is_of_the_primary: Callable[[str], bool]) -> str:
    """A cluster primary's tag: the first number whose slot it has. Every client finds the same one."""
    return next(tag for number in count() if is_of_the_primary(tag := str(number)))
