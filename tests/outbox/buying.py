"""One organization and its purchases: what the tests of commands and of lost databases share."""

from __future__ import annotations

from support import homes

from tollkeeper.app.wiring import App
from tollkeeper.events.codec import decode
from tollkeeper.events.organization import OrganizationFact
from tollkeeper.organizations.commands import BuyCredits, CommandContext, OpenOrganization
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Outcome
from tollkeeper.reports.balance import balance

FAILPOINTS = (
    "command.before_commit",
    "command.after_commit",
    "relay.before_append",
    "log.before_append",
    "log.after_append",
    "relay.after_append",
    "relay.after_mark",
)
"""Every place between a decision, the log and the answer, in the order of their effects."""
OPEN = OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="pia")


def buy(app: App, key: str, nanos: int = 5, actor: str = "pia") -> Outcome:
    """Buy credits for acme under this idempotency key."""
    command = BuyCredits(organization="acme", credit_nanos=nanos)
    return app.organizations.handle(command, CommandContext(actor=actor, command_id=key))


def on_log(app: App) -> list[OrganizationFact]:
    """acme's events as they stand on the log, repeats included."""
    return [
        event
        for partition in range(app.log.partition_count)
        for record in app.log.read(partition, 0, max_records=10_000)
        if record.key == b"acme" and isinstance(event := decode(record.value), OrganizationFact)
    ]


def bought(app: App) -> int:
    """What the ledger says acme has bought, once everything is folded."""
    homes.fold(app)
    with reading(app.engine) as connection:
        return balance(connection, app.log, "acme", now=app.clock()).purchased_nanos
