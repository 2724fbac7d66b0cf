"""Redis' answers to values. Pure, so that sync and asyncio share it.

Each answer begins with a word; what follows it is said in the header of the function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tollkeeper.errors import BrokenInvariant, InvalidInput
from tollkeeper.gate import answers as a
from tollkeeper.money.periods import Period

A = TypeVar("A")
Items = list[Any]
"""As redis-py gives them: bytes and whole numbers; text where a test made them up."""
Words = list[str]
Decode = Callable[[object], A]

_LIMIT_WORDS = 5
_HOLD_WORDS = 6
_EMITTER_WORDS = 3


def _decoder(kinds: Mapping[str, Callable[[Items], A]]) -> Decode[A]:
    known: dict[object, Callable[[Items], A]] = {}
    for word, kind in kinds.items():
        known[word] = known[word.encode()] = kind

    def decode(raw: object) -> A:
        if not isinstance(raw, list) or not raw:
            raise BrokenInvariant(f"the gate's function answered {type(raw).__name__}")
        kind = known.get(raw[0])
        if kind is not None:
            return kind(raw[1:])
        words = _words(raw)
        if words[0] == "invalid":
            raise InvalidInput(words[1], "isn't what the gate's function takes")
        raise BrokenInvariant(f"the gate's function answered {words[0]!r}")

    return decode


def _words(items: Items) -> Words:
    return [item.decode() if isinstance(item, bytes) else str(item) for item in items]


def _whole(kind: Callable[..., A]) -> Callable[[Items], A]:
    """A value that is made of whole numbers."""
    return lambda items: kind(*map(int, items))


def _plain(kind: Callable[..., A]) -> Callable[[Items], A]:
    """A value that is made of words."""
    return lambda items: kind(*_words(items))


def _of_words(decode: Callable[[Words], A]) -> Callable[[Items], A]:
    """A value that is made of both."""
    return lambda items: decode(_words(items))


def _done(what: str) -> Callable[[Items], a.Done]:
    return lambda _: a.Done(what)


def _micros(word: str) -> int | None:
    return None if word in ("", "unlimited") else int(word)


def _fives(words: Words) -> list[Words]:
    return [words[at : at + _LIMIT_WORDS] for at in range(0, len(words), _LIMIT_WORDS)]


def _refused(words: Words) -> a.Refused:
    reasons = tuple(
        a.Against(name, scope, _micros(cap), _micros(spent), _micros(held))
        for name, scope, cap, spent, held in _fives(words[2:])
    )
    return a.Refused(int(words[0]), int(words[1]), reasons)


def _status(words: Words) -> a.Status:
    known, epoch, offset, position, floor, now, start, stop, member = map(int, words[:9])
    limits = tuple(
        a.Limit(name, scope, _micros(cap), int(spent), int(held))
        for name, scope, cap, spent, held in _fives(words[9:])
    )
    period = Period(start, stop) if stop else None
    return a.Status(bool(known), epoch, offset, position, floor, now, period, bool(member), limits)


def _open_holds(words: Words) -> tuple[a.OpenHold, ...]:
    rows = (words[at : at + _HOLD_WORDS] for at in range(0, len(words), _HOLD_WORDS))
    return tuple(
        a.OpenHold(name, int(epoch), int(granted_at), int(held), int(asked), member)
        for name, epoch, granted_at, held, asked, member in rows
    )


def _copy(words: Words) -> a.Copy:
    known, offset, position, count = map(int, words[:4])
    end = 4 + 2 * count
    fields = dict(zip(words[4:end:2], words[5:end:2], strict=True))
    return a.Copy(bool(known), offset, position, fields, _open_holds(words[end:]))


def _epoch(words: Words) -> a.EpochKey:
    number, phase, library, run_id, replication_id, lease_until, now = words
    return a.EpochKey(
        int(number), phase, library, run_id, replication_id, int(lease_until), int(now)
    )


def _touched(words: Words) -> a.Touched:
    number, phase, library, run_id, replication_id, *rest = words
    lease_until, now, standing, prices, policies = rest
    return a.Touched(
        *(int(number), phase, library, run_id, replication_id, int(lease_until), int(now)),
        *(standing, int(prices), int(policies)),
    )


def _published(words: Words) -> a.Published:
    return a.Published(int(words[0]), tuple(words[1].split()))


def _emitters(words: Words) -> a.Emitters:
    rows = (words[at : at + _EMITTER_WORDS] for at in range(1, len(words), _EMITTER_WORDS))
    listed = (a.ListedEmitter(name, standing, int(seen_at)) for name, standing, seen_at in rows)
    return a.Emitters(int(words[0]), tuple(listed))


def _untrusted(words: Words) -> a.Untrusted:
    return a.Untrusted(words[0], int(words[1]))


_stale = _whole(a.Stale)
_emitter = _plain(a.EmitterRefused)
_hold_id = _plain(a.HoldIdRefused)

hold_answer: Decode[a.HoldAnswer] = _decoder(
    {
        "granted": _whole(a.Granted),
        "refused": _of_words(_refused),
        "unknown": _plain(a.Unknown),
        "untrusted": _of_words(_untrusted),
        "stale": _stale,
        "emitter": _emitter,
        "hold_id": _hold_id,
    }
)
release_answer: Decode[a.ReleaseAnswer] = _decoder(
    {
        "released": _whole(a.Released),
        "untrusted": _of_words(_untrusted),
        "stale": _stale,
        "hold_id": _hold_id,
    }
)
apply_answer: Decode[a.ApplyAnswer] = _decoder(
    {
        "applied": _plain(a.Applied),
        "ignored": _whole(a.Ignored),
        "unknown": _plain(a.Unknown),
        "untrusted": _of_words(_untrusted),
        "stale": _stale,
    }
)
warm_answer: Decode[a.WarmAnswer] = _decoder(
    {
        "warmed": _whole(a.Warmed),
        "known": _plain(a.AlreadyKnown),
        "below_floor": _whole(a.BelowFloor),
        "not_open": _plain(a.ReadTooEarly),
        "unexamined": _whole(a.Unexamined),
        "elsewhere": _whole(a.Elsewhere),
        "untrusted": _of_words(_untrusted),
        "stale": _stale,
    }
)
deny_answer: Decode[a.DenyAnswer] = _decoder(
    {
        "denied": _plain(a.Denied),
        "known": _plain(a.AlreadyKnown),
        "below_floor": _whole(a.BelowFloor),
        "not_open": _plain(a.ReadTooEarly),
        "untrusted": _of_words(_untrusted),
        "stale": _stale,
    }
)
reassert_answer: Decode[a.ReassertAnswer] = _decoder(
    {
        "reasserted": _whole(a.Reasserted),
        "untrusted": _of_words(_untrusted),
        "stale": _stale,
        "emitter": _emitter,
        "hold_id": _hold_id,
    }
)
primary_answer: Decode[a.PrimaryAnswer] = _decoder(
    {
        **{word: _done(word) for word in ("begun", "taken_over")},
        "untrusted": _of_words(_untrusted),
        "stale": _stale,
    }
)
open_answer: Decode[a.Done | a.Waiting | a.Untrusted] = _decoder(
    {
        "opened": _done("opened"),
        "waiting": _of_words(lambda words: a.Waiting(tuple(words))),
        "untrusted": _of_words(_untrusted),
    }
)
renew_answer: Decode[a.Renewed | a.Untrusted] = _decoder(
    {"renewed": _whole(a.Renewed), "untrusted": _of_words(_untrusted)}
)
emitter_answer: Decode[a.EmitterAnswer] = _decoder(
    {
        **{word: _done(word) for word in ("listed", "answered", "noted", "struck")},
        "emitter": _emitter,
        "untrusted": _of_words(_untrusted),
    }
)
epoch_answer: Decode[a.EpochKey | a.NoEpoch] = _decoder(
    {"epoch": _of_words(_epoch), "absent": _whole(a.NoEpoch)}
)
touch_answer: Decode[a.TouchAnswer] = _decoder(
    {
        "touched": _of_words(_touched),
        "absent": _whole(a.NoEpoch),
        "untrusted": _of_words(_untrusted),
    }
)
publish_answer: Decode[a.PublishAnswer] = _decoder(
    {"published": _done("published"), "newer": _whole(a.Newer), "untrusted": _of_words(_untrusted)}
)
published_answer: Decode[a.Published] = _decoder({"published": _of_words(_published)})
emitters_answer: Decode[a.Emitters] = _decoder({"emitters": _of_words(_emitters)})
standing_answer: Decode[a.EmitterStanding] = _decoder(
    {"emitter": _of_words(lambda words: a.EmitterStanding(words[0], tuple(words[1:])))}
)
asked_answer: Decode[tuple[str, ...]] = _decoder({"asked": _of_words(tuple)})
status_answer: Decode[a.Status | a.Absent] = _decoder(
    {"status": _of_words(_status), "absent": _plain(a.Absent)}
)
copy_answer: Decode[a.Copy | a.Absent] = _decoder(
    {"copy": _of_words(_copy), "absent": _plain(a.Absent)}
)
open_holds_answer: Decode[tuple[a.OpenHold, ...]] = _decoder({"holds": _of_words(_open_holds)})
