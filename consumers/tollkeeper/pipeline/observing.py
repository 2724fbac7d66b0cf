"""What the pipeline tells about itself, once a batch; who listens is the caller's choice.

Must not know metrics or health: the loop can be run, and timed, with nobody listening.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, Protocol

from tollkeeper.errors import Halted
from tollkeeper.ledger.apply import FoldCounts

Stage = Literal["poll", "decode", "fold", "commit", "publish"]
"""`poll` collects a batch and `decode` makes events of it; `fold` is all of its transaction but the
`commit`; `publish` tells the log's group how far it went."""


class Observer(Protocol):
    """Called a few times a batch, by the thread that reads or the one that folds: it must not wait."""

    def took(self, stage: Stage, duration_s: float) -> None:
        """A stage of a batch is done."""
        ...

    def folded(self, counts: FoldCounts) -> None:
        """A round was committed."""
        ...

    def adopted(self, owned: Collection[int]) -> None:
        """These partitions, and no others, are this member's now."""
        ...

    def overtaken(self) -> None:
        """Another member had folded these records first: nothing was written."""
        ...

    def halted(self, halted: Mapping[int, Halted]) -> None:
        """The owned partitions that this member has stopped, each with its cause."""
        ...

    def turned(self) -> None:
        """A step ended without an error, idle ones included."""
        ...


class Unobserved:
    """Nobody listens."""

    def took(self, stage: Stage, duration_s: float) -> None:
        """See Observer."""

    def folded(self, counts: FoldCounts) -> None:
        """See Observer."""

    def adopted(self, owned: Collection[int]) -> None:
        """See Observer."""

    def overtaken(self) -> None:
        """See Observer."""

    def halted(self, halted: Mapping[int, Halted]) -> None:
        """See Observer."""

    def turned(self) -> None:
        """See Observer."""
