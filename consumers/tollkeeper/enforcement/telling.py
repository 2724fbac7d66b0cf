"""Telling Redis what one round did, right after its commit."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

import msgspec

from tollkeeper.enforcement.asking import run_all
from tollkeeper.enforcement.bounded import Deadline
from tollkeeper.enforcement.freeing import free_retired
from tollkeeper.enforcement.listing import list_emitters
from tollkeeper.enforcement.means import Means
from tollkeeper.enforcement.patience import Patience
from tollkeeper.errors import TollkeeperError, Unavailable
from tollkeeper.failpoints import failpoint
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.encoding import Call
from tollkeeper.ledger.effects import Effects, OrganizationEffect
from tollkeeper.logline import LogLine, failure

logger = logging.getLogger(__name__)


class _Share(msgspec.Struct, frozen=True):
    """What one primary is told: its organizations, and what is said to all of them."""

    tag: str
    organizations: Sequence[OrganizationEffect]
    effects: Effects

    @property
    def is_empty(self) -> bool:
        return not (self.organizations or self.effects.started or self.effects.retired)

    @property
    def partitions(self) -> set[int]:
        """Those of which it would lack something."""
        if self.effects.started or self.effects.retired:
            return {*self.effects.positions}
        return {one.partition for one in self.organizations}


class Teller:
    """Tells effects to every primary; knows nothing of what was told before.

    One that is away keeps nothing from the others.
    """

    def __init__(self, means: Means, patience: Patience) -> None:
        self._means = means
        self._patience = patience
        self._functions = means.functions
        self._observer = means.observer

    def tell(
        self,
        effects: Effects,
        partitions: Collection[int],
        tags: Collection[str],
        deadline: Deadline,
    ) -> set[int]:
        """Those of these partitions of which Redis has everything now.

        `tags` are the primaries of now. Others that have an epoch row are told as well: the cluster may
        have them no more, or its table of slots may be wrong for a moment. Raises GateUnavailable when
        nobody knows whose an organization is.
        """
        if not effects.epochs:
            return set()
        told = {*partitions}
        for share in self._shares(effects, partitions):
            missed = set() if share.is_empty else self._missed(share, deadline)
            if share.organizations or share.tag in tags:
                told -= missed
        return told

    def free(
        self,
        partition: int,
        emitters: Collection[str],
        epochs: Mapping[str, int],
        position: int,
        deadline: Deadline,
        *,
        tags: Collection[str],
    ) -> bool:
        """See `freeing.free_retired`; whether it was done to the end."""
        freed = free_retired(
            self._functions,
            emitters,
            epochs,
            tags=tags,
            position=position,
            is_in=lambda name: self._means.partition_of(name) == partition,
            deadline=deadline,
            at_once=self._means.settings.at_once,
        )
        self._observer.made_unknown(freed.organizations, "retired")
        return freed.is_all

    def not_told(self, tag: str, away: Unavailable) -> None:
        """This primary is left alone for a while."""
        self._patience.failed(tag)
        self._observer.not_applied(type(away).__name__)
        logger.warning(LogLine("gate_not_told", primary=tag, **failure(away)))

    def _shares(self, effects: Effects, partitions: Collection[int]) -> list[_Share]:
        organizations: dict[str, list[OrganizationEffect]] = defaultdict(list)
        for one in effects.organizations:
            if one.partition in partitions:
                organizations[self._functions.tag_of(one.organization)].append(one)
        tags = sorted({*organizations, *effects.epochs})
        return [_Share(tag, organizations[tag], effects) for tag in tags]

    def _missed(self, share: _Share, deadline: Deadline) -> set[int]:
        """The partitions of which this primary still lacks something."""
        tag, row = share.tag, share.effects.epochs.get(share.tag)
        if row is None or not self._patience.may_hold_up_the_fold(tag):
            return share.partitions
        try:
            missed = self._tell_primary(share, deadline)
        except Unavailable as away:
            self.not_told(tag, away)
            return share.partitions
        self._patience.answered(tag)
        return missed

    def _tell_primary(self, share: _Share, deadline: Deadline) -> set[int]:
        effects, tag = share.effects, share.tag
        epochs = {one: row.epoch for one, row in effects.epochs.items()}
        epoch = epochs[tag]
        retired = sorted({one for emitters in effects.retired.values() for one in emitters})
        # Before anything else: from here on a retired emitter gets no hold and no note any more.
        if not list_emitters(
            self._functions, epoch, started=effects.started, retired=retired, tag=tag
        ):
            self._observer.not_applied("list")
            return share.partitions
        failpoint("enforcement.after_listing")
        missed = self._apply(share, epoch, deadline)
        failpoint("enforcement.after_apply")
        for partition, emitters in effects.retired.items():
            position = effects.positions[partition]
            if partition not in missed and not self.free(
                partition, emitters, epochs, position, deadline, tags=[tag]
            ):
                missed.add(partition)
        return missed

    def _apply(self, share: _Share, epoch: int, deadline: Deadline) -> set[int]:
        """Apply to each organization; answers the partitions in which that failed for any."""
        pending = share.organizations
        outcomes: Counter[type] = Counter()
        failed: set[int] = set()
        for at in range(0, len(pending), self._means.settings.at_once):
            if deadline.is_over():
                failed.update(one.partition for one in pending[at:])
                self._observer.not_applied("late")
                break
            part = pending[at : at + self._means.settings.at_once]
            calls: list[Call[a.ApplyAnswer]] = [
                encoding.apply(one.organization, one.fold, epoch=epoch, tag=share.tag)
                for one in part
            ]
            answers = run_all(self._functions, calls)
            outcomes.update(map(type, answers))
            failed |= self._failed(part, answers)
        self._observer.applied(
            applied=outcomes[a.Applied], ignored=outcomes[a.Ignored], unknown=outcomes[a.Unknown]
        )
        return failed

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
