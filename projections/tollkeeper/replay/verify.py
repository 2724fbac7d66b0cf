"""Proving the live ledger by folding the log again, and putting the new fold in its place.

`verify` folds a new generation, compares it with the live one and drops it. `rebuild` keeps it and, when
asked, makes it the live one in the transaction that proved them equal at equal positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec
from sqlalchemy import Connection, delete, func, select, update

from tollkeeper.errors import Misuse
from tollkeeper.failpoints import failpoint
from tollkeeper.ledger.epochs import raise_every_epoch
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.store import SqlLedger, SqlTransaction
from tollkeeper.ledger.tables import consumer_offset, generation, organization
from tollkeeper.log.port import Log
from tollkeeper.outbox.database import keep_writers_out, reading, writing
from tollkeeper.replay.comparing import MAX_DIFFERENCES, Difference, differences, untied
from tollkeeper.replay.folding import (
    Progress,
    check_history_is_whole,
    fold_next,
    fold_up_to,
    overtaken,
)

SNAPSHOT_TRIES = 10
"""How often a busy live fold may run ahead before the comparison holds it back by a lock."""


class ReplayReport(msgspec.Struct, frozen=True):
    """What a replay found. `swapped` says whether the replayed generation is the live one now."""

    agrees: bool
    swapped: bool
    live_generation: int
    replayed_generation: int
    positions: dict[int, int]
    records: int
    organizations: int
    charged_events: int
    charged_nanos: int
    differences: tuple[Difference, ...]
    untied: tuple[str, ...]

    @property
    def is_cut_short(self) -> bool:
        """Whether more organizations may differ than are named."""
        return len(self.differences) >= MAX_DIFFERENCES


def verify(log: Log, ledger: SqlLedger, *, now: int, progress: Progress) -> ReplayReport:
    """Fold the whole log beside the live ledger and compare; changes nothing that a query reads.

    Raises Halted when the log can't be folded (a gap, a truncated history, an unknown schema).
    """
    replayed = _begin(log, ledger, now)
    try:
        return _compare_in_snapshot(log, ledger, replayed, progress) or _compare_under_lock(
            log, ledger, replayed, swap_at=None
        )
    finally:
        ledger.drop_generation(replayed)


def rebuild(
    log: Log, ledger: SqlLedger, *, swap: bool, now: int, progress: Progress
) -> ReplayReport:
    """Fold a new generation and, with `swap`, make it live: only when both agree, at equal positions.

    Without `swap`, or when they differ, the new generation is dropped again and the live one stays.
    """
    replayed = _begin(log, ledger, now)
    doomed = replayed
    try:
        report = _compare_in_snapshot(log, ledger, replayed, progress)
        if report is None or (swap and report.agrees):
            report = _compare_under_lock(log, ledger, replayed, swap_at=now if swap else None)
        if report.swapped:
            doomed = report.live_generation
        return report
    finally:
        failpoint("replay.before_drop")
        with suppress(Misuse):  # it is live: the swap was committed, and only its answer got lost
            ledger.drop_generation(doomed)


def _begin(log: Log, ledger: SqlLedger, now: int) -> int:
    check_history_is_whole(log)
    with reading(ledger.engine) as connection:
        left_over = connection.execute(
            select(generation.c.generation).where(generation.c.status.not_in(["live", "dropped"]))
        )
        abandoned = [row[0] for row in left_over]
    for number in abandoned:  # a replay that died; one that lives will find that it lost its place
        with suppress(Misuse):  # it lived, and has just become the live one
            ledger.drop_generation(number)
    return ledger.begin_generation(now, partitions=log.partition_count, log_identity=log.identity)


def _compare_in_snapshot(
    log: Log, ledger: SqlLedger, replayed: int, progress: Progress
) -> ReplayReport | None:
    """Compare without holding the live fold back; None when it kept running ahead."""
    for _ in range(SNAPSHOT_TRIES):
        with reading(ledger.engine) as connection:
            targets = _next_offsets(connection, live_generation(connection))
        fold_up_to(log, ledger, replayed, targets, progress=progress)
        with reading(ledger.engine) as connection:
            live = live_generation(connection)
            if _next_offsets(connection, live) == _next_offsets(connection, replayed):
                return _report(connection, live, replayed, swapped=False)
    return None


def _compare_under_lock(
    log: Log, ledger: SqlLedger, replayed: int, *, swap_at: int | None
) -> ReplayReport:
    """Compare, and swap where a time is given for it, while the live fold waits: fold the rest, compare,
    move the pointer."""
    with writing(ledger.engine) as connection:
        keep_writers_out(connection, generation)
        live = live_generation(connection)
        connection.execute(  # both folds wait for these rows; SQLite holds its one lock already
            select(consumer_offset.c.log_partition)
            .where(consumer_offset.c.generation.in_([live, replayed]))
            .order_by(consumer_offset.c.generation, consumer_offset.c.log_partition)
            .with_for_update()
        ).all()
        targets = _next_offsets(connection, live)
        reached = _next_offsets(connection, replayed)
        if not reached:
            raise overtaken(replayed)
        transaction = SqlTransaction(connection)
        for partition, target in sorted(targets.items()):
            offset = reached[partition]
            while offset < target:
                offset += fold_next(transaction, log, replayed, partition, offset, target).records
        report = _report(connection, live, replayed, swapped=False)
        if swap_at is None or not report.agrees:
            return report
        _move_pointer(connection, live, replayed)
        raise_every_epoch(connection, swap_at)
        failpoint("replay.before_swap_commit")
    return msgspec.structs.replace(report, swapped=True)


def _move_pointer(connection: Connection, live: int, replayed: int) -> None:
    """The old generation loses its positions: a consumer that still folds it finds its fence lost."""
    number = generation.c.generation
    connection.execute(update(generation).where(number == live).values(status="retired"))
    connection.execute(update(generation).where(number == replayed).values(status="live"))
    connection.execute(delete(consumer_offset).where(consumer_offset.c.generation == live))
    # Under the epochs that are raised with it the gate knows nothing, so there is nothing to catch up on.
    offsets = consumer_offset.c
    connection.execute(
        update(consumer_offset)
        .where(offsets.generation == replayed)
        .values(applied_offset=offsets.next_offset)
    )


def _next_offsets(connection: Connection, number: int) -> Mapping[int, int]:
    return {
        partition: position.next_offset
        for partition, position in positions(connection, number).items()
    }


def _report(connection: Connection, live: int, replayed: int, *, swapped: bool) -> ReplayReport:
    totals = connection.execute(
        select(
            func.count(),
            func.coalesce(func.sum(organization.c.charged_events), 0),
            func.coalesce(func.sum(organization.c.charged_nanos), 0),
        ).where(organization.c.generation == replayed)
    ).one()
    found = differences(connection, live, replayed)
    loose = untied(connection, replayed)
    reached = dict(_next_offsets(connection, replayed))
    return ReplayReport(
        agrees=not found and not loose,
        swapped=swapped,
        live_generation=live,
        replayed_generation=replayed,
        positions=reached,
        records=sum(reached.values()),
        organizations=int(totals[0]),
        charged_events=int(totals[1]),
        charged_nanos=int(totals[2]),
        differences=tuple(found),
        untied=tuple(loose),
    )
