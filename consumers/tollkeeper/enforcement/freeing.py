"""Making organizations unknown: an emitter's when it is retired, so that the next snapshot drops its holds,
and those of which Redis may have missed something.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from tollkeeper.enforcement.asking import run_all
from tollkeeper.enforcement.bounded import Deadline
from tollkeeper.errors import GateUnavailable
from tollkeeper.failpoints import failpoint
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.functions import GateFunctions


class Freed(msgspec.Struct, frozen=True):
    """How many organizations were made unknown, and whether that was all of them."""

    organizations: int
    is_all: bool


def make_unknown(
    functions: GateFunctions,
    organizations: Sequence[str],
    epochs: Mapping[str, int],
    *,
    position: int,
) -> bool:
    """Forget them at this position of their partition; False when Redis didn't take it for any of them.

    Raises GateUnavailable: then some may be unknown.
    """
    calls = []
    for name in organizations:
        tag = functions.tag_of(name)
        if tag not in epochs:
            raise GateUnavailable(f"primary {tag} has no epoch yet")
        calls.append(encoding.make_unknown(name, position, epoch=epochs[tag], tag=tag))
    return all(isinstance(answer, a.Unknown) for answer in run_all(functions, calls))


def free_retired(
    functions: GateFunctions,
    emitters: Iterable[str],
    epochs: Mapping[str, int],
    *,
    tags: Collection[str],
    position: int,
    is_in: Callable[[str], bool],
    deadline: Deadline,
    at_once: int,
) -> Freed:
    """After a partition's fold has reached their retirement, and Redis' list has it: make every organization
    of the partition in which they could hold unknown at the fold's position, and have it warmed.

    With or without traffic: nobody else would ask for these. `tags` are the primaries whose notes are looked
    at; `epochs` has all, since a slot may have moved. What was struck needs no more freeing, so
    this can be interrupted anywhere and done again.
    """
    count = 0
    for emitter in emitters:
        for tag in tags:
            epoch = epochs[tag]
            standing = functions.run(encoding.emitter_standing(emitter, tag=tag))
            noted = [name for name in standing.organizations if is_in(name)]
            for at in range(0, len(noted), at_once):
                part = noted[at : at + at_once]
                if deadline.is_over() or not make_unknown(
                    functions, part, epochs, position=position
                ):
                    return Freed(count, is_all=False)
                failpoint("enforcement.after_made_unknown")
                # Also asks for them to be warmed, in the same step: nobody may die in between.
                struck = functions.run(encoding.strike_notes(epoch, emitter, part, tag=tag))
                if not isinstance(struck, a.Done):
                    return Freed(count, is_all=False)
                count += len(part)
    return Freed(count, is_all=True)
