"""Asking everything once, for the doctor: each service with its answer or its error, and how long it took.

A service that is away is a fact like any other: the rest is still asked. Must not judge what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import TypeVar

import msgspec

from tollkeeper.app.gate_looking import GateFacts, look_at_gate
from tollkeeper.app.run_settings import OFF, RunSettings
from tollkeeper.app.settings import Settings
from tollkeeper.app.wiring import App
from tollkeeper.errors import LogDiverged, TollkeeperError, Unavailable, UnknownSchema
from tollkeeper.ledger.batch import decode_outcome
from tollkeeper.ledger.continuity import check_same_log
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.port import Position
from tollkeeper.log.port import Log
from tollkeeper.metering.drain import spooled_frames
from tollkeeper.metering.spool import DAMAGED, emitter_directories, spooled_bytes
from tollkeeper.money.periods import period_at
from tollkeeper.outbox.database import HIDDEN, reading, shown_url
from tollkeeper.outbox.store import count_waiting, oldest_waiting
from tollkeeper.pipeline.settings import GROUP
from tollkeeper.reports.letters import OpenLetters, open_letters_by_cause
from tollkeeper.reports.overspend import Overspent, overspent
from tollkeeper.webhooks.endpoints import Endpoint, disabled_endpoints

T = TypeVar("T")


class Reached(msgspec.Struct, frozen=True):
    """A service that was asked. `error` is None when it answered."""

    service: str
    latency_ms: float
    error: str | None


class Books(msgspec.Struct, frozen=True):
    """What the database says."""

    generation: int
    positions: Mapping[int, Position]
    pending: int
    oldest_decided_at: int | None
    letters: list[OpenLetters]
    overspent: list[Overspent]
    disabled: list[Endpoint]


class Partition(msgspec.Struct, frozen=True):
    """One partition of the live fold; None is what couldn't be asked, or an owner that isn't there."""

    partition: int
    next_offset: int
    log_end: int | None
    lag: int | None
    owner: str | None
    halted: str | None


class Spool(msgspec.Struct, frozen=True):
    """What this home's emitters keep on disk."""

    records: int
    bytes: int
    emitters: int
    damaged: int


class Facts(msgspec.Struct, frozen=True):
    """All that was found."""

    settings: dict[str, str]
    services: list[Reached]
    log_identity: str | None
    books: Books | None
    gate: GateFacts | None
    partitions: list[Partition]
    spool: Spool


def ask_everything(app: App, run_settings: RunSettings) -> Facts:
    """Ask log, database, group, gate and spool; what is away costs its own time limit, about 10 s."""
    with suppress(TollkeeperError):  # it shows again below, where the service is asked
        app.ensure_ready()
    log, identity_and_ends = _ask("log", lambda: (app.log.identity, app.log.end_offsets()))
    sql, books = _ask("sql", lambda: _read_books(app))
    ends, owners, services = None, {}, [log, sql]
    if identity_and_ends is not None:
        ends = identity_and_ends[1]
        group, found = _ask("group", lambda: app.log.owners(GROUP))
        owners = found or {}
        services.append(group)
    redis, gate = _ask("redis", lambda: look_at_gate(app))
    if gate is None or gate.is_running:
        services.append(redis)
    return Facts(
        settings=shown_settings(app.settings, run_settings),
        services=services,
        log_identity=None if identity_and_ends is None else identity_and_ends[0],
        books=books,
        gate=gate,
        partitions=[] if books is None else _partitions(app.log, books, ends, owners),
        spool=_spool(app),
    )


def _ask(service: str, question: Callable[[], T]) -> tuple[Reached, T | None]:
    began = perf_counter()
    error, answer = None, None
    try:
        answer = question()
    except TollkeeperError as failed:
        error = str(failed)
    return Reached(service, round((perf_counter() - began) * 1_000, 1), error), answer


def _read_books(app: App) -> Books:
    app.check_database()
    with reading(app.engine) as connection:
        number = live_generation(connection)
        return Books(
            number,
            positions(connection, number),
            count_waiting(connection),
            oldest_waiting(connection),
            open_letters_by_cause(connection),
            overspent(connection, period=period_at(app.clock())),
            disabled_endpoints(connection),
        )


def _partitions(
    log: Log, books: Books, ends: Mapping[int, int] | None, owners: Mapping[int, str]
) -> list[Partition]:
    found = []
    for partition, position in sorted(books.positions.items()):
        end = None if ends is None else ends.get(partition, 0)
        halted = None if end is None else _why_halted(log, partition, position, end)
        lag = None if end is None else end - position.next_offset
        found.append(
            Partition(partition, position.next_offset, end, lag, owners.get(partition), halted)
        )
    return found


def _why_halted(log: Log, partition: int, position: Position, end: int) -> str | None:
    """What would stop whoever folds on from here; None when nothing would, or the log went away."""
    try:
        check_same_log(log, partition, position)
        if end <= position.next_offset:
            return None
        records = log.read(partition, position.next_offset, max_records=1)
        if not records or records[0].offset != position.next_offset:
            return f"offset {position.next_offset} is missing: records were lost"
        decode_outcome(records[0].value)
    except (LogDiverged, UnknownSchema) as cause:
        return str(cause)
    except Unavailable:
        return None
    return None


def _spool(app: App) -> Spool:
    spool_dir = app.settings.spool_dir
    emitters = list(emitter_directories(spool_dir))
    size = 0
    with suppress(OSError):  # another user's; its records aren't counted either
        size = spooled_bytes(spool_dir, without=frozenset())
    return Spool(
        records=sum(1 for path in emitters for _ in spooled_frames(path)),
        bytes=size,
        emitters=len(emitters),
        damaged=len(list((spool_dir / DAMAGED).glob("*.json"))),
    )


def shown_settings(settings: Settings, run_settings: RunSettings) -> dict[str, str]:
    """The settings in force, under their names in the environment; secrets are hidden."""
    kafka = settings.kafka
    shown = {
        "home": str(settings.home),
        "log": "embedded" if kafka is None else kafka.shown,
        "redis": settings.redis.shown,
        "sql": shown_url(settings.sql),
        "partitions": str(settings.partitions),
        "session_timeout_s": f"{settings.session_timeout_s:g}",
        "http": OFF if run_settings.http is None else run_settings.http.shown,
        "log_format": run_settings.log_format or "by terminal",
        "log_level": run_settings.log_level,
        "stuck_after_s": f"{run_settings.stuck_after_s:g}",
        "recovery_s": f"{settings.enforcement.recovery_s:g}",
        "retire_after_s": f"{settings.enforcement.retire_after_s:g}",
    }
    if kafka is not None:
        shown |= {
            "replication": str(kafka.replication),
            "kafka_security": kafka.security,
            "kafka_sasl_mechanism": kafka.sasl_mechanism or "",
            "kafka_username": kafka.username or "",
            "kafka_password": HIDDEN if kafka.password else "",
        }
    return {f"TOLLKEEPER_{name.upper()}": value for name, value in shown.items() if value}
