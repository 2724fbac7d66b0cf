"""The live fold: polls the log, folds each batch into the live generation, exactly once.

Group membership only spreads the work. What makes it exactly once is the position in SQL: it is moved
by compare and set in the transaction that writes the effects, and reading always starts from it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from tollkeeper.errors import Halted, LogUnavailable, StoreUnavailable
from tollkeeper.failpoints import failpoint
from tollkeeper.ledger.apply import FoldCounts, Folded, fold_round
from tollkeeper.ledger.batch import Prepared, Taken, rounds
from tollkeeper.ledger.collector import paused_collector
from tollkeeper.ledger.continuity import check_same_log
from tollkeeper.ledger.port import Ledger
from tollkeeper.log.port import Log
from tollkeeper.logline import LogLine, failure
from tollkeeper.pipeline.following import Follower, Unfollowed
from tollkeeper.pipeline.observing import Observer, Unobserved
from tollkeeper.pipeline.reading import BatchReader
from tollkeeper.pipeline.settings import PipelineSettings

logger = logging.getLogger(__name__)


class Pipeline:
    """One member of the consumer group; not for several threads."""

    def __init__(
        self,
        log: Log,
        ledger: Ledger,
        *,
        monotonic: Callable[[], float],
        settings: PipelineSettings | None = None,
        observer: Observer | None = None,
        follower: Follower | None = None,
    ) -> None:
        self._log = log
        self._ledger = ledger
        self._monotonic = monotonic
        self._settings = settings or PipelineSettings()
        self._observer = observer or Unobserved()
        self._follower = follower or Unfollowed()
        self._consumer = log.consumer(self._settings.group)
        self._reader = BatchReader(
            self._consumer, self._settings, monotonic=monotonic, observer=self._observer
        )
        self._epoch = -1
        self._generation = 0
        self._next: dict[int, int] = {}
        self._uncommitted: dict[int, int] = {}
        self._published_at = self._looked_at = monotonic()
        self._log_identity = ""
        self.halted: dict[int, Halted] = {}
        """Partitions that this member stopped by name; the others go on."""
        self.totals = FoldCounts()

    @property
    def owned(self) -> Mapping[int, int]:
        """The next offset of each partition that this member folds."""
        return self._next

    def run(self, stop: threading.Event) -> FoldCounts:
        """Fold until `stop` is set; what was begun is finished. Raises what a step raises."""
        while not stop.is_set():
            self.step()
        return self.totals

    def step(self) -> FoldCounts:
        """One batch: poll, fold, commit. Returns after at most one poll timeout when idle."""
        counts = self._step()
        self._observer.turned()
        return counts

    def _step(self) -> FoldCounts:
        batch = self._reader.ahead() or self._reader.read(self._next, self._due_to_publish())
        if batch.epoch != self._epoch:
            # A damaged partition costs the client, and with it the assignment.
            self._halt_all(batch.lost)
            self._adopt()
            return FoldCounts()
        counts = FoldCounts()
        if batch.records:
            if self._ledger.is_server:
                self._reader.begin(self._ends_of(batch.prepared), self._due_to_publish())
            with paused_collector():
                counts = self._fold(batch.prepared)
            self.totals += counts
        else:
            self._look_at_the_log()
        self._halt_all(batch.lost)  # what came before was folded first
        return counts

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        self._reader.close()
        with suppress(StoreUnavailable):  # the next owner tells the gate some of it again
            if applied := self._follower.applied():
                self._ledger.note_applied(self._generation, applied)
        with suppress(LogUnavailable):  # only lag tools would miss it
            if self._uncommitted:
                self._consumer.commit(self._uncommitted)
                failpoint("pipeline.after_log_commit")
        self.leave()

    def leave(self) -> None:
        """Leave the group with nothing else done, also from another thread when this one is stuck."""
        self._observer.adopted(())
        self._consumer.close()

    def _fold(self, prepared: Prepared) -> FoldCounts:
        # Asked after the records came, so they are of this log; and outside of the transaction, which
        # mustn't hold its locks while the log is waited for.
        identity = self._log.identity
        total = FoldCounts()
        for taken in rounds(prepared):
            failpoint("pipeline.before_begin")
            try:
                folded = self._fold_round(taken, identity)
            except _Overtaken:
                self._observer.overtaken()
                logger.info(LogLine("overtaken", partitions=sorted(taken)))
                self._adopt()
                return total
            except StoreUnavailable:
                # The commit may have happened: only the positions in SQL can tell.
                self._reader.abandon()
                self._epoch = -1
                raise
            failpoint("pipeline.after_commit")
            total += folded.counts
            self._observer.folded(folded.counts)
            ends = {partition: taken[partition][-1][0].next_offset for partition in taken}
            self._next.update(ends)
            self._uncommitted.update(ends)
            if folded.effects is not None:
                self._follower.folded(folded.effects)
        self._halt_all(prepared.halted)
        return total

    def _fold_round(self, taken: dict[int, list[Taken]], log_identity: str) -> Folded:
        """One transaction. Raises _Overtaken, with nothing written."""
        began = self._monotonic()
        applied = self._follower.applied()
        with self._ledger.transaction() as transaction:
            folded = fold_round(
                transaction,
                self._generation,
                taken,
                partition_count=self._log.partition_count,
                log_identity=log_identity,
                applied=applied,
                with_effects=self._follower.is_following,
                is_live=True,
            )
            if folded is None:
                raise _Overtaken
            ready = self._monotonic()
        self._observer.took("fold", ready - began)
        self._observer.took("commit", self._monotonic() - ready)
        return folded

    def _adopt(self) -> None:
        """Take up the owned partitions at the positions that SQL knows."""
        self._reader.abandon()
        epoch, self._epoch = self._consumer.assignment_epoch, -1
        self._next, self._uncommitted = {}, {}
        self._observer.adopted(self._consumer.assignment)
        self._log_identity, self._looked_at = self._log.identity, self._monotonic()
        self._ledger.raise_barriers(self._log, self._settings.group)
        self._generation, positions = self._ledger.live_positions()
        owned = sorted(self._consumer.assignment)
        self._follower.adopted(self._generation, {one: positions[one] for one in owned})
        for partition in owned:
            position = positions[partition]
            try:
                check_same_log(self._log, partition, position)
            except Halted as halt:
                self._halt(partition, halt)
                continue
            if partition not in self.halted:
                self._next[partition] = position.next_offset
                self._consumer.seek(partition, position.next_offset)
        self._tell_halts()
        self._epoch = epoch  # last: what was interrupted is taken up again

    def _look_at_the_log(self) -> None:
        """Is it still the same? One that was recreated gives nothing at all, and would look idle."""
        if self._monotonic() - self._looked_at >= self._settings.look_interval_s:
            self._looked_at = self._monotonic()
            if self._log.identity != self._log_identity:
                self._adopt()

    def _ends_of(self, prepared: Prepared) -> dict[int, int]:
        """Where reading goes on behind a batch, of the partitions that go on at all."""
        ends = {one: taken[-1][0].next_offset for one, taken in prepared.partitions.items()}
        return {
            one: ends.get(one, position)
            for one, position in self._next.items()
            if one not in prepared.halted
        }

    def _due_to_publish(self) -> dict[int, int]:
        """Progress for lag tools, handed out at most once an interval: the truth is in SQL."""
        now = self._monotonic()
        if not self._uncommitted or now - self._published_at < self._settings.commit_interval_s:
            return {}
        due, self._uncommitted, self._published_at = self._uncommitted, {}, now
        return due

    def _halt_all(self, halts: dict[int, Halted]) -> None:
        while halts:
            self._halt(*halts.popitem())

    def _halt(self, partition: int, halt: Halted) -> None:
        self._next.pop(partition, None)
        if partition not in self.halted:
            self.halted[partition] = halt
            logger.error(LogLine("partition_halted", partition=partition, **failure(halt)))
            self._tell_halts()

    def _tell_halts(self) -> None:
        owned = self._consumer.assignment
        self._observer.halted({p: halt for p, halt in self.halted.items() if p in owned})


class _Overtaken(Exception):
    """Leaves the transaction with a rollback: another consumer folded these records."""
