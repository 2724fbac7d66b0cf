"""Folding one round of records inside one transaction: the fence, the fold, the writes, in this order.

The live pipeline and every replay go through here. It doesn't poll, commit or know groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

import msgspec

from tollkeeper.events.emitters import EmitterRetired, EmitterStarted
from tollkeeper.events.gate import DefaultGatePolicySet, LimitReached
from tollkeeper.events.organization import (
    CreditsPurchased,
    CreditsVoided,
    MemberAdded,
    MemberRemoved,
    OrganizationFact,
    OrganizationOpened,
    OwnershipTransferred,
    RoleChanged,
)
from tollkeeper.events.quarantine import QuarantineDiscarded, QuarantineReleased
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.failpoints import failpoint
from tollkeeper.ledger.batch import Taken, decode_outcome
from tollkeeper.ledger.continuity import record_hash
from tollkeeper.ledger.effects import Effects, before_of, effects_of
from tollkeeper.ledger.fold import Fold, Outcome
from tollkeeper.ledger.port import LedgerTransaction, Move, Position
from tollkeeper.ledger.rows import EVERYBODY
from tollkeeper.ledger.view import Changes, View, Wanted
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import LogRecord
from tollkeeper.outbox.streams import organization_stream


class FoldCounts(msgspec.Struct, frozen=True):
    """What became of a round's records."""

    records: int = 0
    charged: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    notifications: int = 0
    causes: dict[str, int] = {}
    """The dead letters by cause."""

    def __add__(self, other: FoldCounts) -> FoldCounts:
        return FoldCounts(
            self.records + other.records,
            self.charged + other.charged,
            self.duplicates + other.duplicates,
            self.dead_letters + other.dead_letters,
            self.notifications + other.notifications,
            dict(Counter(self.causes) + Counter(other.causes)),
        )


class Folded(msgspec.Struct, frozen=True):
    """What a round did, once its transaction is committed; `effects` only where they were asked for."""

    counts: FoldCounts
    effects: Effects | None = None


def fold_round(
    transaction: LedgerTransaction,
    generation: int,
    taken: dict[int, list[Taken]],
    *,
    partition_count: int,
    log_identity: str,
    applied: Mapping[int, int] | None = None,
    with_effects: bool = False,
    is_live: bool = False,
) -> Folded | None:
    """Fold one round into a generation; None when another fold has moved on: then roll back.

    `taken` holds contiguous records by partition. Everything becomes visible when the caller commits.
    `applied` says how far the gate has what was folded before, where that is known. Only the live fold
    tells people anything: what a replay finds was told, or is none of today's news.
    """
    moves = [_move(records, log_identity, applied or {}) for _, records in sorted(taken.items())]
    if not transaction.advance(generation, moves):
        return None
    failpoint("pipeline.after_fence")
    view = _load(transaction, generation, taken)
    organizations = before_of(view) if with_effects else {}
    fold = Fold(
        view,
        partition_of=partial(partition_for, partition_count=partition_count),
        decode=decode_outcome,
    )
    take = fold.take
    for records in taken.values():
        for record, outcome in records:
            take(record, outcome)
    before = transaction.insert_charges(generation, fold.changes.charges)
    failpoint("pipeline.after_charges")
    letters = partial(transaction.open_letters, generation)
    changes = fold.settle(before, letters, transaction.standings(generation))
    transaction.write(generation, changes, view)
    told = transaction.tell(changes.notifications) if is_live and changes.notifications else 0
    failpoint("pipeline.after_fold")
    if not with_effects:
        return Folded(_counts(taken, changes, told))
    effects = effects_of(
        changes,
        view,
        organizations,
        generation=generation,
        epochs=transaction.epochs(),
        positions={move.partition: move.to.next_offset for move in moves},
    )
    return Folded(_counts(taken, changes, told), effects)


def _counts(taken: dict[int, list[Taken]], changes: Changes, told: int) -> FoldCounts:
    opened = [letter.cause for letter in changes.letters.values() if letter.status == "open"]
    return FoldCounts(
        records=sum(map(len, taken.values())),
        charged=len(changes.charges),
        duplicates=changes.duplicates,
        dead_letters=len(opened),
        notifications=told,
        causes=dict(Counter(map(str, opened))),
    )


def wanted_of(taken: dict[int, list[Taken]]) -> Wanted:
    """The keys that these records touch."""
    wanted = Wanted(partitions=set(taken))
    for records in taken.values():
        wanted.members.update(
            [(o.organization, o.member) for _, o in records if type(o) is UsageRecorded]
        )
    wanted.organizations.update([name for name, _ in wanted.members])
    for partition, records in taken.items():
        for _, outcome in records:
            if type(outcome) is not UsageRecorded:
                _want_other(wanted, partition, outcome)
    return wanted


def _want_other(wanted: Wanted, partition: int, outcome: Outcome) -> None:
    match outcome:
        case EmitterStarted() | EmitterRetired():
            wanted.emitters.add((partition, outcome.emitter))
        case LimitReached():
            wanted.organizations.add(outcome.organization)
        case DefaultGatePolicySet():
            wanted.policies.add((EVERYBODY, partition))
        case QuarantineReleased() | QuarantineDiscarded():
            wanted.letters.add((outcome.letter_partition, outcome.letter_offset))
        case OrganizationFact():
            wanted.organizations.add(outcome.organization)
            wanted.decided.add((organization_stream(outcome.organization), outcome.version))
            _want_detail(wanted, outcome)


def _want_detail(wanted: Wanted, event: Outcome) -> None:
    match event:
        case OrganizationOpened():
            wanted.members.add((event.organization, event.primary_owner))
        case MemberAdded() | MemberRemoved() | RoleChanged():
            wanted.members.add((event.organization, event.member))
        case OwnershipTransferred():
            wanted.members.add((event.organization, event.from_member))
            wanted.members.add((event.organization, event.to_member))
        case CreditsPurchased() | CreditsVoided():
            wanted.purchases.add((event.organization, event.purchase_id))


def _load(transaction: LedgerTransaction, generation: int, taken: dict[int, list[Taken]]) -> View:
    """What the records touch. A released letter is folded again, so what it touches belongs to it."""
    view = transaction.load(generation, wanted_of(taken))
    if not view.letters:
        return view
    again: dict[int, list[Taken]] = {}
    for letter in view.letters.values():
        if letter.status == "open":
            record = LogRecord(
                letter.log_partition,
                letter.log_offset,
                letter.record_key,
                letter.raw,
                letter.appended_at,
            )
            again.setdefault(letter.log_partition, []).append((record, decode_outcome(letter.raw)))
    more = transaction.load(generation, wanted_of(again))
    view.organizations.update(more.organizations)
    view.members.update(more.members)
    view.credits.update(more.credits)
    view.decided.update(more.decided)
    return view


def _move(records: list[Taken], log_identity: str, applied: Mapping[int, int]) -> Move:
    first, last = records[0][0], records[-1][0]
    position = Position(
        last.next_offset,
        log_identity,
        record_hash(last),
        last.appended_at,
        applied.get(first.partition),
    )
    return Move(first.partition, first.offset, position)
