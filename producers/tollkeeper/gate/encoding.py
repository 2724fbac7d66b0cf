"""Calls of the functions: name, keys, arguments, and how the answer is read. For sync and asyncio. Pure.

The order of arguments is said in the header of each Lua function, which checks them, too: what is wrong
is refused there, by name, before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Generic, TypeVar

import msgspec

from tollkeeper.errors import InvalidInput
from tollkeeper.gate import answers as a
from tollkeeper.gate import decoding
from tollkeeper.gate.amounts import MAX_MICROS
from tollkeeper.gate.commands import (
    BEFORE_FIRST,
    Cap,
    Fold,
    HeldCall,
    Incarnation,
    Kind,
    Phase,
    Request,
    Snapshot,
    Spent,
)
from tollkeeper.gate.decoding import Decode
from tollkeeper.gate.hold_ids import parse_hold_id
from tollkeeper.gate.keys import SINGLE, epoch_key, organization_keys, primary_prefix

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
Argument = str | int
Arguments = list[Argument]


class Call(msgspec.Struct, Generic[A_co], frozen=True):
    """One call of a function; `decode` reads its answer."""

    function: str
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]
    decode: Decode[A_co]
    only_reads: bool = False


def hold(
    organization: str,
    request: Request,
    *,
    hold_id: str,
    emitter: str,
    epoch: int,
    tag: str = SINGLE,
) -> Call[a.HoldAnswer]:
    """Reserve money for one call (RULES R17 to R25)."""
    arguments = [emitter, hold_id, *_request(request)]
    return _on(organization, "hold", epoch, tag, arguments, decoding.hold_answer)


def extend(hold_id: str, held_micros: int, *, epoch: int, tag: str = SINGLE) -> Call[a.HoldAnswer]:
    """Have an open hold reserve so much in all."""
    organization = parse_hold_id(hold_id).organization
    arguments: Arguments = [hold_id, _amount("amount", held_micros)]
    return _on(organization, "extend", epoch, tag, arguments, decoding.hold_answer)


def release(hold_id: str, *, epoch: int, tag: str = SINGLE) -> Call[a.ReleaseAnswer]:
    """Free a hold whose call the provider did not begin to answer."""
    organization = parse_hold_id(hold_id).organization
    return _on(organization, "release", epoch, tag, [hold_id], decoding.release_answer)


def apply(organization: str, fold: Fold, *, epoch: int, tag: str = SINGLE) -> Call[a.ApplyAnswer]:
    """Move the organization to a fold's offset; `epoch` is the one that the fold's transaction read."""
    members = [(member, int(is_one)) for member, is_one in sorted(fold.members.items())]
    arguments: Arguments = [
        *(_offset(fold.previous), fold.offset, fold.position),
        *_listed(_spent(fold.spent)),
        *_listed(_caps(fold.caps)),
        *(_change("used", fold.used_micros), _change("purchased", fold.purchased_micros)),
        *_listed(members),
        " ".join(fold.settled),
    ]
    return _on(organization, "apply", epoch, tag, arguments, decoding.apply_answer)


def make_unknown(
    organization: str, position: int, *, epoch: int, tag: str = SINGLE
) -> Call[a.ApplyAnswer]:
    """Forget what is known of the organization: only a snapshot at `position` or later will do."""
    return _on(organization, "make_unknown", epoch, tag, [position], decoding.apply_answer)


def warm(organization: str, snapshot: Snapshot, *, tag: str = SINGLE) -> Call[a.WarmAnswer]:
    """Make an organization known."""
    previous, current, following = snapshot.periods
    if previous.end_micros != current.start_micros or current.end_micros != following.start_micros:
        raise InvalidInput("periods", "must follow each other without a gap")
    arguments: Arguments = [
        *(snapshot.phase, _offset(snapshot.offset), snapshot.position),
        *(
            previous.start_micros,
            current.start_micros,
            following.start_micros,
            following.end_micros,
        ),
        *(snapshot.funding, snapshot.seats),
        *_listed((one,) for one in snapshot.levels),
        *_listed(_caps(snapshot.caps)),
        *_listed(_spent(snapshot.spent)),
        *(_amount("used", snapshot.used_micros), _amount("purchased", snapshot.purchased_micros)),
    ]
    lists = (snapshot.members, snapshot.retired, snapshot.settled, snapshot.still_open)
    for words in lists:
        arguments += _listed((one,) for one in words)
    return _on(organization, "warm", snapshot.epoch, tag, arguments, decoding.warm_answer)


def deny(
    organization: str,
    *,
    epoch: int,
    phase: Phase,
    position: int,
    for_micros: int,
    tag: str = SINGLE,
) -> Call[a.DenyAnswer]:
    """Have holds refused for a while: the snapshot read at `position` has no such organization."""
    arguments: Arguments = [phase, position, for_micros]
    return _on(organization, "deny", epoch, tag, arguments, decoding.deny_answer)


def reassert(
    organization: str, holds: Sequence[HeldCall], *, emitter: str, epoch: int, tag: str = SINGLE
) -> Call[a.ReassertAnswer]:
    """Tell a recovering server of an emitter's open holds in one organization."""
    rows = [
        (one.hold_id, one.granted_at, _amount("held", one.held_micros), *_request(one.request))
        for one in holds
    ]
    arguments: Arguments = [emitter, *_listed(rows)]
    return _on(organization, "reassert", epoch, tag, arguments, decoding.reassert_answer)


def status(
    organization: str, *, member: str, scopes: tuple[str, ...] = ()
) -> Call[a.Status | a.Absent]:
    """What a hold of this member would be checked against."""
    arguments = (member, "-", *_listed((one,) for one in scopes))
    keys = organization_keys(organization)
    return Call("status", keys, arguments, decoding.status_answer, only_reads=True)


def copy(organization: str) -> Call[a.Copy | a.Absent]:
    """All that Redis has of the organization, of one moment."""
    keys = organization_keys(organization)
    return Call("copy", keys, (), decoding.copy_answer, only_reads=True)


def open_holds(organization: str) -> Call[tuple[a.OpenHold, ...]]:
    """The table of open holds, sorted by id."""
    keys = organization_keys(organization)
    return Call("open_holds", keys, (), decoding.open_holds_answer, only_reads=True)


def begin_epoch(
    epoch: int, incarnation: Incarnation, *, tag: str = SINGLE
) -> Call[a.PrimaryAnswer]:
    """Trust this incarnation under a new number, as recovering."""
    arguments = (epoch, incarnation.run_id, incarnation.replication_id)
    return Call("begin_epoch", (epoch_key(tag),), arguments, decoding.primary_answer)


def open_epoch(epoch: int, *, tag: str = SINGLE) -> Call[a.Done | a.Waiting | a.Untrusted]:
    """End the recovery, unless an emitter on the list still owes its answer."""
    return Call("open_epoch", (epoch_key(tag),), (epoch,), decoding.open_answer)


def renew(
    epoch: int, incarnation: Incarnation, *, asked_at: int, lease_micros: int, tag: str = SINGLE
) -> Call[a.Renewed | a.Untrusted]:
    """Prolong the lease. `asked_at` is Redis' clock as it was asked *before* SQL's row was read."""
    arguments = (epoch, incarnation.run_id, incarnation.replication_id, asked_at, lease_micros)
    return Call("renew", (epoch_key(tag),), arguments, decoding.renew_answer)


def take_over(epoch: int, *, tag: str = SINGLE) -> Call[a.PrimaryAnswer]:
    """From here on this version of the functions decides."""
    return Call("take_over", (epoch_key(tag),), (epoch,), decoding.primary_answer)


def read_epoch(*, tag: str = SINGLE) -> Call[a.EpochKey | a.NoEpoch]:
    """The epoch key as it is now."""
    return Call("epoch", (epoch_key(tag),), (), decoding.epoch_answer, only_reads=True)


def list_emitters(
    epoch: int, *, started: Sequence[str] = (), retired: Sequence[str] = (), tag: str = SINGLE
) -> Call[a.EmitterAnswer]:
    """What the log says of emitters; retired is final."""
    arguments = (epoch, *_listed((one,) for one in started), *_listed((one,) for one in retired))
    return Call("list_emitters", (epoch_key(tag),), arguments, decoding.emitter_answer)


def answer(epoch: int, emitter: str, *, tag: str = SINGLE) -> Call[a.EmitterAnswer]:
    """This emitter has re-asserted all it has."""
    return Call("answer", (epoch_key(tag),), (epoch, emitter), decoding.emitter_answer)


def note(
    epoch: int, emitter: str, organizations: Sequence[str], *, tag: str = SINGLE
) -> Call[a.EmitterAnswer]:
    """This emitter is about to hold in these organizations, or to re-assert holds there."""
    arguments = (epoch, emitter, *_listed((one,) for one in organizations))
    return Call("note", (epoch_key(tag),), arguments, decoding.emitter_answer)


def strike_notes(
    epoch: int, emitter: str, organizations: Sequence[str], *, tag: str = SINGLE
) -> Call[a.EmitterAnswer]:
    """These organizations were made unknown after this emitter's retirement."""
    arguments = (epoch, emitter, *_listed((one,) for one in organizations))
    return Call("strike_notes", (epoch_key(tag),), arguments, decoding.emitter_answer)


def touch(emitter: str, *, tag: str = SINGLE) -> Call[a.TouchAnswer]:
    """This emitter lives; and what it has to follow, in one answer. Untrusted: not of this server."""
    return Call("touch", (epoch_key(tag),), (emitter,), decoding.touch_answer)


def publish(
    epoch: int, kind: Kind, version: int, items: Sequence[str], *, tag: str = SINGLE
) -> Call[a.PublishAnswer]:
    """Tell product services the whole of a kind; `version` counts from 1, items are printable words."""
    arguments = (epoch, kind, version, *_listed((one,) for one in items))
    return Call("publish", (epoch_key(tag),), arguments, decoding.publish_answer)


def published(kind: Kind, *, tag: str = SINGLE) -> Call[a.Published]:
    """What is published of a kind."""
    keys = (epoch_key(tag),)
    return Call("published", keys, (kind,), decoding.published_answer, only_reads=True)


def emitters(*, tag: str = SINGLE) -> Call[a.Emitters]:
    """All that may hold, with when each was seen; longest unseen first."""
    return Call("emitters", (epoch_key(tag),), (), decoding.emitters_answer, only_reads=True)


def emitter_standing(emitter: str, *, tag: str = SINGLE) -> Call[a.EmitterStanding]:
    """How this emitter stands, and where it may hold."""
    keys = (epoch_key(tag),)
    return Call("emitter", keys, (emitter,), decoding.standing_answer, only_reads=True)


def asked_to_warm(*, most: int = 100, tag: str = SINGLE) -> Call[tuple[str, ...]]:
    """The organizations that wait to be warmed, longest first; at most 1,000."""
    return Call("asked", (epoch_key(tag),), (most,), decoding.asked_answer, only_reads=True)


def strike_asked(
    epoch: int, organizations: Sequence[str], *, tag: str = SINGLE
) -> Call[a.EmitterAnswer]:
    """These organizations need no warming: there are none of that name."""
    arguments = (epoch, *_listed((one,) for one in organizations))
    return Call("strike_asked", (epoch_key(tag),), arguments, decoding.emitter_answer)


def _on(
    organization: str,
    function: str,
    epoch: int,
    tag: str,
    arguments: Sequence[Argument],
    decode: Decode[A],
) -> Call[A]:
    keys = organization_keys(organization)
    return Call(function, keys, (primary_prefix(tag), epoch, *arguments), decode)


def _listed(rows: Iterable[Iterable[Argument]]) -> Arguments:
    """How many rows, then each row's items."""
    items = [tuple(row) for row in rows]
    return [len(items), *chain.from_iterable(items)]


def _request(request: Request) -> Arguments:
    amount = _amount("amount", request.amount_micros)
    scopes = _listed((one,) for one in request.scopes)
    return [amount, request.member, request.surface, *scopes]


def _spent(totals: Iterable[Spent]) -> list[tuple[Argument, ...]]:
    return [
        (
            one.period.start_micros,
            one.period.end_micros,
            one.scope,
            _amount("spent", one.spent_micros),
        )
        for one in totals
    ]


def _caps(caps: Iterable[Cap]) -> list[tuple[Argument, ...]]:
    return [
        (one.scope, one.cap if isinstance(one.cap, str) else _amount("cap", one.cap))
        for one in caps
    ]


def _amount(field: str, micros: int) -> int:
    if not 0 <= micros <= MAX_MICROS:
        raise InvalidInput(field, f"must be 0 to {MAX_MICROS} micro-USD, not {micros}")
    return micros


def _change(field: str, micros: int | None) -> Argument:
    return "-" if micros is None else _amount(field, micros)


def _offset(offset: int) -> Argument:
    return "-" if offset == BEFORE_FIRST else offset
