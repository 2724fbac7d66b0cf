"""How long no hold is granted after a failover, with all emitters alive: services, consumer and two servers.

The primary is killed and its replica, promoted before, takes its address; each service goes on asking. What
passes is the old lease, its margin, the re-assertion of all open holds and the fold of what is on the log.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from at_the_cap.installation import Installation, Service, installation
from at_the_cap.servers import Address, follow, new_server, promote, started
from services.redis_local import LocalRedis

CALLERS = 30
SERVICES = 3
CAP_MICROS = 1_000_000_000
ON_ITS_WAY_NS = 500_000_000
"""An answer of the old primary may still be written down; the new one can't grant before the old lease
is over, 2 s later."""


def run(failovers: int) -> dict[str, float]:
    """Seconds until the first hold of any service, and until the first one of the last service."""
    with ExitStack() as stack:
        servers = [new_server("redis"), new_server("redis")]
        stack.enter_context(started(*servers))
        primary, replica = servers
        follow(replica, primary)
        address = Address(primary)
        stack.callback(address.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = stack.enter_context(installation(folder, address.url, "acme"))
        serve(made)
        first, last = [], []
        for _ in range(failovers):
            took_s = fail_over(made, address, primary, replica)
            first.append(min(took_s))
            last.append(max(took_s))
            primary, replica = replica, primary
            replica.start()
            follow(replica, primary)
        emitters = len(made.services)
        for service in made.services:
            service.stop()
    return {
        "failovers": failovers,
        "emitters": emitters,
        "callers": SERVICES * CALLERS,
        "first_hold_again_median_s": round(median(first), 2),
        "every_service_again_median_s": round(median(last), 2),
        "every_service_again_max_s": round(max(last), 2),
    }


def serve(made: Installation) -> None:
    """Everybody is at work."""
    made.consume()
    for number in range(SERVICES):
        made.serve(CALLERS, "threads" if number == 0 else "asyncio")
    for service in made.services:
        service.wait_until_ready()
    made.raise_caps("acme", CAP_MICROS)
    made.wait_for_grants(SERVICES * CALLERS, what="holds")


def fail_over(
    made: Installation, address: Address, primary: LocalRedis, replica: LocalRedis
) -> list[float]:
    """How long each service waited for its next hold."""
    promote(replica)
    address.lead_to(replica)
    at_ns = time.monotonic_ns()
    primary.kill()
    for service in made.services:
        made.wait_for_grants(1, what="a hold again", by=[service], from_s=ON_ITS_WAY_NS / 1e9)
    return [
        (_first_grant_ns(service, at_ns + ON_ITS_WAY_NS) - at_ns) / 1e9 for service in made.services
    ]


def _first_grant_ns(service: Service, since_ns: int) -> int:
    return min(
        entry.at_ns
        for entry in service.journal.refresh()
        if entry.kind == "granted" and entry.at_ns >= since_ns
    )
