"""Reading batches: poll until one is full or the log is idle, then decode it.

Where the ledger runs in a process of its own, the next batch is read while that one works. One thread
at a time uses the consumer: whoever reads, and nobody else until that is over. Knows no SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import msgspec

from tollkeeper.errors import Halted, Unavailable
from tollkeeper.failpoints import failpoint
from tollkeeper.ledger.batch import Prepared, prepare
from tollkeeper.ledger.collector import paused_collector
from tollkeeper.log.port import LogConsumer, LogRecord
from tollkeeper.pipeline.observing import Observer
from tollkeeper.pipeline.settings import PipelineSettings


class Batch(msgspec.Struct, frozen=True):
    """What one reading brought. `lost` names partitions whose place on the log is gone.

    `epoch` is the consumer's assignment as it was then: under another one the positions, and so all
    of this, mean nothing.
    """

    prepared: Prepared
    records: int
    lost: dict[int, Halted]
    epoch: int


class BatchReader:
    """Reads one member's batches; not for several threads."""

    def __init__(
        self,
        consumer: LogConsumer,
        settings: PipelineSettings,
        *,
        monotonic: Callable[[], float],
        observer: Observer,
    ) -> None:
        self._consumer = consumer
        self._settings = settings
        self._monotonic = monotonic
        self._observer = observer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reading")
        self._ahead: Future[Batch] | None = None

    def ahead(self) -> Batch | None:
        """The batch that was begun ahead, waited for; None when none was."""
        ahead, self._ahead = self._ahead, None
        return None if ahead is None else ahead.result()

    def read(self, positions: Mapping[int, int], publish: Mapping[int, int]) -> Batch:
        """The batch at `positions`, read now.

        `publish` is progress to be committed to the log first, for lag tools.
        """
        began = self._monotonic()
        if publish:
            self._consumer.commit(publish)
            self._observer.took("publish", self._monotonic() - began)
            failpoint("pipeline.after_log_commit")
            began = self._monotonic()
        lost: dict[int, Halted] = {}
        records = self._collect(lost)
        epoch = self._consumer.assignment_epoch
        polled = self._monotonic()
        with paused_collector():
            owned = [record for record in records if record.partition in positions]
            prepared = prepare(owned, positions)
        if records:
            self._observer.took("poll", polled - began)
            self._observer.took("decode", self._monotonic() - polled)
        return Batch(prepared, len(records), lost, epoch)

    def begin(self, positions: Mapping[int, int], publish: Mapping[int, int]) -> None:
        """Begin to read in the background; `ahead` waits for it."""
        self._ahead = self._thread.submit(self.read, positions, publish)

    def abandon(self) -> None:
        """Forget what was begun ahead; what went wrong with it goes wrong again when it is asked for."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            with suppress(Unavailable, Halted):
                ahead.result()

    def close(self) -> None:
        """End the thread; what it reads is forgotten."""
        self.abandon()
        self._thread.shutdown()

    def _collect(self, lost: dict[int, Halted]) -> list[LogRecord]:
        settings = self._settings
        records = self._poll(settings.max_records, settings.poll_timeout_s, lost)
        closes_at = self._monotonic() + settings.linger_s
        while records and len(records) < settings.max_records and self._monotonic() < closes_at:
            more = self._poll(settings.max_records - len(records), 0.0, lost)
            if not more:
                break
            records += more
        return records

    def _poll(self, max_records: int, timeout_s: float, lost: dict[int, Halted]) -> list[LogRecord]:
        """Records; none when a partition has lost its place on the log: what came before is folded
        first, then it halts."""
        try:
            return self._consumer.poll(max_records=max_records, timeout_s=timeout_s)
        except Halted as halt:
            if halt.partition is None:
                raise
            lost[halt.partition] = halt
            return []
