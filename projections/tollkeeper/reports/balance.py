"""The credit balance: what was bought, less what was used (RULES R21)."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from tollkeeper.log.port import Log
from tollkeeper.reports.documents import money
from tollkeeper.reports.freshness import Freshness, freshness
from tollkeeper.reports.organizations import find_organization


class Balance(msgspec.Struct, frozen=True):
    """Nano-USD. Sales-assisted organizations have no credits: usage is billed in arrears (R22)."""

    organization: str
    channel: str
    purchased_nanos: int
    used_nanos: int
    freshness: Freshness

    @property
    def balance_nanos(self) -> int:
        """May be negative: usage is charged whatever the balance says (R18)."""
        return self.purchased_nanos - self.used_nanos

    def as_document(self) -> dict[str, object]:
        """The keys that the command line promises."""
        return {
            "organization": self.organization,
            "channel": self.channel,
            **money("purchased", self.purchased_nanos),
            **money("used", self.used_nanos),
            **money("balance", self.balance_nanos),
            "freshness": self.freshness.as_document(),
        }


def balance(connection: Connection, log: Log, name: str, *, now: int) -> Balance:
    """The organization's balance in the live ledger."""
    found = find_organization(connection, name)
    return Balance(
        found.organization,
        found.channel,
        found.purchased_nanos,
        found.used_nanos,
        freshness(connection, log, now=now, partitions=[found.log_partition]),
    )
