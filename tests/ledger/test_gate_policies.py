"""The gate's policies in the ledger: the newest of each counts, and every change raises the version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger.test_sqlite_ledger import open_ledger
from support.events import NOON, opened, prices

from tollkeeper.events.codec import Event, encode
from tollkeeper.events.gate import DefaultGatePolicySet
from tollkeeper.events.organization import GatePolicySet
from tollkeeper.ledger.apply import fold_round
from tollkeeper.ledger.batch import prepare, rounds
from tollkeeper.ledger.policies import GatePolicyRow, gate_policies, policy_in_force
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import LogRecord
from tollkeeper.outbox.database import reading

PARTITIONS = 2
LOG = "log-1"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    ledger = open_ledger(tmp_path)
    ledger.begin_generation(NOON, partitions=PARTITIONS, log_identity=LOG)
    yield ledger
    ledger.close()


def policy(version: int, name: str, **fields: int) -> GatePolicySet:
    return GatePolicySet(
        organization="acme",
        version=version,
        command_id=f"c-{version}",
        actor="operator",
        occurred_at=NOON,
        policy=name,  # type: ignore[arg-type]  # one of the words
        **fields,
    )


def default(version: int, name: str) -> DefaultGatePolicySet:
    return DefaultGatePolicySet(
        version=version,
        policy=name,  # type: ignore[arg-type]  # one of the words
        command_id=f"d-{version}",
        actor="operator",
        occurred_at=NOON,
    )


class Log:
    """Appends to partitions and folds at once."""

    def __init__(self, ledger: SqlLedger) -> None:
        self.ledger = ledger
        self.ends = dict.fromkeys(range(PARTITIONS), 0)

    def take(self, event: Event, partition: int) -> None:
        offset = self.ends[partition]
        record = LogRecord(partition, offset, None, encode(event), NOON)
        self.ends[partition] += 1
        for taken in rounds(prepare([record], {partition: offset})):
            with self.ledger.transaction() as transaction:
                counts = fold_round(
                    transaction, 1, taken, partition_count=PARTITIONS, log_identity=LOG
                )
            assert counts is not None and counts.counts.dead_letters == 0


@pytest.fixture
def log(ledger: SqlLedger) -> Log:
    log = Log(ledger)
    log.take(prices(), HOME)
    log.take(opened(), HOME)
    return log


HOME = partition_for("acme", PARTITIONS)


def found(log: Log) -> tuple[int, list[tuple[str, str]]]:
    with reading(log.ledger.engine) as connection:
        version, rows = gate_policies(connection)
    return version, [(row.organization, row.policy) for row in rows]


def test_without_any_there_is_nothing_to_publish(log: Log) -> None:
    assert found(log) == (0, [])


def test_the_newest_of_each_counts_and_the_version_grows(log: Log) -> None:
    seen = []
    changes: list[tuple[Event, int]] = [
        (default(1, "observe"), 0),
        (policy(2, "open", ceiling_nanos=5, until=NOON + 1), HOME),
        (default(2, "closed"), 1),
        (policy(3, "inherit"), HOME),
    ]
    for event, partition in changes:
        log.take(event, partition)
        seen.append(found(log))
    assert seen == [
        (1, [("*", "observe")]),
        (3, [("*", "observe"), ("acme", "open")]),
        (4, [("*", "closed"), ("acme", "open")]),
        (5, [("*", "closed")]),
    ]


def test_an_older_default_that_arrives_again_changes_nothing(log: Log) -> None:
    """Two relays may both send: the first one's repetition stands behind the second fact."""
    for version, name in [(1, "observe"), (2, "closed"), (1, "observe"), (2, "closed")]:
        log.take(default(version, name), 0)
    assert found(log) == (2, [("*", "closed")])


def test_a_row_says_all_that_the_gate_needs(log: Log) -> None:
    log.take(policy(2, "open", ceiling_nanos=5, until=NOON + 1), HOME)
    with reading(log.ledger.engine) as connection:
        _, rows = gate_policies(connection)
    assert rows == (GatePolicyRow("acme", "open", 5, NOON + 1),)


@pytest.mark.parametrize(
    ("now", "of_acme", "of_others"),
    [
        (9, "open", "observe"),
        (10, "observe", "observe"),
        (19, "observe", "observe"),
        (20, None, None),
    ],
)
def test_a_policy_holds_until_its_end_and_then_the_default(
    now: int, of_acme: str | None, of_others: str | None
) -> None:
    rows = [GatePolicyRow("*", "observe", None, 20), GatePolicyRow("acme", "open", 5, 10)]
    found = [policy_in_force(rows, name, now) for name in ("acme", "other")]
    assert [None if one is None else one.policy for one in found] == [of_acme, of_others]
