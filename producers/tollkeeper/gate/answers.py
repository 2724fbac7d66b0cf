"""What the functions answer, as values; amounts in micro-USD, instants in microseconds since 1970. Pure."""

from __future__ import annotations

import msgspec

from tollkeeper.money.periods import Period


class Granted(msgspec.Struct, frozen=True):
    """The money is reserved. It counts only when it arrives before `lease_until` and in the same epoch."""

    granted_at: int
    held_micros: int
    now: int
    lease_until: int


class Limit(msgspec.Struct, frozen=True):
    """One thing that can stop usage; `cap_micros` None is unlimited."""

    name: str
    scope: str
    cap_micros: int | None
    spent_micros: int
    held_micros: int


class Against(msgspec.Struct, frozen=True):
    """One reason of a refusal; without amounts where it isn't about money."""

    name: str
    scope: str
    cap_micros: int | None
    spent_micros: int | None
    held_micros: int | None


class Refused(msgspec.Struct, frozen=True):
    """Nothing is reserved; every reason (RULES R24). `period_end` is when caps lift by themselves; 0 when
    there is no such organization, and so no period."""

    now: int
    period_end: int
    reasons: tuple[Against, ...]


class Unknown(msgspec.Struct, frozen=True):
    """Redis doesn't know the organization; after a `hold` it is on the list of those to be warmed."""


class Untrusted(msgspec.Struct, frozen=True):
    """This server, or this version of the functions, isn't the one to ask now; `epoch` is the server's."""

    cause: str
    epoch: int


class Stale(msgspec.Struct, frozen=True):
    """The call is of an older epoch than the key or organization has."""

    epoch: int


class EmitterRefused(msgspec.Struct, frozen=True):
    """This emitter may not: unlisted, retired, unnoted in the organization; or listed still."""

    cause: str


class HoldIdRefused(msgspec.Struct, frozen=True):
    """This id can't: foreign, used, other_request, age; absent and period where a hold is extended."""

    cause: str


class Released(msgspec.Struct, frozen=True):
    """Nothing is held under the id any more; `freed_micros` is 0 when nothing was."""

    freed_micros: int


class Applied(msgspec.Struct, frozen=True):
    """Redis is at the fold's offset."""


class Ignored(msgspec.Struct, frozen=True):
    """Redis was at or past the fold's offset already."""

    offset: int


class Warmed(msgspec.Struct, frozen=True):
    """The organization is known; how many of its holds stayed and went."""

    kept: int
    dropped: int


class AlreadyKnown(msgspec.Struct, frozen=True):
    """The organization was known and was left alone."""


class BelowFloor(msgspec.Struct, frozen=True):
    """The snapshot is older than what Redis has seen: read another, at `floor` or after it."""

    floor: int


class ReadTooEarly(msgspec.Struct, frozen=True):
    """The snapshot was read before SQL's epoch row was open: read another."""


class Denied(msgspec.Struct, frozen=True):
    """For a while holds are refused, since there is no such organization."""


class Unexamined(msgspec.Struct, frozen=True):
    """Redis has holds that the snapshot wasn't asked about: list them, then read another."""

    holds: int


class Elsewhere(msgspec.Struct, frozen=True):
    """Redis' clock is in none of the snapshot's periods."""

    now: int


class Reasserted(msgspec.Struct, frozen=True):
    """How many of the holds are in the table."""

    holds: int


class Done(msgspec.Struct, frozen=True):
    """It is so now, also when it was so before."""

    what: str


class Waiting(msgspec.Struct, frozen=True):
    """These emitters have neither answered nor were retired."""

    emitters: tuple[str, ...]


class Renewed(msgspec.Struct, frozen=True):
    """How long the lease is, by Redis' clock."""

    lease_until: int


class NoEpoch(msgspec.Struct, frozen=True):
    """The server has no epoch key."""

    now: int


class EpochKey(msgspec.Struct, frozen=True):
    """The epoch key."""

    epoch: int
    phase: str
    library: str
    run_id: str
    replication_id: str
    lease_until: int
    now: int


class Touched(EpochKey, frozen=True):
    """The epoch key, how the emitter that asked stands, and which versions are published (0: none yet)."""

    standing: str
    prices_version: int
    policies_version: int


class Published(msgspec.Struct, frozen=True):
    """What is published of a kind; version 0 is nothing yet."""

    version: int
    items: tuple[str, ...]


class Newer(msgspec.Struct, frozen=True):
    """A newer version is published already."""

    version: int


class ListedEmitter(msgspec.Struct, frozen=True):
    """One that may hold, or may as soon as it has answered; it was listed or touched last at `seen_at`."""

    emitter: str
    standing: str
    seen_at: int


class Emitters(msgspec.Struct, frozen=True):
    """Those listed and not retired, longest unseen first; `now` is Redis' clock, as `seen_at` is."""

    now: int
    listed: tuple[ListedEmitter, ...]


class EmitterStanding(msgspec.Struct, frozen=True):
    """started, answered, retired or unlisted; and where it may hold."""

    standing: str
    organizations: tuple[str, ...]


class Absent(msgspec.Struct, frozen=True):
    """Redis has nothing of this organization, which is as good as unknown."""


class Status(msgspec.Struct, frozen=True):
    """What Redis has; without period and limits while it is unknown."""

    is_known: bool
    epoch: int
    offset: int
    position: int
    floor: int
    now: int
    period: Period | None
    is_member: bool
    limits: tuple[Limit, ...]


class OpenHold(msgspec.Struct, frozen=True):
    """One hold of the table."""

    hold_id: str
    epoch: int
    granted_at: int
    held_micros: int
    asked_micros: int
    member: str


class Copy(msgspec.Struct, frozen=True):
    """All that Redis has of an organization: its state as it is stored, and the open holds."""

    is_known: bool
    offset: int
    position: int
    fields: dict[str, str]
    holds: tuple[OpenHold, ...]

    @property
    def epoch(self) -> int:
        """The newest epoch in which anything was asked of the organization."""
        return int(self.fields["epoch"])


NotNow = Unknown | Untrusted | Stale
HoldAnswer = Granted | Refused | EmitterRefused | HoldIdRefused | NotNow
ReleaseAnswer = Released | HoldIdRefused | Untrusted | Stale
ApplyAnswer = Applied | Ignored | NotNow
WarmAnswer = (
    Warmed | AlreadyKnown | BelowFloor | ReadTooEarly | Unexamined | Elsewhere | Untrusted | Stale
)
DenyAnswer = Denied | AlreadyKnown | BelowFloor | ReadTooEarly | Untrusted | Stale
ReassertAnswer = Reasserted | EmitterRefused | HoldIdRefused | Untrusted | Stale
PrimaryAnswer = Done | Untrusted | Stale
TouchAnswer = Touched | NoEpoch | Untrusted
PublishAnswer = Done | Newer | Untrusted
EmitterAnswer = Done | EmitterRefused | Untrusted
