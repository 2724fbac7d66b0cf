"""What a fold must know of the ledger before it can take a batch, and what it found out.

`Wanted` names it, the store loads a `View` of it, the fold works on that view and notes `Changes`,
and the store writes those. Values and plain containers only; no storage here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tollkeeper.events.gate import LimitReached
from tollkeeper.events.organization import (
    DEFAULT_CAP_PERCENTS,
    DEFAULT_CREDITS_LOW_PERCENT,
    OrganizationEvent,
)
from tollkeeper.ledger.notifications import Notification
from tollkeeper.ledger.rows import (
    AdmittedRow,
    CapRow,
    CreditRow,
    DecidedRow,
    EmitterRow,
    Letter,
    LetterKey,
    MemberRow,
    Place,
    PlainRow,
    PolicyRow,
    PublicationRow,
    StopRow,
)
from tollkeeper.rating.card import RateCard

SpendKey = tuple[str, int, int, str, str, str]
"""(organization, period start, day, member, surface, model)."""

SpentKey = tuple[str, int, str]
"""(organization, period start, member or ALL_MEMBERS)."""
ALL_MEMBERS = ""
"""Stands for the organization where a member could stand."""


DEFAULT_PERCENTS = " ".join(map(str, DEFAULT_CAP_PERCENTS))


class Fact(NamedTuple):
    """A fact that was folded, and where it took effect: its own place, or that of its release."""

    offset: int
    appended_at: int
    event: OrganizationEvent | LimitReached


@dataclass(slots=True)
class OrganizationTotals:
    """One row of the table `organization`, worked on by a fold."""

    organization: str
    plan: str
    channel: str
    primary_owner: str
    opened_at: int
    version: int
    log_partition: int
    last_offset: int
    fingerprint: int = 0
    charged_events: int = 0
    charged_nanos: int = 0
    duplicate_events: int = 0
    purchased_nanos: int = 0
    used_nanos: int = 0
    # What notifications need to know of it; kept by `fold_notifying`.
    cap_percents: str = DEFAULT_PERCENTS
    credits_low_percent: int = DEFAULT_CREDITS_LOW_PERCENT
    cap_scopes: int = 0
    last_purchase_nanos: int = 0
    credits_version: int = 0
    stopped_since: int = 0


@dataclass(slots=True)
class Wanted:
    """The keys that a batch touches."""

    partitions: set[int] = field(default_factory=set)
    organizations: set[str] = field(default_factory=set)
    members: set[tuple[str, str]] = field(default_factory=set)
    purchases: set[tuple[str, str]] = field(default_factory=set)
    letters: set[Place] = field(default_factory=set)
    emitters: set[tuple[int, str]] = field(default_factory=set)
    policies: set[tuple[str, int]] = field(default_factory=set)
    decided: set[tuple[str, int]] = field(default_factory=set)


@dataclass(slots=True)
class View:
    """The ledger's state at a batch's keys; the fold changes it as it goes along."""

    organizations: dict[str, OrganizationTotals] = field(default_factory=dict)
    members: dict[tuple[str, str], MemberRow] = field(default_factory=dict)
    credits: dict[tuple[str, str], CreditRow] = field(default_factory=dict)
    letters: dict[Place, Letter] = field(default_factory=dict)
    discarded: set[LetterKey] = field(default_factory=set)
    decided: dict[tuple[str, int], bytes] = field(default_factory=dict)
    publications: dict[tuple[int, str], PublicationRow] = field(default_factory=dict)
    cards: dict[int, RateCard] = field(default_factory=dict)
    emitters: dict[tuple[int, str], EmitterRow] = field(default_factory=dict)
    policies: dict[tuple[str, int], PolicyRow] = field(default_factory=dict)
    spent: dict[SpentKey, int] = field(default_factory=dict)
    """What was charged before this batch, nano-USD, of what it adds to; filled when it is settled."""


@dataclass(slots=True)
class Changes:
    """What a batch changes. `charges` are candidates until the store has said which are new."""

    charges: list[PlainRow] = field(default_factory=list)
    organizations: set[str] = field(default_factory=set)
    members: dict[tuple[str, str], MemberRow] = field(default_factory=dict)
    caps: dict[tuple[str, str, str], CapRow] = field(default_factory=dict)
    credits: dict[tuple[str, str], CreditRow] = field(default_factory=dict)
    letters: dict[Place, Letter] = field(default_factory=dict)
    publications: dict[tuple[int, str], PublicationRow] = field(default_factory=dict)
    emitters: dict[tuple[int, str], EmitterRow] = field(default_factory=dict)
    policies: dict[tuple[str, int], PolicyRow] = field(default_factory=dict)
    stops: dict[tuple[str, str, str], StopRow] = field(default_factory=dict)
    admitted: dict[tuple[str, str], AdmittedRow] = field(default_factory=dict)
    decided: list[DecidedRow] = field(default_factory=list)
    spend: dict[SpendKey, tuple[int, ...]] = field(default_factory=dict)
    spent: dict[SpentKey, int] = field(default_factory=dict)
    """The absolute totals after it, nano-USD."""
    settled: list[tuple[str, str]] = field(default_factory=list)
    """(organization, hold id) of usage that was folded without being charged anew."""
    facts: dict[str, list[Fact]] = field(default_factory=dict)
    """By organization, in the order of the log."""
    released_at: dict[Place, int] = field(default_factory=dict)
    """When the log got a release of a dead letter, by the place of the release."""
    notifications: list[Notification] = field(default_factory=list)
    duplicates: int = 0
