"""Dead letters: what was quarantined, why, and how much money it may be about."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator

import msgspec
from sqlalchemy import ColumnElement, Connection, func, select, text, tuple_

from tollkeeper.errors import InvalidInput, UnknownSchema
from tollkeeper.events.display import as_document
from tollkeeper.events.quarantined import RELEASABLE, Cause
from tollkeeper.ledger.batch import decode_outcome
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.loading import letter_of_row
from tollkeeper.ledger.rows import Letter, Place
from tollkeeper.ledger.tables import COUNT_COLUMNS, LETTERS_BY_EVENT, dead_letter, letters_in_status
from tollkeeper.reports.documents import instant, money

OPEN = "open"
MAX_LISTED = 10_000
"""How many letters a list reads at most; it says when there are more."""


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant; None: any."""

    cause: str | None = None
    model: str | None = None
    organization: str | None = None
    status: str | None = OPEN


def letter_id(letter: Letter) -> str:
    """The id that people use: partition and offset of the record."""
    return f"{letter.log_partition}-{letter.log_offset}"


def find_letters(
    connection: Connection,
    chosen: LetterFilter,
    *,
    after: Place = (-1, -1),
    limit: int = MAX_LISTED,
) -> list[Letter]:
    """The letters that match, by place, behind the place `after`."""
    if chosen.cause is not None and chosen.cause not in set(Cause):
        raise InvalidInput("cause", f"must be one of {', '.join(Cause)}, not {chosen.cause!r}")
    columns = dead_letter.c
    conditions: list[ColumnElement[bool]] = [
        *_in_status(live_generation(connection), chosen.status),
        tuple_(columns.log_partition, columns.log_offset) > after,
    ]
    for name in ("cause", "model", "organization"):
        wanted = getattr(chosen, name)
        if wanted is not None:
            conditions.append(columns[name] == wanted)
    rows = connection.execute(
        select(dead_letter)
        .where(*conditions)
        .order_by(columns.log_partition, columns.log_offset)
        .limit(limit)
    )
    return [letter_of_row(row) for row in rows]


def _in_status(number: int, status: str | None) -> tuple[ColumnElement[bool], ...]:
    if status == OPEN:
        return letters_in_status(number, OPEN)
    of_generation = dead_letter.c.generation == number
    return (of_generation,) if status is None else (of_generation, dead_letter.c.status == status)


def all_letters(connection: Connection, chosen: LetterFilter) -> Iterator[Letter]:
    """Every letter that matches, however many, a page at a time."""
    after: Place = (-1, -1)
    while page := find_letters(connection, chosen, after=after):
        yield from page
        after = page[-1].place


def find_letter(connection: Connection, place: Place) -> Letter:
    """One letter by its place; InvalidInput when none stands there."""
    row = connection.execute(
        select(dead_letter).where(
            dead_letter.c.generation == live_generation(connection),
            dead_letter.c.log_partition == place[0],
            dead_letter.c.log_offset == place[1],
        )
    ).one_or_none()
    if row is None:
        raise InvalidInput("dead letter", f"there is none at {place[0]}-{place[1]}")
    return letter_of_row(row)


def letter_status(connection: Connection, place: Place) -> str | None:
    """`open`, or how the letter was closed, as far as the log is folded; None when there is none."""
    columns = dead_letter.c
    return connection.execute(
        select(columns.status).where(
            columns.generation == live_generation(connection),
            columns.log_partition == place[0],
            columns.log_offset == place[1],
        )
    ).scalar_one_or_none()


def open_letters_of(connection: Connection, organization: str) -> tuple[int, int, int]:
    """An organization's open letters: their count, nano-USD at risk, and how many have no known price."""
    # SQLite would walk through everybody's letters instead of the index, unless it is told.
    told = f"INDEXED BY {LETTERS_BY_EVENT}" if connection.dialect.name == "sqlite" else ""
    statement = text(
        "SELECT count(*), coalesce(sum(amount_at_risk_nanos), 0), "
        f"count(*) - count(amount_at_risk_nanos) FROM dead_letter {told} "
        "WHERE generation + 0 = :generation AND organization = :organization AND status = 'open'"
    )
    count, at_risk, unpriced = connection.execute(
        statement,
        {"generation": live_generation(connection), "organization": organization},
    ).one()
    return int(count), int(at_risk), int(unpriced)


class OpenLetters(msgspec.Struct, frozen=True):
    """The open letters of one cause."""

    cause: str
    count: int
    at_risk_nanos: int
    unpriced: int
    """How many have no known price, and so no part in the amount."""


def open_letters_by_cause(connection: Connection) -> list[OpenLetters]:
    """All open letters, grouped. It reads each of them: not for every second."""
    columns = dead_letter.c
    rows = connection.execute(
        select(
            columns.cause,
            func.count(),
            func.coalesce(func.sum(columns.amount_at_risk_nanos), 0),
            func.count() - func.count(columns.amount_at_risk_nanos),
        )
        .where(*letters_in_status(live_generation(connection), OPEN))
        .group_by(columns.cause)
        .order_by(columns.cause)
    )
    return [OpenLetters(cause, *map(int, numbers)) for cause, *numbers in rows]


def letter_document(letter: Letter, *, with_raw: bool = False) -> dict[str, object]:
    """One letter as the command line shows it; with its bytes (base64) and event when asked."""
    document: dict[str, object] = {
        "id": letter_id(letter),
        "cause": str(letter.cause),
        "field": letter.field,
        "detail": letter.detail,
        "status": letter.status,
        "releasable": letter.cause in RELEASABLE,
        "organization": letter.organization,
        "event_id": letter.event_id,
        "member": letter.member,
        "model": letter.model,
        "tokens": None
        if letter.counts is None
        else dict(zip(COUNT_COLUMNS, letter.counts, strict=True)),
        **money("amount_at_risk", letter.amount_at_risk_nanos),
        "appended_at": instant(letter.appended_at),
        "closed_by": letter.closed_by,
        "closed_reason": letter.closed_reason,
    }
    if with_raw:
        document["raw_base64"] = b64encode(letter.raw).decode()
        document["key_base64"] = (
            None if letter.record_key is None else b64encode(letter.record_key).decode()
        )
        document["event"] = _event(letter.raw)
    return document


def group_letters(letters: Iterable[Letter], by: list[str]) -> list[dict[str, object]]:
    """Counts and known amounts at risk by cause, model or organization; the largest count first."""
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for letter in letters:
        key = tuple(
            None if getattr(letter, name) is None else str(getattr(letter, name)) for name in by
        )
        sums = groups.setdefault(key, [0, 0, 0])
        sums[0] += 1
        sums[1] += letter.amount_at_risk_nanos or 0
        sums[2] += letter.amount_at_risk_nanos is None
    return [
        {
            **dict(zip(by, key, strict=True)),
            "count": count,
            **money("amount_at_risk", at_risk_nanos),
            "unpriced": unpriced,
        }
        for key, (count, at_risk_nanos, unpriced) in sorted(
            groups.items(), key=lambda item: (-item[1][0], str(item[0]))
        )
    ]


def _event(raw: bytes) -> dict[str, object] | None:
    """The event in the bytes, as far as it can be read."""
    try:
        outcome = decode_outcome(raw)
    except UnknownSchema:
        return None
    return None if isinstance(outcome, InvalidInput) else as_document(outcome)
