"""The prices that the ledger charges by, and where they came from."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.codec import decode
from tollkeeper.events.prices import PricesPublished
from tollkeeper.events.usage import TOKEN_TYPES
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import price_publication
from tollkeeper.rating.card import RateCard
from tollkeeper.reports.documents import instant

PARTITION = 0
"""Every partition sees the same publications; this one is shown."""


def publications(connection: Connection) -> list[dict[str, object]]:
    """Every publication in the order of the log, withdrawn ones marked."""
    return [
        {
            "publication_id": event.publication_id,
            "effective_from": instant(event.effective_from),
            "source": event.source,
            "source_date": event.source_date,
            "rows": len(event.prices),
            "withdrawn": withdrawn,
            "published_at": instant(event.occurred_at),
        }
        for event, withdrawn in _publications(connection)
    ]


def prices_in_force(
    connection: Connection, *, at: int, model: str | None = None
) -> list[dict[str, object]]:
    """Every price in force at an instant: pico-USD a unit, and USD per million (per search)."""
    card = RateCard(event for event, withdrawn in _publications(connection) if not withdrawn)
    rows = []
    for key in card.variants():
        if model is not None and key[0] != model:
            continue
        for row in card.prices_at(key, at):
            document: dict[str, object] = {
                "model": row.model,
                "service_tier": row.service_tier,
                "speed": row.speed,
                "region": row.region,
                "over_prompt_tokens": row.over_prompt_tokens,
            }
            document.update(
                {f"{name}_picos": getattr(row, f"{name}_picos") for name in TOKEN_TYPES}
            )
            rows.append(document)
    return rows


def _publications(connection: Connection) -> list[tuple[PricesPublished, bool]]:
    columns = price_publication.c
    rows = connection.execute(
        select(columns.value, columns.withdrawn_offset)
        .where(
            columns.generation == live_generation(connection), columns.log_partition == PARTITION
        )
        .order_by(columns.log_offset)
    )
    found = []
    for value, withdrawn_offset in rows:
        event = decode(value)
        if not isinstance(event, PricesPublished):
            raise BrokenInvariant("a stored price publication isn't one")
        found.append((event, withdrawn_offset is not None))
    return found
