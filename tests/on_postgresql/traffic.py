"""Everything that writes to PostgreSQL, behind a proxy, while faults strike: services, folds, an owner."""

from __future__ import annotations

from time import monotonic

from on_kafka.installation import Installation, organization_of
from on_postgresql.buying import Buyer
from on_postgresql.conftest import Install, behind
from services.postgresql_proxy import STARTUP, Fault, PostgresProxy
from support.waiting import eventually

SEED = 52
STRUCK_S = 20.0
WHEN_CONNECTING = (STARTUP, "SELECT set_config")
"""What happens at the beginning of a session alone."""


class Traffic:
    """Two consumers and an owner who buys all the time, behind the proxy; a service and the relay."""

    def __init__(self, install: Install, proxy: PostgresProxy, sql_url: str) -> None:
        self.proxy = proxy
        self.installation: Installation = install()
        self.installation.set_up()
        there = behind(proxy, sql_url)
        self.consumers = [self.installation.consumer(TOLLKEEPER_SQL=there) for _ in range(2)]
        self.service = self.installation.service(SEED, 200)
        self.buyer = Buyer(
            self.installation.opened(TOLLKEEPER_SQL=there), organization_of(0), pause_s=0.05
        )
        self.recoveries: dict[str, float] = {}
        self.wait_for_more("the first", 60.0)

    def strike(self, fault: Fault, recovered_s: float) -> None:
        """Let the fault strike and see that everything goes on within `recovered_s`."""
        self.proxy.arm(fault)
        if fault.statement in WHEN_CONNECTING:
            self.proxy.cut()
        eventually(fault.struck.is_set, STRUCK_S, what=str(fault))
        began = monotonic()
        self.wait_for_more(str(fault), recovered_s)
        self.recoveries[str(fault)] = monotonic() - began

    def wait_for_more(self, what: str, timeout_s: float) -> None:
        """Every partition gets on: what is emitted goes to all of them in turn."""
        before = self.installation.next_offsets()
        eventually(
            lambda: all(
                now > before[partition]
                for partition, now in self.installation.next_offsets().items()
            ),
            timeout_s,
            what=f"folding goes on on every partition after {what}",
        )

    def finish(self) -> None:
        """All that was accepted is charged once, all that was bought is there once."""
        accepted = self.service.stop()
        self.installation.wait_until_folded()
        self.installation.assert_charged(accepted)
        self.buyer.assert_bought(self.installation)
        slowest = max(self.recoveries, key=lambda name: self.recoveries[name])
        print(  # noqa: T201 - shown by `pytest -s`
            f"{len(self.recoveries)} faults, {self.buyer.interrupted} purchases interrupted; "
            f"slowest {slowest}: {self.recoveries[slowest]:.1f} s"
        )
