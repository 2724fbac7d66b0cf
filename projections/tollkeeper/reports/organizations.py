"""What an organization is: its plan, members, caps and credits, and its history of decisions."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from tollkeeper.errors import InvalidInput
from tollkeeper.events.codec import decode
from tollkeeper.events.display import as_document
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import cap, credit, member, organization
from tollkeeper.outbox.store import read_stream
from tollkeeper.outbox.streams import organization_stream
from tollkeeper.reports.documents import instant, money


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """One organization as the ledger knows it."""

    organization: str
    plan: str
    channel: str
    primary_owner: str
    opened_at: int
    version: int
    log_partition: int
    last_offset: int
    members: int
    charged_events: int
    charged_nanos: int
    duplicate_events: int
    purchased_nanos: int
    used_nanos: int

    def as_document(self) -> dict[str, object]:
        """For `org show`."""
        return {
            "organization": self.organization,
            "plan": self.plan,
            "channel": self.channel,
            "primary_owner": self.primary_owner,
            "opened_at": instant(self.opened_at),
            "version": self.version,
            "members": self.members,
            "charged_events": self.charged_events,
            "duplicate_events": self.duplicate_events,
            **money("charged", self.charged_nanos),
        }


def list_organizations(connection: Connection) -> list[dict[str, object]]:
    """Every organization of the live ledger by name, without its members."""
    rows = connection.execute(
        select(organization)
        .where(organization.c.generation == live_generation(connection))
        .order_by(organization.c.organization)
    )
    return [
        {
            "organization": row.organization,
            "plan": row.plan,
            "channel": row.channel,
            "primary_owner": row.primary_owner,
            "charged_events": row.charged_events,
            **money("charged", row.charged_nanos),
        }
        for row in rows
    ]


def find_organization(connection: Connection, name: str) -> Organization:
    """The organization; InvalidInput with the next step when the ledger doesn't know it."""
    number = live_generation(connection)
    row = connection.execute(
        select(organization).where(
            organization.c.generation == number, organization.c.organization == name
        )
    ).one_or_none()
    if row is None:
        raise InvalidInput(
            "organization",
            f"{name} isn't in the ledger: see `tollkeeper org list`, or run `tollkeeper consume "
            "--until-caught-up` if it was opened just now",
        )
    present = [one for one in members(connection, name) if one["removed_at"] is None]
    return Organization(
        organization=row.organization,
        plan=row.plan,
        channel=row.channel,
        primary_owner=row.primary_owner,
        opened_at=row.opened_at,
        version=row.version,
        log_partition=row.log_partition,
        last_offset=row.last_offset,
        members=len(present),
        charged_events=row.charged_events,
        charged_nanos=row.charged_nanos,
        duplicate_events=row.duplicate_events,
        purchased_nanos=row.purchased_nanos,
        used_nanos=row.used_nanos,
    )


def organizations(connection: Connection) -> list[str]:
    """The names of all organizations."""
    rows = connection.execute(
        select(organization.c.organization)
        .where(organization.c.generation == live_generation(connection))
        .order_by(organization.c.organization)
    )
    return [row.organization for row in rows]


def members(connection: Connection, name: str) -> list[dict[str, object]]:
    """Everyone who is or was a member, with role and times."""
    rows = connection.execute(
        select(member)
        .where(member.c.generation == live_generation(connection), member.c.organization == name)
        .order_by(member.c.member)
    )
    return [
        {
            "member": row.member,
            "role": row.role,
            "added_at": instant(row.added_at),
            "removed_at": instant(row.removed_at),
        }
        for row in rows
    ]


def credits(connection: Connection, name: str) -> list[dict[str, object]]:
    """Every purchase of prepaid credits, voided ones included, oldest first."""
    rows = connection.execute(
        select(credit)
        .where(credit.c.generation == live_generation(connection), credit.c.organization == name)
        .order_by(credit.c.log_offset)
    )
    return [
        {
            "purchase_id": row.purchase_id,
            **money("credit", row.credit_nanos),
            "purchased_at": instant(row.purchased_at),
            "actor": row.actor,
            "reference": row.reference,
            "voided_at": instant(row.voided_at),
            "void_reason": row.void_reason,
        }
        for row in rows
    ]


class CapSettings(msgspec.Struct, frozen=True):
    """The newest setting of each scope (R19): `scope`, `member` -> `setting`, `cap_nanos`."""

    by_scope: dict[tuple[str, str], tuple[str, int | None]]

    @property
    def own_nanos(self) -> int | None:
        """The organization's own cap; None is unlimited: never set, or set so."""
        return self._nanos("organization", "")

    @property
    def default_nanos(self) -> int | None:
        """The cap of members without one of their own."""
        return self._nanos("member_default", "")

    def of_member(self, member: str) -> tuple[int | None, str]:
        """A member's effective cap, and where it comes from: member, member_default or none."""
        for scope, name in (("member", member), ("member_default", "")):
            setting, _ = self.by_scope.get((scope, name), ("inherit", None))
            if setting != "inherit":
                return self._nanos(scope, name), scope
        return None, "none"

    def _nanos(self, scope: str, member: str) -> int | None:
        setting, cap_nanos = self.by_scope.get((scope, member), ("inherit", None))
        return cap_nanos if setting == "capped" else None


def cap_settings(connection: Connection, name: str) -> CapSettings:
    """Every cap that was set for the organization."""
    rows = connection.execute(
        select(cap).where(
            cap.c.generation == live_generation(connection), cap.c.organization == name
        )
    )
    return CapSettings({(row.scope, row.member): (row.setting, row.cap_nanos) for row in rows})


def caps(connection: Connection, name: str) -> dict[str, object]:
    """The organization's own cap, and each member's effective cap and where it comes from (R19)."""
    settings = cap_settings(connection, name)
    listed = []
    for one in members(connection, name):
        if one["removed_at"] is None:
            cap_nanos, source = settings.of_member(str(one["member"]))
            listed.append({"member": one["member"], **money("cap", cap_nanos), "source": source})
    return {
        "organization": name,
        **money("cap", settings.own_nanos),
        "member_default": money("cap", settings.default_nanos),
        "members": listed,
    }


def history(connection: Connection, name: str) -> list[dict[str, object]]:
    """Every decided event of the organization in order, with its place on the log (null: waits)."""
    return [
        {
            "version": row.version,
            "log_partition": row.log_partition,
            "log_offset": row.log_offset,
            "event": as_document(decode(row.value)),
        }
        for row in read_stream(connection, organization_stream(name))
    ]
