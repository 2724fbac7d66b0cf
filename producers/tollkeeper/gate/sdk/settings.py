"""The gate's bounds in a product service, each with its unit. Knows nothing of what keeps them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from tollkeeper.errors import Misuse

Unanswered = Literal["input", "worst_case", "release"]


class GateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound that the gate keeps, and what becomes of a call of which nobody knows the usage."""

    tick_s: float = 0.5
    """How often the session asks Redis about epoch and lease: a quarter of the default lease."""
    lease_s: float = 2.0
    """Not heard from Redis for so long, the gate answers `unavailable` without asking."""
    warm_wait_s: float = 1.0
    """How long a hold waits for what passes by itself, most of all an organization being warmed."""
    start_wait_s: float = 10.0
    """The same while the process has not been listed yet: its start has to be logged and folded."""
    first_pause_s: float = 0.002
    max_pause_s: float = 0.05
    """While it waits it asks again, after a pause that doubles from first to max."""
    attempts: int = 2
    """How often a call is made whose answer got lost, each bounded by the client's timeout."""
    unanswered: Unanswered = "input"
    """What is charged, as estimated, where the provider may have begun and nothing was seen.

    That is: a timeout while waiting for the answer, a cancelled call, a block that reported nothing.
    `input`: the input tokens that were given, no output. `worst_case`: these and all the output that
    was held for. `release`: nothing; whoever chooses it pays the provider for such calls himself.
    """
    begins_not: Callable[[BaseException], bool] | None = None
    """Says of a further error, of a client of your own, that the provider did not begin to answer."""
    bytes_per_token: int = 3
    """Output of a cut stream is estimated from its text in UTF-8: rather too many tokens than too few."""
    max_open_holds: int = 100_000
    """Open holds of this process, those included whose usage or release is still to be delivered."""
    max_reports: int = 10_000
    """Reports of refusals and admitted calls that wait for the spool; what is beyond is counted only."""
    settle_timeout_s: float = 65.0
    """How long `settle` waits for the disk: longer than the emitter itself waits."""
    close_timeout_s: float = 10.0
    """How long `close` waits for releases, the spool and the log."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int | float) and value <= 0:
                raise Misuse(f"{name} must be greater than zero")
        if self.first_pause_s > self.max_pause_s:
            raise Misuse("first_pause_s must be at most max_pause_s")
