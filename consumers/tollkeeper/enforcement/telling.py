"""Telling Redis what one round did, right after its commit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from tollkeeper.enforcement.asking import run_all
from tollkeeper.enforcement.bounded import Deadline
from tollkeeper.enforcement.freeing import free_retired
from tollkeeper.enforcement.listing import list_emitters
from tollkeeper.enforcement.means import Means
from tollkeeper.errors import GateUnavailable, TollkeeperError
from tollkeeper.failpoints import failpoint
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.encoding import Call
from tollkeeper.ledger.effects import Effects, OrganizationEffect
from tollkeeper.logline import LogLine, failure

logger = logging.getLogger(__name__)


class Teller:
    """Tells effects to every primary; knows nothing of what was told before."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._functions = means.functions
        self._observer = means.observer

    def tell(self, effects: Effects, partitions: Collection[int], deadline: Deadline) -> set[int]:
        """Those of these partitions of which Redis has everything now. Raises GateUnavailable."""
        retired = sorted({one for emitters in effects.retired.values() for one in emitters})
        epochs = {tag: row.epoch for tag, row in effects.epochs.items()}
        if not self._list(epochs, effects.started, retired):
            return set()
        failpoint("enforcement.after_listing")
        told = {*partitions} - self._apply(effects, partitions, epochs, deadline)
        failpoint("enforcement.after_apply")
        for partition, emitters in effects.retired.items():
            if partition in told and not self.free(
                partition, emitters, epochs, effects.positions[partition], deadline
            ):
                told.discard(partition)
        return told

    def free(
        self,
        partition: int,
        emitters: Collection[str],
        epochs: Mapping[str, int],
        position: int,
        deadline: Deadline,
    ) -> bool:
        """See `freeing.free_retired`; whether it was done to the end."""
        freed = free_retired(
            self._functions,
            emitters,
            epochs,
            position=position,
            is_in=lambda name: self._means.partition_of(name) == partition,
            deadline=deadline,
            at_once=self._means.settings.at_once,
        )
        self._observer.made_unknown(freed.organizations, "retired")
        return freed.is_all

    def _list(
        self, epochs: Mapping[str, int], started: Sequence[str], retired: Sequence[str]
    ) -> bool:
        """Before anything else: from here on a retired emitter gets no hold and no note any more."""
        if not epochs:
            return False
        tell_one = partial(list_emitters, self._functions, started=started, retired=retired)
        if all(tell_one(epoch, tag=tag) for tag, epoch in epochs.items()):
            return True
        self._observer.not_applied("list")
        return False

    def _apply(
        self,
        effects: Effects,
        partitions: Collection[int],
        epochs: Mapping[str, int],
        deadline: Deadline,
    ) -> set[int]:
        """Apply to each organization; answers the partitions in which that failed for any."""
        pending = [one for one in effects.organizations if one.partition in partitions]
        outcomes: Counter[type] = Counter()
        failed: set[int] = set()
        for at in range(0, len(pending), self._means.settings.at_once):
            if deadline.is_over():
                failed.update(one.partition for one in pending[at:])
                self._observer.not_applied("late")
                break
            part = pending[at : at + self._means.settings.at_once]
            answers = run_all(self._functions, [self._call(one, epochs) for one in part])
            outcomes.update(map(type, answers))
            failed |= self._failed(part, answers)
        self._observer.applied(
            applied=outcomes[a.Applied], ignored=outcomes[a.Ignored], unknown=outcomes[a.Unknown]
        )
        return failed

    def _call(self, effect: OrganizationEffect, epochs: Mapping[str, int]) -> Call[a.ApplyAnswer]:
        tag = self._functions.tag_of(effect.organization)
        if tag not in epochs:
            raise GateUnavailable(f"primary {tag} has no epoch yet")
        return encoding.apply(effect.organization, effect.fold, epoch=epochs[tag], tag=tag)

    def _failed(
        self,
        effects: Sequence[OrganizationEffect],
        answers: Sequence[a.ApplyAnswer | TollkeeperError],
    ) -> set[int]:
        """The partitions of those that were not taken."""
        failed = set()
        for effect, answer in zip(effects, answers, strict=True):
            if isinstance(answer, a.Applied | a.Ignored | a.Unknown):
                continue
            # Stale, too: the epoch was raised while this was folded, and whether the snapshots of the new
            # one show it nobody can say.
            failed.add(effect.partition)
            self._observer.not_applied(type(answer).__name__)
            if isinstance(answer, TollkeeperError):
                # A bug of ours, and charging goes on (R18): its organization will be warmed instead.
                name = effect.organization
                logger.error(LogLine("not_applied", organization=name, **failure(answer)))
        return failed
