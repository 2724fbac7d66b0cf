"""Telling product services through Redis what they need of SQL: rate cards, and what to do without the gate.

A publication is the whole of its kind under a version that only grows, so that an older one that comes
late is ignored. Who knows of another kind adds a `Source`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Connection, func, select

from tollkeeper.enforcement.means import Means
from tollkeeper.errors import TollkeeperError
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.amounts import purchased_micros
from tollkeeper.gate.commands import Kind
from tollkeeper.ledger.enforcing import read_epochs
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.policies import gate_policies
from tollkeeper.ledger.tables import price_publication
from tollkeeper.outbox.database import reading

Read = Callable[[Connection, int], Sequence[str]]


class Source(msgspec.Struct, frozen=True):
    """Where a kind comes from: its version, 0 as long as there is nothing, and its items, by generation."""

    kind: Kind
    version: Callable[[Connection, int], int]
    items: Read


class Publisher:
    """Publishes at every primary; any number of consumers do. Raises Unavailable from `tick`."""

    def __init__(self, means: Means, sources: Sequence[Source] | None = None) -> None:
        self._means = means
        self._sources = SOURCES if sources is None else tuple(sources)
        self._told: dict[tuple[str, int, Kind], int] = {}

    def tick(self) -> bool:
        """Publish what is newer than what was told; whether every primary has the newest now."""
        is_all = True
        tags = self._means.functions.tags()  # one that the cluster has no more still has its row
        with reading(self._means.engine) as connection:
            number = live_generation(connection)
            epochs = {tag: row.epoch for tag, row in read_epochs(connection).items() if tag in tags}
            newest = {one.kind: one.version(connection, number) for one in self._sources}
            due = [
                (tag, epoch, one)
                for tag, epoch in epochs.items()
                for one in self._sources
                if self._told.get((tag, epoch, one.kind), 0) < newest[one.kind]
            ]
            items = {one.kind: one.items(connection, number) for _, _, one in due}
        calls = [
            encoding.publish(epoch, one.kind, newest[one.kind], items[one.kind], tag=tag)
            for tag, epoch, one in due
        ]
        answers = self._means.functions.run_many(calls)
        for (tag, epoch, source), answer in zip(due, answers, strict=True):
            if isinstance(answer, a.Untrusted):
                # The epoch hasn't begun yet, or another version of the functions decides.
                is_all = False
            elif not isinstance(answer, TollkeeperError):
                self._told[tag, epoch, source.kind] = newest[source.kind]
                self._means.observer.published(tag, source.kind, newest[source.kind])
        for answer in answers:  # once all that answer are told
            if isinstance(answer, TollkeeperError):
                raise answer
        return is_all


def _price_facts(connection: Connection, number: int) -> tuple[int, int]:
    """How many facts about prices the partition has seen that has seen most, and which one that is."""
    columns = price_publication.c
    facts = func.count() + func.count(columns.withdrawn_offset)
    row = connection.execute(
        select(facts, columns.log_partition)
        .where(columns.generation == number)
        .group_by(columns.log_partition)
        .order_by(facts.desc(), columns.log_partition)
        .limit(1)
    ).first()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def prices_version(connection: Connection, number: int) -> int:
    """Publications and withdrawals are facts in one order, and none is ever taken back."""
    return _price_facts(connection, number)[0]


def price_items(connection: Connection, number: int) -> list[str]:
    """Each PricesPublished that stands, as on the log, in base64, in the log's order."""
    columns = price_publication.c
    rows = connection.execute(
        select(columns.value)
        .where(
            columns.generation == number,
            columns.log_partition == _price_facts(connection, number)[1],
            columns.withdrawn_offset.is_(None),
        )
        .order_by(columns.log_offset)
    )
    return [b64encode(row[0]).decode() for row in rows]


PRICES = Source("prices", prices_version, price_items)


def policies_version(connection: Connection, number: int) -> int:
    """See `ledger.policies`."""
    return gate_policies(connection)[0]


def policy_items(connection: Connection, number: int) -> list[str]:
    """`ORGANIZATION,POLICY,CEILING_MICROS,UNTIL_MICROS`, `-` where there is none; `*` is everybody."""
    return [
        ",".join(
            (
                one.organization,
                one.policy,
                "-" if one.ceiling_nanos is None else str(purchased_micros(one.ceiling_nanos)),
                "-" if one.until is None else str(one.until),
            )
        )
        for one in gate_policies(connection)[1]
    ]


POLICIES = Source("policies", policies_version, policy_items)
SOURCES = (PRICES, POLICIES)
