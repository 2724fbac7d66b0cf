"""The fold of the log: what each record means for the ledger. Pure: no storage, no clock.

`Fold.take` is called once a record, in log order within a partition, and works on a `View`. It ends
with *candidate* charges; the store says which event ids were charged before, and `settle` turns the
rest into totals. The same records over the same view give the same changes, live and in a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import assert_never

from msgspec.structs import astuple

from tollkeeper.errors import BrokenInvariant, InvalidInput, Undecodable
from tollkeeper.events.business_hash import business_hash, values_hash
from tollkeeper.events.codec import Event
from tollkeeper.events.emitters import EmitterRetired, EmitterStarted
from tollkeeper.events.gate import CallAdmitted, DefaultGatePolicySet, LimitReached
from tollkeeper.events.prices import PricesPublished, PricesWithdrawn
from tollkeeper.events.quarantine import QuarantineDiscarded, QuarantineReleased
from tollkeeper.events.quarantined import Cause
from tollkeeper.events.usage import UsageRecorded
from tollkeeper.ledger.adding_up import add_up
from tollkeeper.ledger.chargeable import (
    FUTURE_TOLERANCE_MICROS,
    MAX_CHARGE_NANOS,
    MAX_CHARGED_NANOS,
    at_risk_nanos,
    problem_of,
)
from tollkeeper.ledger.fingerprint import MODULUS_MASK, fact_term
from tollkeeper.ledger.fold_emitters import fold_emitter
from tollkeeper.ledger.fold_notifying import StandingReads, fold_notifying
from tollkeeper.ledger.fold_operator import fold_default_policy, fold_prices, note_decision
from tollkeeper.ledger.fold_organization import OrganizationFold
from tollkeeper.ledger.fold_reported import fold_report
from tollkeeper.ledger.letters import (
    Problem,
    Released,
    closed,
    letter_of_conflict,
    letter_of_record,
    letter_of_usage,
)
from tollkeeper.ledger.rows import (
    ChargedBefore,
    ChargeRow,
    Letter,
    LetterKey,
    Place,
    PlainRow,
)
from tollkeeper.ledger.view import Changes, OrganizationTotals, View
from tollkeeper.log.port import LogRecord
from tollkeeper.money.periods import period_at
from tollkeeper.rating.card import Rated, Unpriced

Outcome = Event | InvalidInput
"""What decoding a record gave: an event, or the error that names field and rule."""

_NO_DECISION = Problem(
    Cause.IMPOSSIBLE,
    "letter_offset",
    "a decision that was itself released decides nothing: decide about that dead letter",
)
"""Else hostile decisions about each other could go round for ever."""


class Fold:
    """One batch's fold over one view; use it once."""

    def __init__(
        self,
        view: View,
        *,
        partition_of: Callable[[str], int],
        decode: Callable[[bytes], Outcome],
    ) -> None:
        self.view = view
        self.changes = Changes()
        self._partition_of = partition_of
        self._decode = decode
        self._records: list[LogRecord] = []
        self._by_place: dict[Place, LogRecord] = {}  # of the records, once a conflict asks for it
        self._released: dict[Place, Released] = {}
        self._charged_again: set[Place] = set()  # released usage that is a candidate in this batch
        self._organizations = OrganizationFold(view, self.changes)

    def take(self, record: LogRecord, outcome: Outcome) -> None:
        """Fold one record."""
        if type(outcome) is UsageRecorded:
            self._records.append(record)
            self._usage(record, outcome, None, record.appended_at)
        else:
            self._take_other(record, outcome, None)

    def settle(
        self,
        before: Mapping[tuple[str, str], ChargedBefore],
        open_letters: Callable[[Collection[LetterKey]], Mapping[LetterKey, Place]],
        reads: StandingReads,
    ) -> Changes:
        """Close the batch: keep the charges that are new, sum them up, sort out the rest.

        `before` is what stands in the ledger under the candidates' ids, unless all were new;
        `open_letters` answers which of these usage events have an open letter in the ledger, and
        `reads` how organizations stood.
        """
        candidates, self.changes.charges = self.changes.charges, []
        if before:
            candidates = self._new_ones(candidates, before)
        self._charge(candidates, reads)
        self._drop_repeated_letters(open_letters)
        fold_notifying(self.view, self.changes, reads)
        return self.changes

    def _usage(
        self,
        record: LogRecord,
        usage: UsageRecorded,
        released_offset: int | None,
        seen_at: int,
    ) -> None:
        """`seen_at` is when the log got the record, or its release: what lay ahead then may be past."""
        organization = self.view.organizations.get(usage.organization)
        rated = self.view.cards[record.partition].rate(usage)
        if (
            organization is None
            or organization.log_partition != record.partition
            or usage.occurred_at > seen_at + FUTURE_TOLERANCE_MICROS
            or type(rated) is not Rated
            or rated.charge_nanos > MAX_CHARGE_NANOS
            or organization.charged_nanos > MAX_CHARGED_NANOS
        ):
            self._quarantine_usage(record, usage, organization, rated, seen_at)
            return
        values = astuple(usage)
        payload_hash = values_hash(values)
        if released_offset is None:
            organization.last_offset = record.offset
        if self.view.discarded and self._was_discarded(record, usage, payload_hash):
            self._ignore(organization, usage.hold_id)
            return
        period = period_at(usage.occurred_at)
        standing = self.view.members.get((usage.organization, usage.member))
        judged = (
            payload_hash,
            record.appended_at,
            period.start_micros,
            int(record.appended_at >= period.end_micros),
            int(standing is None or standing.removed_at is not None),
        )
        place = (
            rated.charge_nanos,
            rated.publication_id,
            record.partition,
            record.offset,
            released_offset,
        )
        self.changes.charges.append(values + judged + rated.parts + place)
        if released_offset is not None:
            self._charged_again.add((record.partition, record.offset))

    def _quarantine_usage(
        self,
        record: LogRecord,
        usage: UsageRecorded,
        organization: OrganizationTotals | None,
        rated: Rated | Unpriced,
        seen_at: int,
    ) -> None:
        payload_hash = business_hash(usage)
        if (
            organization is not None
            and organization.log_partition == record.partition
            and self._was_discarded(record, usage, payload_hash)
        ):
            organization.last_offset = max(organization.last_offset, record.offset)
            self._ignore(organization, usage.hold_id)
            return
        problem = problem_of(
            usage,
            organization,
            rated,
            partition=record.partition,
            own_partition=self._partition_of(usage.organization),
            seen_at=seen_at,
        )
        self._quarantine(
            letter_of_usage(
                record,
                usage,
                problem,
                payload_hash=payload_hash,
                amount_at_risk_nanos=at_risk_nanos(rated),
            )
        )

    def _was_discarded(self, record: LogRecord, usage: UsageRecorded, payload_hash: bytes) -> bool:
        key = (record.partition, usage.organization, usage.event_id, payload_hash)
        return key in self.view.discarded

    def _ignore(self, organization: OrganizationTotals, hold_id: str | None) -> None:
        """Count usage that was dealt with before; nothing is held for it any more."""
        organization.duplicate_events += 1
        self._settle_hold(organization, hold_id)
        self.changes.organizations.add(organization.organization)
        self.changes.duplicates += 1

    def _take_other(self, record: LogRecord, outcome: Outcome, released: Released | None) -> None:
        match outcome:
            case InvalidInput():
                cause = Cause.UNDECODABLE if isinstance(outcome, Undecodable) else Cause.INVALID
                problem: Problem | None = Problem(cause, outcome.field, outcome.rule)
            case UsageRecorded():
                raise BrokenInvariant("usage is folded by its own function")
            case PricesPublished() | PricesWithdrawn():
                problem = fold_prices(self.view, self.changes, record, outcome)
            case EmitterStarted() | EmitterRetired():
                fold_emitter(self.view, self.changes, record, outcome)
                problem = None
            case DefaultGatePolicySet():
                fold_default_policy(self.view, self.changes, record, outcome)
                problem = None
            case QuarantineReleased() | QuarantineDiscarded():
                problem = self._decide_letter(record, outcome) if released is None else _NO_DECISION
            case _:
                if self._partition_of(outcome.organization) != record.partition:
                    problem = Problem(
                        Cause.WRONG_PARTITION,
                        "organization",
                        f"{outcome.organization} belongs to another partition",
                    )
                elif isinstance(outcome, LimitReached | CallAdmitted):
                    fold_report(self.view, self.changes, record, outcome)
                    problem = None
                else:
                    offset = record.offset if released is None else released.released_offset
                    problem = self._organizations.fold(record, outcome, offset)
        if problem is not None:
            organization = getattr(outcome, "organization", None)
            self._quarantine(letter_of_record(record, problem, organization))
        elif released is not None:
            self._close(released, "folded")

    def _decide_letter(
        self, record: LogRecord, event: QuarantineReleased | QuarantineDiscarded
    ) -> Problem | None:
        note_decision(self.changes, record, event)
        place = (event.letter_partition, event.letter_offset)
        letter = self.view.letters.get(place)
        if letter is None or event.letter_partition != record.partition:
            return Problem(
                Cause.IMPOSSIBLE,
                "letter_offset",
                f"there is no dead letter {place[0]}-{place[1]} on this partition",
            )
        if letter.status != "open" or place in self._charged_again:
            return None  # a release may stand on the log twice: the relay sends at least once
        match event:
            case QuarantineDiscarded():
                self.view.discarded.add(letter.key)
                self._put(
                    closed(
                        letter,
                        "discarded",
                        offset=record.offset,
                        actor=event.actor,
                        reason=event.reason,
                    )
                )
            case QuarantineReleased():
                self._fold_again(letter, record, event.actor)
            case _:
                assert_never(event)
        return None

    def _fold_again(self, letter: Letter, release: LogRecord, actor: str) -> None:
        """Fold a released letter's record as of now; it stays open when its cause isn't gone."""
        record = LogRecord(
            letter.log_partition,
            letter.log_offset,
            letter.record_key,
            letter.raw,
            letter.appended_at,
        )
        released = Released(letter, release.offset, actor)
        self.changes.released_at[release.partition, release.offset] = release.appended_at
        self._records.append(record)
        outcome = self._decode(letter.raw)
        if isinstance(outcome, UsageRecorded):
            self._released[letter.place] = released
            self._usage(record, outcome, release.offset, release.appended_at)
        else:
            self._take_other(record, outcome, released)

    def _new_ones(
        self,
        candidates: list[PlainRow],
        before: Mapping[tuple[str, str], ChargedBefore],
    ) -> list[PlainRow]:
        """The candidates that were inserted; duplicates are counted, conflicts quarantined."""
        new = []
        for candidate in candidates:
            row = ChargeRow(*candidate)
            first = before[row.organization, row.event_id]
            if (first.log_partition, first.log_offset) == (row.log_partition, row.log_offset):
                new.append(candidate)
            elif first.payload_hash == row.payload_hash:
                self._duplicate(row)
            else:
                self._conflict(row, first)
        return new

    def _charge(self, rows: list[PlainRow], reads: StandingReads) -> None:
        """Add up what was charged, and close the letters that it was released from."""
        add_up(rows, self.view, self.changes, reads.spent)
        self.changes.charges = rows
        if self._released:
            for row in map(ChargeRow._make, rows):
                if row.released_offset is not None:
                    self._close_usage(row, "charged")

    def _duplicate(self, row: ChargeRow) -> None:
        self._ignore(self.view.organizations[row.organization], row.hold_id)
        if row.released_offset is not None:
            self._close_usage(row, "duplicate")

    def _conflict(self, row: ChargeRow, first: ChargedBefore) -> None:
        detail = (
            f"{row.event_id} was charged with other content, see the record at "
            f"{first.log_partition}-{first.log_offset}; a new usage event needs a new id"
        )
        if not self._by_place:
            self._by_place = {(one.partition, one.offset): one for one in self._records}
        record = self._by_place[row.log_partition, row.log_offset]
        self._quarantine(letter_of_conflict(record, row, detail))

    def _quarantine(self, letter: Letter) -> None:
        is_known = letter.place in self.view.letters  # released, and still not to be folded
        self._put(letter)
        if is_known:
            return
        organization = self.view.organizations.get(letter.organization or "")
        if organization is not None and organization.log_partition == letter.log_partition:
            term = fact_term(letter.cause, letter.raw, letter.log_partition, letter.log_offset)
            organization.fingerprint = (organization.fingerprint + term) & MODULUS_MASK
            organization.last_offset = max(organization.last_offset, letter.log_offset)
            self.changes.organizations.add(organization.organization)
            self._settle_hold(organization, letter.hold_id)

    def _settle_hold(self, organization: OrganizationTotals, hold_id: str | None) -> None:
        if hold_id is not None:
            self.changes.settled.append((organization.organization, hold_id))

    def _put(self, letter: Letter) -> None:
        self.view.letters[letter.place] = letter
        self.changes.letters[letter.place] = letter

    def _close(self, released: Released, status: str) -> None:
        self._put(
            closed(released.letter, status, offset=released.released_offset, actor=released.actor)
        )

    def _close_usage(self, row: ChargeRow, status: str) -> None:
        """Only here does a release move the organization: one in vain did nothing."""
        released = self._released[row.log_partition, row.log_offset]
        organization = self.view.organizations[row.organization]
        organization.last_offset = max(organization.last_offset, released.released_offset)
        self._close(released, status)

    def _drop_repeated_letters(
        self, open_letters: Callable[[Collection[LetterKey]], Mapping[LetterKey, Place]]
    ) -> None:
        """A quarantined usage event that arrives again is a duplicate, not a second letter."""
        keys = {
            place: letter.key
            for place, letter in self.changes.letters.items()
            if letter.status == "open" and letter.payload_hash is not None
        }
        if not keys:
            return
        seen = dict(open_letters(set(keys.values())))
        for place, key in keys.items():
            first = seen.setdefault(key, place)
            if first == place:
                continue
            if self._is_open(first):
                del self.changes.letters[place]
                self.changes.duplicates += 1
            else:
                seen[key] = place

    def _is_open(self, place: Place) -> bool:
        changed = self.changes.letters.get(place)
        return changed is None or changed.status == "open"
