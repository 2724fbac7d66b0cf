"""What enforcement tells about itself; who listens is the caller's choice.

Called by the threads that fold, warm and keep: it must not wait. Must not know metrics.
"""

from __future__ import annotations

from typing import Literal, Protocol

EpochState = Literal["raised", "recovering", "open", "superseded", "elsewhere", "unknown"]
"""raised: old leases are waited for; superseded: another version of the functions decides; elsewhere:
another server has the epoch; unknown: it wasn't looked at yet, or can't be."""
Outcome = Literal[
    "warmed", "known", "nobody", "below_floor", "not_open", "unexamined", "elsewhere", "refused"
]
"""What became of an organization that was asked for; all but the first three are tried again."""


class Observer(Protocol):
    """Told a few times a round or tick."""

    def applied(self, *, applied: int, ignored: int, unknown: int) -> None:
        """So many organizations moved on with a fold, had already, or are unknown now."""
        ...

    def made_unknown(self, organizations: int, cause: Literal["retired", "behind"]) -> None:
        """So many are unknown now: an emitter's holds are to go, or Redis may have missed something."""
        ...

    def behind(self, partitions: int) -> None:
        """Of so many owned partitions Redis lacks something that was folded."""
        ...

    def not_applied(self, cause: str) -> None:
        """A call to Redis didn't do what it was for; it is tried again."""
        ...

    def warmed(self, outcome: Outcome, organizations: int) -> None:
        """What became of so many organizations that were asked for."""
        ...

    def epoch(self, tag: str, epoch: int, state: EpochState) -> None:
        """Where a primary is."""
        ...

    def raised(self, tag: str, epoch: int, cause: str) -> None:
        """A primary's epoch was raised in SQL."""
        ...

    def leased(self, tag: str, lease_until: int) -> None:
        """A primary may grant until then, by its own clock in microseconds."""
        ...

    def retired(self, emitter: str, reason: Literal["recovery", "unseen"]) -> None:
        """An emitter's retirement was logged."""
        ...

    def emitters(self, tag: str, listed: int) -> None:
        """So many may hold at a primary."""
        ...

    def published(self, tag: str, kind: str, version: int) -> None:
        """Product services are told another version."""
        ...


class Unobserved:
    """Nobody listens."""

    def applied(self, *, applied: int, ignored: int, unknown: int) -> None:
        """See Observer."""

    def made_unknown(self, organizations: int, cause: Literal["retired", "behind"]) -> None:
        """See Observer."""

    def behind(self, partitions: int) -> None:
        """See Observer."""

    def not_applied(self, cause: str) -> None:
        """See Observer."""

    def warmed(self, outcome: Outcome, organizations: int) -> None:
        """See Observer."""

    def epoch(self, tag: str, epoch: int, state: EpochState) -> None:
        """See Observer."""

    def raised(self, tag: str, epoch: int, cause: str) -> None:
        """See Observer."""

    def leased(self, tag: str, lease_until: int) -> None:
        """See Observer."""

    def retired(self, emitter: str, reason: Literal["recovery", "unseen"]) -> None:
        """See Observer."""

    def emitters(self, tag: str, listed: int) -> None:
        """See Observer."""

    def published(self, tag: str, kind: str, version: int) -> None:
        """See Observer."""
