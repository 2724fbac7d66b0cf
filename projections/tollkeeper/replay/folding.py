"""Folding the whole log from offset 0 into a generation of its own, beside the live one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tollkeeper.errors import LogDiverged, LogGap, Unavailable
from tollkeeper.ledger.apply import FoldCounts, fold_round
from tollkeeper.ledger.batch import prepare, rounds
from tollkeeper.ledger.collector import paused_collector
from tollkeeper.ledger.port import Ledger, LedgerTransaction
from tollkeeper.log.port import Log

RECORDS_A_ROUND = 5_000

Progress = Callable[[int], None]
"""Called with the number of records folded since the last call."""


def overtaken(generation: int) -> Unavailable:
    """The error of a replay whose generation was dropped by one that began later."""
    return Unavailable(
        f"another replay began and dropped generation {generation} of this one: only one can run at a "
        "time; the live ledger is as the other leaves it, try again when that is done"
    )


def check_history_is_whole(log: Log) -> None:
    """A replay needs every record since offset 0; raises LogDiverged when some were deleted."""
    for partition, first in sorted(log.start_offsets().items()):
        if first > 0:
            raise LogDiverged(
                f"partition {partition} begins at offset {first}: records before it were deleted, so "
                "history can't be folded from zero; set the topic's retention to unlimited",
                partition=partition,
            )


def fold_up_to(
    log: Log, ledger: Ledger, generation: int, targets: Mapping[int, int], *, progress: Progress
) -> FoldCounts:
    """Fold the generation on to `targets` (next offset by partition), a transaction a round."""
    counts = FoldCounts()
    with ledger.transaction() as transaction:
        reached = {
            partition: position.next_offset
            for partition, position in transaction.positions(generation).items()
        }
    for partition, target in sorted(targets.items()):
        offset = reached.get(partition, 0)
        while offset < target:
            with paused_collector(), ledger.transaction() as transaction:
                folded = fold_next(transaction, log, generation, partition, offset, target)
            counts += folded
            offset += folded.records
            progress(folded.records)
    return counts


def fold_next(
    transaction: LedgerTransaction,
    log: Log,
    generation: int,
    partition: int,
    offset: int,
    target: int,
) -> FoldCounts:
    """Fold the next records of one partition, at least one and none at or behind `target`."""
    records = log.read(partition, offset, max_records=min(RECORDS_A_ROUND, target - offset))
    prepared = prepare(records, {partition: offset})
    for halt in prepared.halted.values():
        raise halt
    if not prepared.partitions:
        raise LogGap(
            f"partition {partition}: the log ends at {offset}, but {target} was folded live",
            partition=partition,
        )
    counts = FoldCounts()
    for taken in rounds(prepared):
        folded = fold_round(
            transaction,
            generation,
            taken,
            partition_count=log.partition_count,
            log_identity=log.identity,
            is_live=False,
        )
        if folded is None:
            raise overtaken(generation)
        counts += folded.counts
    return counts
