"""What an operator at 3 a.m. wants to know first: what is wrong, and the next step."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import func, select

from tollkeeper.app.wiring import App
from tollkeeper.errors import LogDiverged
from tollkeeper.ledger.continuity import check_same_log
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.port import Position
from tollkeeper.ledger.tables import dead_letter
from tollkeeper.log.port import Log
from tollkeeper.metering.drain import spooled_frames
from tollkeeper.metering.spool import emitter_directories
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.store import count_waiting


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    is_fine: bool
    detail: str
    next_step: str = ""

    def as_document(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "what": self.what,
            "ok": self.is_fine,
            "detail": self.detail,
            "next_step": self.next_step or None,
        }


def examine(app: App) -> tuple[list[Finding], list[dict[str, object]]]:
    """Every finding, and the lag of each partition."""
    ends = app.log.end_offsets()
    with reading(app.engine) as connection:
        number = live_generation(connection)
        known = positions(connection, number)
        waits = count_waiting(connection)
        letters = connection.execute(
            select(func.count()).where(
                dead_letter.c.generation == number, dead_letter.c.status == "open"
            )
        ).scalar()
    partitions = [
        {
            "partition": partition,
            "next_offset": position.next_offset,
            "log_end": ends.get(partition, 0),
            "lag": ends.get(partition, 0) - position.next_offset,
        }
        for partition, position in sorted(known.items())
    ]
    lag = sum(max(0, one["lag"]) for one in partitions)
    spooled = sum(
        1 for path in emitter_directories(app.settings.spool_dir) for _ in spooled_frames(path)
    )
    where = app.settings.kafka.shown if app.settings.kafka else "embedded"
    findings = [
        Finding("home", True, str(app.settings.home)),
        Finding("log", True, f"{where}, {app.log.partition_count} partitions, {app.log.identity}"),
        Finding("ledger", True, f"{app.engine.url.render_as_string()}, generation {number}"),
        _waiting("lag", lag, "records wait to be folded", "tollkeeper consume --until-caught-up"),
        _waiting("outbox", waits, "decided events wait for the log", "tollkeeper run"),
        _waiting(
            "spool", spooled, "usages wait for the log", "tollkeeper consume --until-caught-up"
        ),
        _waiting("dead letters", int(letters or 0), "are open", "tollkeeper dead-letters list"),
    ]
    return [*findings, *_divergence(app.log, known)], [dict(one) for one in partitions]


def _divergence(log: Log, known: Mapping[int, Position]) -> list[Finding]:
    """One finding, when this log isn't the one that was folded: the first cause, and how often."""
    causes = []
    for partition, position in sorted(known.items()):
        try:
            check_same_log(log, partition, position)
        except LogDiverged as found:
            causes.append(str(found))
    if not causes:
        return []
    more = f" (and {len(causes) - 1} partitions more)" if causes[1:] else ""
    next_step = (
        "put the log back that belongs to this ledger; or move ledger.sqlite away and run "
        "tollkeeper consume --until-caught-up"
    )
    return [Finding("log", False, causes[0] + more, next_step)]


def _waiting(what: str, count: int, detail: str, next_step: str) -> Finding:
    return Finding(what, count == 0, f"{count} {detail}", next_step if count else "")
