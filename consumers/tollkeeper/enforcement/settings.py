"""How the gate is kept: leases, patience with emitters, and how much is done at once."""

from __future__ import annotations

import msgspec

LEASE_S = 2.0
RECOVERY_S = 30.0
RETIRE_AFTER_S = 900.0


class EnforcementSettings(msgspec.Struct, frozen=True):
    """All that an operator or a test may want otherwise.

    `lease_s` is how long a primary may grant after it was last confirmed; every consumer of an
    installation has the same. `clock_margin` is by how much a lease is taken to be longer, since clocks
    differ in their speed. `recovery_s`: an emitter that hasn't re-asserted its holds by then is retired.
    `retire_after_s`: so is one that wasn't seen for so long, of which `watched_s` under this process's
    eyes, or all of it where that is less: Redis' clock may have jumped.
    `elsewhere_s`: how long another server's epoch is respected by who sees this server alone.

    `apply_within_s` bounds how long the fold is kept waiting after a round; what isn't told by then is caught
    up with by `tick`, as is what couldn't be told while Redis was away, tried again every `retry_s`.
    `at_once` bounds the calls of one pipeline, `warm_at_once` the organizations of one SQL snapshot.
    `nobody_s`: how long Redis remembers that there is no organization of a name.
    """

    lease_s: float = LEASE_S
    clock_margin: float = 1.1
    recovery_s: float = RECOVERY_S
    retire_after_s: float = RETIRE_AFTER_S
    watched_s: float = 10.0
    elsewhere_s: float = 30.0
    append_timeout_s: float = 5.0
    apply_within_s: float = 0.5
    retry_s: float = 1.0
    at_once: int = 500
    warm_at_once: int = 1_000
    nobody_s: float = 10.0

    @property
    def lease_micros(self) -> int:
        """The lease as the functions take it."""
        return round(self.lease_s * 1_000_000)

    @property
    def leases_over_after_s(self) -> float:
        """By when every lease has ended that counts from before now."""
        return self.lease_s * self.clock_margin
