"""Loading a fold's view from SQL: a handful of queries a batch, each by a whole key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, Row, select

from tollkeeper.errors import BrokenInvariant
from tollkeeper.events.codec import decode
from tollkeeper.events.prices import PricesPublished
from tollkeeper.events.quarantined import Cause
from tollkeeper.ledger.dialect import AnyRow, dialect_of
from tollkeeper.ledger.gate_tables import gate_policy
from tollkeeper.ledger.rows import (
    Counts,
    CreditRow,
    EmitterRow,
    Letter,
    LetterKey,
    MemberRow,
    Place,
    PolicyRow,
    PublicationRow,
)
from tollkeeper.ledger.tables import (
    COUNT_COLUMNS,
    LETTERS_BY_EVENT,
    credit,
    dead_letter,
    emitter,
    letters_in_status,
    member,
    organization,
    price_publication,
    spent,
)
from tollkeeper.ledger.view import OrganizationTotals, SpentKey, View, Wanted
from tollkeeper.outbox.tables import decided_event
from tollkeeper.rating.card import RateCard

KEYS_A_QUERY = 500
SPENT_KEY = ("organization", "period_start", "member")
Key = TypeVar("Key")
Value = TypeVar("Value", bound=msgspec.Struct)


def load_view(connection: Connection, generation: int, wanted: Wanted) -> View:
    """The ledger's state at these keys."""
    view = View()
    by_keys = dialect_of(connection).by_keys
    view.organizations = load_organizations(connection, generation, wanted.organizations)
    _load_members(connection, generation, wanted.members, view)
    _load_publications(connection, generation, wanted.partitions, view)
    for row in by_keys(
        connection, credit, ("organization", "purchase_id"), wanted.purchases, generation
    ):
        view.credits[row.organization, row.purchase_id] = value_of(CreditRow, row)
    for row in by_keys(
        connection, dead_letter, ("log_partition", "log_offset"), wanted.letters, generation
    ):
        view.letters[row.log_partition, row.log_offset] = letter_of_row(row)
    for row in by_keys(
        connection, emitter, ("log_partition", "emitter"), wanted.emitters, generation
    ):
        view.emitters[row.log_partition, row.emitter] = value_of(EmitterRow, row)
    for row in by_keys(
        connection, gate_policy, ("organization", "log_partition"), wanted.policies, generation
    ):
        view.policies[row.organization, row.log_partition] = value_of(PolicyRow, row)
    _load_discarded(connection, generation, wanted, view)
    for row in by_keys(connection, decided_event, ("stream", "version"), wanted.decided):
        if row.log_offset is not None:
            view.decided[row.stream, row.version] = row.value
    return view


def _load_discarded(connection: Connection, generation: int, wanted: Wanted, view: View) -> None:
    """What was discarded of these partitions: none of it is charged when it arrives again."""
    columns = dead_letter.c
    rows = connection.execute(
        select(
            columns.log_partition, columns.organization, columns.event_id, columns.payload_hash
        ).where(
            *letters_in_status(generation, "discarded"),
            columns.payload_hash.is_not(None),
            columns.log_partition.in_(sorted(wanted.partitions)),
        )
    )
    view.discarded.update(tuple(row) for row in rows)


def open_letters(
    connection: Connection, generation: int, keys: Collection[LetterKey]
) -> Mapping[LetterKey, Place]:
    """The open letters of these usage events, the first of each."""
    found: dict[LetterKey, Place] = {}
    events = {key[1:3] for key in keys}
    for row in dialect_of(connection).by_keys(
        connection, dead_letter, ("organization", "event_id"), events, generation, LETTERS_BY_EVENT
    ):
        if row.status == "open":
            key, place = _letter_key(row), (row.log_partition, row.log_offset)
            found[key] = min(place, found.get(key, place))
    return {key: place for key, place in found.items() if key in keys}


def spent_before(
    connection: Connection, generation: int, keys: Collection[SpentKey]
) -> Mapping[SpentKey, int]:
    """What these scopes have spent in these periods, nano-USD; those of which there is a row."""
    rows = dialect_of(connection).by_keys(connection, spent, SPENT_KEY, keys, generation)
    return {(row.organization, row.period_start, row.member): row.charge_nanos for row in rows}


def _letter_key(row: AnyRow) -> LetterKey:
    return row.log_partition, row.organization, row.event_id, row.payload_hash


def letter_of_row(row: Row[tuple[object, ...]]) -> Letter:
    """A row of the table `dead_letter` as a value."""
    mapping = row._mapping
    first: int | None = mapping[COUNT_COLUMNS[0]]
    counts: Counts | None = None
    if first is not None:
        a, b, c, d, e, f = (int(mapping[name]) for name in COUNT_COLUMNS)
        counts = (a, b, c, d, e, f)
    return Letter(
        log_partition=mapping["log_partition"],
        log_offset=mapping["log_offset"],
        cause=Cause(mapping["cause"]),
        field=mapping["field"],
        detail=mapping["detail"],
        status=mapping["status"],
        organization=mapping["organization"],
        event_id=mapping["event_id"],
        member=mapping["member"],
        model=mapping["model"],
        counts=counts,
        payload_hash=mapping["payload_hash"],
        amount_at_risk_nanos=mapping["amount_at_risk_nanos"],
        record_key=mapping["record_key"],
        raw=mapping["raw"],
        appended_at=mapping["appended_at"],
        closed_offset=mapping["closed_offset"],
        closed_by=mapping["closed_by"],
        closed_reason=mapping["closed_reason"],
        hold_id=mapping["hold_id"],
    )


def load_organizations(
    connection: Connection, generation: int, names: Collection[str]
) -> dict[str, OrganizationTotals]:
    """Those of these organizations that are open."""
    columns = organization.c
    found = {}
    for chunk in _chunks(names):
        rows = connection.execute(
            select(organization).where(
                columns.generation == generation, columns.organization.in_(chunk)
            )
        )
        for row in rows:
            found[row.organization] = OrganizationTotals(
                organization=row.organization,
                plan=row.plan,
                channel=row.channel,
                primary_owner=row.primary_owner,
                opened_at=row.opened_at,
                version=row.version,
                log_partition=row.log_partition,
                last_offset=row.last_offset,
                fingerprint=int.from_bytes(row.fingerprint),
                charged_events=row.charged_events,
                charged_nanos=row.charged_nanos,
                duplicate_events=row.duplicate_events,
                purchased_nanos=row.purchased_nanos,
                used_nanos=row.used_nanos,
                cap_percents=row.cap_percents,
                credits_low_percent=row.credits_low_percent,
                cap_scopes=row.cap_scopes,
                last_purchase_nanos=row.last_purchase_nanos,
                credits_version=row.credits_version,
                stopped_since=row.stopped_since,
            )
    return found


def _load_members(
    connection: Connection, generation: int, keys: Collection[tuple[str, str]], view: View
) -> None:
    by_keys = dialect_of(connection).by_keys
    for row in by_keys(connection, member, ("organization", "member"), keys, generation):
        view.members[row.organization, row.member] = value_of(MemberRow, row)


def _load_publications(
    connection: Connection, generation: int, partitions: Collection[int], view: View
) -> None:
    columns = price_publication.c
    rows = connection.execute(
        select(price_publication)
        .where(columns.generation == generation, columns.log_partition.in_(sorted(partitions)))
        .order_by(columns.log_partition, columns.log_offset)
    )
    seen: dict[int, list[PublicationRow]] = {partition: [] for partition in partitions}
    for row in rows:
        publication = value_of(PublicationRow, row)
        view.publications[row.log_partition, row.publication_id] = publication
        seen[row.log_partition].append(publication)
    for partition, publications in seen.items():
        view.cards[partition] = rate_card(
            tuple(row.value for row in publications),
            frozenset(
                row.publication_id for row in publications if row.withdrawn_offset is not None
            ),
        )


@lru_cache(maxsize=64)
def rate_card(published: tuple[bytes, ...], withdrawn: frozenset[str]) -> RateCard:
    """The rate card of these publications, in the order in which a partition saw them."""
    card = RateCard.EMPTY
    for value in published:
        event = decode(value)
        if not isinstance(event, PricesPublished):
            raise BrokenInvariant("a stored price publication isn't one")
        card = card.published(event)
    for publication_id in sorted(withdrawn):
        card = card.withdrawn(publication_id)
    return card


def value_of(kind: type[Value], row: AnyRow) -> Value:
    """A row without its generation; the value's fields stand in the order of the table's columns."""
    return kind(*tuple(row)[1:])


def _chunks(keys: Iterable[Key]) -> Iterator[list[Key]]:
    rest = iter(keys)
    while chunk := list(islice(rest, KEYS_A_QUERY)):
        yield chunk
