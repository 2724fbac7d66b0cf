"""Folding an organization's own events: taken once by (organization, version), in order. Pure."""

from __future__ import annotations

from typing import assert_never

import msgspec

from tollkeeper.events.organization import (
    CreditsPurchased,
    CreditsVoided,
    GatePolicySet,
    MemberAdded,
    MemberRemoved,
    OrganizationEvent,
    OrganizationOpened,
    OwnershipTransferred,
    RoleChanged,
    SpendCapSet,
    ThresholdsSet,
)
from tollkeeper.events.quarantined import Cause
from tollkeeper.ledger.fingerprint import MODULUS_MASK, fact_term
from tollkeeper.ledger.letters import Problem
from tollkeeper.ledger.rows import CapRow, CreditRow, DecidedRow, MemberRow, PolicyRow
from tollkeeper.ledger.view import Changes, Fact, OrganizationTotals, View
from tollkeeper.log.port import LogRecord
from tollkeeper.money.amounts import MAX_NANOS
from tollkeeper.outbox.streams import organization_stream


class OrganizationFold:
    """The part of a batch's fold that takes organization events."""

    def __init__(self, view: View, changes: Changes) -> None:
        self._view = view
        self._changes = changes

    def fold(self, record: LogRecord, event: OrganizationEvent, offset: int) -> Problem | None:
        """Take one event; `offset` is the record that caused it to be folded (its own or a release).

        An event whose effect contradicts the organization's history still uses up its version, so that
        the ones after it aren't held up by it.
        """
        totals = self._view.organizations.get(event.organization)
        version = 0 if totals is None else totals.version
        if event.version <= version:
            return self._repeated(record, event)
        if event.version > version + 1:
            return Problem(
                Cause.VERSION_GAP,
                "version",
                f"is {event.version}, but {event.organization} was folded up to {version}",
            )
        if totals is None:
            if not isinstance(event, OrganizationOpened):
                return Problem(Cause.VERSION_GAP, "version", "1 must be OrganizationOpened")
            totals = self._open(record, event)
        problem = self._apply(totals, event, offset)
        totals.version = event.version
        totals.last_offset = offset
        term = fact_term(type(event).__name__, record.value, record.partition, record.offset)
        totals.fingerprint = (totals.fingerprint + term) & MODULUS_MASK
        self._changes.organizations.add(event.organization)
        self._note(record, event)
        if problem is None:
            released_at = self._changes.released_at.get((record.partition, offset))
            fact = Fact(offset, released_at or record.appended_at, event)
            self._changes.facts.setdefault(event.organization, []).append(fact)
        return problem

    def _repeated(self, record: LogRecord, event: OrganizationEvent) -> Problem | None:
        first = self._view.decided.get((organization_stream(event.organization), event.version))
        if first == record.value:
            self._changes.duplicates += 1
            return None
        return Problem(
            Cause.VERSION_CONFLICT,
            "version",
            f"{event.version} of {event.organization} was folded with other content",
        )

    def _open(self, record: LogRecord, event: OrganizationOpened) -> OrganizationTotals:
        totals = OrganizationTotals(
            organization=event.organization,
            plan=event.plan,
            channel=event.channel,
            primary_owner=event.primary_owner,
            opened_at=event.occurred_at,
            version=0,
            log_partition=record.partition,
            last_offset=record.offset,
        )
        self._view.organizations[event.organization] = totals
        return totals

    def _note(self, record: LogRecord, event: OrganizationEvent) -> None:
        stream = organization_stream(event.organization)
        self._view.decided[stream, event.version] = record.value
        self._changes.decided.append(
            DecidedRow(
                stream,
                event.version,
                record.partition,
                record.offset,
                record.key,
                record.value,
                event.command_id,
                event.occurred_at,
            )
        )

    def _apply(
        self, totals: OrganizationTotals, event: OrganizationEvent, offset: int
    ) -> Problem | None:
        match event:
            case OrganizationOpened():
                if event.version != 1:
                    return _impossible("version", "the organization is open already")
                return self._add(event, event.primary_owner, "primary_owner")
            case MemberAdded():
                return self._add(event, event.member, event.role)
            case MemberRemoved():
                return self._change(event, event.member, removed_at=event.occurred_at)
            case RoleChanged():
                return self._change(event, event.member, role=event.role)
            case OwnershipTransferred():
                return self._transfer(totals, event)
            case CreditsPurchased():
                return self._buy(totals, event, offset)
            case CreditsVoided():
                return self._void(totals, event)
            case SpendCapSet():
                return self._cap(event)
            case GatePolicySet():
                self._policy(totals, event)
                return None
            case ThresholdsSet():
                return None
            case _:
                assert_never(event)

    def _add(self, event: OrganizationEvent, member: str, role: str) -> Problem | None:
        known = self._view.members.get((event.organization, member))
        if known is not None and known.removed_at is None:
            return _impossible("member", f"{member} is a member already")
        self._put(MemberRow(event.organization, member, role, event.occurred_at, None))
        return None

    def _change(
        self,
        event: OrganizationEvent,
        member: str,
        *,
        role: str | None = None,
        removed_at: int | None = None,
    ) -> Problem | None:
        known = self._view.members.get((event.organization, member))
        if known is None or known.removed_at is not None:
            return _impossible("member", f"{member} isn't a member")
        self._put(msgspec.structs.replace(known, role=role or known.role, removed_at=removed_at))
        return None

    def _put(self, row: MemberRow) -> None:
        key = (row.organization, row.member)
        self._view.members[key] = self._changes.members[key] = row

    def _transfer(self, totals: OrganizationTotals, event: OwnershipTransferred) -> Problem | None:
        heir = self._view.members.get((event.organization, event.to_member))
        if event.from_member != totals.primary_owner or heir is None or heir.removed_at is not None:
            return _impossible("from_member", "only the primary owner hands over, to a member")
        self._change(event, event.from_member, role="owner")
        self._change(event, event.to_member, role="primary_owner")
        totals.primary_owner = event.to_member
        return None

    def _buy(
        self, totals: OrganizationTotals, event: CreditsPurchased, offset: int
    ) -> Problem | None:
        key = (event.organization, event.purchase_id)
        if key in self._view.credits:
            return _impossible("purchase_id", f"{event.purchase_id} was bought before")
        if totals.purchased_nanos + event.credit_nanos > MAX_NANOS:
            return _impossible("credit_nanos", "the credits' sum leaves the range of 64 bits")
        row = CreditRow(
            event.organization,
            event.purchase_id,
            event.credit_nanos,
            event.occurred_at,
            event.actor,
            event.reference,
            offset,
        )
        self._view.credits[key] = self._changes.credits[key] = row
        totals.purchased_nanos += event.credit_nanos
        return None

    def _void(self, totals: OrganizationTotals, event: CreditsVoided) -> Problem | None:
        key = (event.organization, event.purchase_id)
        known = self._view.credits.get(key)
        if known is None or known.voided_at is not None or known.credit_nanos != event.credit_nanos:
            return _impossible("purchase_id", f"{event.purchase_id} can't be voided (again)")
        row = msgspec.structs.replace(known, voided_at=event.occurred_at, void_reason=event.reason)
        self._view.credits[key] = self._changes.credits[key] = row
        totals.purchased_nanos -= event.credit_nanos
        return None

    def _cap(self, event: SpendCapSet) -> Problem | None:
        row = CapRow(
            event.organization,
            event.scope,
            event.member or "",
            event.setting,
            event.cap_nanos,
            event.version,
            event.occurred_at,
        )
        self._changes.caps[row.organization, row.scope, row.member] = row
        return None

    def _policy(self, totals: OrganizationTotals, event: GatePolicySet) -> None:
        row = PolicyRow(
            event.organization,
            totals.log_partition,
            event.policy,
            event.ceiling_nanos,
            event.until,
            event.version,
            event.actor,
            event.occurred_at,
        )
        self._changes.policies[row.organization, row.log_partition] = row


def _impossible(field: str, detail: str) -> Problem:
    return Problem(Cause.IMPOSSIBLE, field, detail)
