"""The charged events behind a figure, a page at a time, and each with its prices."""

from __future__ import annotations

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, select

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.codec import decode
from tollkeeper.events.prices import PriceRow, PricesPublished
from tollkeeper.events.usage import TOKEN_TYPES
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.rows import ChargeRow
from tollkeeper.ledger.tables import COUNT_COLUMNS, NANOS_COLUMNS, charge, price_publication
from tollkeeper.money.amounts import picos_to_nanos
from tollkeeper.money.periods import Period
from tollkeeper.rating.card import RateCard
from tollkeeper.reports.documents import instant, money, price

MAX_PAGE = 100_000


class ChargeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which charges are meant; times are half-open [from_micros, to_micros) by occurrence."""

    member: str | None = None
    model: str | None = None
    period: Period | None = None
    from_micros: int | None = None
    to_micros: int | None = None

    @property
    def has_no_time(self) -> bool:
        """Whether no instant lies between both ends."""
        if self.from_micros is None or self.to_micros is None:
            return False
        return self.to_micros <= self.from_micros


def charges(
    connection: Connection,
    name: str,
    chosen: ChargeFilter,
    *,
    limit: int,
    after_event_id: str | None = None,
) -> list[ChargeRow]:
    """At most `limit` charges of the organization by event id, behind `after_event_id`.

    Event ids made by Tollkeeper sort by time, so the pages do too.
    """
    columns = charge.c
    conditions: list[ColumnElement[bool]] = [
        columns.generation == live_generation(connection),
        columns.organization == name,
    ]
    if after_event_id is not None:
        conditions.append(columns.event_id > after_event_id)
    if chosen.member is not None:
        conditions.append(columns.member == chosen.member)
    if chosen.model is not None:
        conditions.append(columns.model == chosen.model)
    if chosen.period is not None:
        conditions.append(columns.period_start == chosen.period.start_micros)
    if chosen.from_micros is not None:
        conditions.append(columns.occurred_at >= chosen.from_micros)
    if chosen.to_micros is not None:
        conditions.append(columns.occurred_at < chosen.to_micros)
    rows = connection.execute(
        select(charge).where(*conditions).order_by(columns.event_id).limit(min(limit, MAX_PAGE))
    )
    return [_charge_row(row) for row in rows]


def find_charge(connection: Connection, name: str, event_id: str) -> ChargeRow | None:
    """The charge of one event; None when it isn't charged."""
    row = connection.execute(
        select(charge).where(
            charge.c.generation == live_generation(connection),
            charge.c.organization == name,
            charge.c.event_id == event_id,
        )
    ).one_or_none()
    return None if row is None else _charge_row(row)


def charge_document(row: ChargeRow) -> dict[str, object]:
    """One charge as the command line shows it."""
    values = row._asdict()
    return {
        "event_id": row.event_id,
        "organization": row.organization,
        "member": row.member,
        "surface": row.surface,
        "model": row.model,
        "service_tier": row.service_tier,
        "speed": row.speed,
        "region": row.region,
        "usage_source": row.usage_source,
        "request_id": row.request_id,
        "hold_id": row.hold_id,
        "occurred_at": instant(row.occurred_at),
        "appended_at": instant(row.appended_at),
        "late": bool(row.is_late),
        "member_unknown": bool(row.is_member_unknown),
        **{name: values[name] for name in COUNT_COLUMNS},
        **money("charge", row.charge_nanos),
        "publication_id": row.publication_id,
        "position": {"partition": row.log_partition, "offset": row.log_offset},
        "released_offset": row.released_offset,
        "emitter": row.emitter,
        "sequence": row.sequence,
    }


def price_lines(connection: Connection, row: ChargeRow) -> list[dict[str, object]]:
    """Tokens times price is the charge: a line per token type that was used.

    The prices are those that the partition had seen when it charged the event. Raises BrokenInvariant
    when a line doesn't come out as it was charged.
    """
    prices = _prices_of(connection, row)
    values = row._asdict()
    lines = []
    for token_type, count, part in zip(TOKEN_TYPES, COUNT_COLUMNS, NANOS_COLUMNS, strict=True):
        if not values[count]:
            continue
        picos: int = getattr(prices, f"{token_type}_picos") or 0
        if picos_to_nanos(values[count] * picos) != values[part]:
            raise BrokenInvariant(
                f"{row.event_id}: {values[count]} {token_type} at {picos} pico-USD aren't "
                f"{values[part]} nano-USD"
            )
        lines.append(
            {
                "token_type": token_type,
                "quantity": values[count],
                **price(picos),
                **money("charge", values[part]),
            }
        )
    return lines


def _prices_of(connection: Connection, row: ChargeRow) -> PriceRow:
    columns = price_publication.c
    seen_before = row.log_offset if row.released_offset is None else row.released_offset
    found = connection.execute(
        select(columns.value)
        .where(
            columns.generation == live_generation(connection),
            columns.log_partition == row.log_partition,
            columns.log_offset < seen_before,
            columns.withdrawn_offset.is_(None) | (columns.withdrawn_offset > seen_before),
        )
        .order_by(columns.log_offset)
    )
    events = [decode(value) for (value,) in found]
    card = RateCard(event for event in events if isinstance(event, PricesPublished))
    prompt = (
        row.input_tokens
        + row.cache_read_tokens
        + row.cache_write_5m_tokens
        + row.cache_write_1h_tokens
    )
    bands = card.prices_at((row.model, row.service_tier, row.speed, row.region), row.occurred_at)
    reached = [band for band in bands if band.over_prompt_tokens < prompt]
    if not bands:
        raise BrokenInvariant(f"{row.event_id} was charged, but its price isn't known any more")
    return reached[-1] if reached else bands[0]


def _charge_row(row: Row[tuple[object, ...]]) -> ChargeRow:
    return ChargeRow._make(tuple(row)[1:])
