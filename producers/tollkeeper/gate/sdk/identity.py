"""For whom this part of the program acts: organization, member and surface, in a context variable.

A task inherits it from the task that made it; a thread begins with none. Must not know the gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from tollkeeper.errors import Misuse
from tollkeeper.events.usage import SURFACES


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who pays for a call, and where it is made. `scopes` are further levels, as `metered` takes them."""

    organization: str
    member: str
    surface: str
    scopes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("organization", "member"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise Misuse(f"{name} must be a text that isn't empty")
        if self.surface not in SURFACES:
            raise Misuse(f"surface must be one of {', '.join(sorted(SURFACES))}")


_acting: ContextVar[Identity | None] = ContextVar("tollkeeper_acting_for", default=None)


@contextmanager
def acting_for(
    *, organization: str, member: str, surface: str, scopes: tuple[str, ...] = ()
) -> Iterator[Identity]:
    """Make the calls of wrapped clients within the block for this member; the innermost block counts.

    Put it where a request comes in. A generator that holds the block open over a `yield` leaks it to
    whoever asks the generator: enter it around the calls instead.
    """
    identity = Identity(organization=organization, member=member, surface=surface, scopes=scopes)
    token = _acting.set(identity)
    try:
        yield identity
    finally:
        _acting.reset(token)


def who_acts(default: Identity | None = None) -> Identity:
    """The identity in force here, else the default. Misuse says how to give one."""
    identity = _acting.get() or default
    if identity is None:
        raise Misuse(
            "nobody is named who pays for this call: make it within `with acting_for(organization=…, "
            "member=…, surface=…)`, or give `gate.wrap` a default; a new thread begins without the "
            "identity of the one that started it: run it in `contextvars.copy_context()`"
        )
    return identity
