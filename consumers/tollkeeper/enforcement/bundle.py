"""All of enforcement for one consumer, to be called by `app`'s threads or by a simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tollkeeper.enforcement.applying import Applier
from tollkeeper.enforcement.epochs import EpochKeeper, PrimaryState
from tollkeeper.enforcement.means import Means
from tollkeeper.enforcement.publishing import Publisher, Source
from tollkeeper.enforcement.reconciling import Finding, Reconciler
from tollkeeper.enforcement.retirement import Retirement
from tollkeeper.enforcement.warming import Warmer
from tollkeeper.errors import Unavailable

A = TypeVar("A")


class Enforcement:
    """Its parts, and what to call in turn. Nothing here waits; all but `applier` raise Unavailable.

    `keep` is due a few times within a lease; `warm` whenever the bell rings, and now and then;
    `applier.tick` as often; `publish` and `retire` every second. Each may be a thread of its own, and no
    two threads may call the same one.
    """

    def __init__(self, means: Means, sources: Sequence[Source] | None = None) -> None:
        self.means = means
        self._library = means.functions.library
        self._keepers: dict[str, EpochKeeper] = {}
        self._warmers: dict[str, Warmer] = {}
        self.applier = Applier(means)
        self.retirement = Retirement(means)
        self.publisher = Publisher(means, sources)
        self.reconciler = Reconciler(means, self.warmer)

    def keeper(self, tag: str) -> EpochKeeper:
        """The one of this primary."""
        if tag not in self._keepers:
            self._keepers[tag] = EpochKeeper(self.means, tag, library=self._library)
        return self._keepers[tag]

    def warmer(self, tag: str) -> Warmer:
        """The one of this primary."""
        if tag not in self._warmers:
            self._warmers[tag] = Warmer(self.means, tag)
        return self._warmers[tag]

    def keep(self) -> list[PrimaryState]:
        """Take the steps that are due at every primary, and renew its lease."""
        return _each(lambda tag: self.keeper(tag).tick(), self.means.functions.tags())

    def warm(self) -> int:
        """Warm what is asked for at every primary; how many needed it. Not 0: there may be more."""
        return sum(_each(lambda tag: self.warmer(tag).tick(), self.means.functions.tags()))

    def publish(self) -> bool:
        """See Publisher."""
        return self.publisher.tick()

    def retire(self) -> tuple[str, ...]:
        """See Retirement."""
        return self.retirement.tick()

    def reconcile(self, organizations: Sequence[str], *, repair: bool = False) -> list[Finding]:
        """See Reconciler."""
        return self.reconciler.reconcile(organizations, repair=repair)


def _each(work: Callable[[str], A], tags: Iterable[str]) -> list[A]:
    """For all primaries, whichever is away; then raises the first Unavailable."""
    done: list[A] = []
    away: Unavailable | None = None
    for tag in tags:
        try:
            done.append(work(tag))
        except Unavailable as one:
            away = away or one
    if away is not None:
        raise away
    return done
