"""However the log is cut into batches, delivered again or shuffled: the ledger is the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger.test_sqlite_ledger import open_ledger
from sqlalchemy import delete
from support.events import MODEL, NOON, added, bought, opened, prices, removed, usage, voided

from tollkeeper.events.codec import Event, decode, encode
from tollkeeper.events.prices import PricesWithdrawn
from tollkeeper.events.quarantine import QuarantineDiscarded, QuarantineReleased
from tollkeeper.ledger.apply import fold_round
from tollkeeper.ledger.batch import prepare, rounds
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import LogRecord
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.tables import decided_event
from tollkeeper.replay.comparing import differences, untied

PARTITIONS = 2
LOG = "log-1"
ORGANIZATIONS = ("acme", "globex", "initech")
LATE_MODEL = "claude-late"

events = st.one_of(
    st.builds(
        usage,
        event_id=st.sampled_from([f"e-{n}" for n in range(6)]),
        organization=st.sampled_from(ORGANIZATIONS),
        member=st.sampled_from(["ann", "bob"]),
        model=st.sampled_from([MODEL, MODEL, LATE_MODEL]),
        input_tokens=st.sampled_from([1_000, 2_000]),
        occurred_at=st.sampled_from([NOON, NOON + 86_400_000_000, NOON + 10**12]),
    ),
    st.builds(opened, st.sampled_from(ORGANIZATIONS)),
    st.builds(added, st.sampled_from(ORGANIZATIONS), st.integers(1, 4), st.just("bob")),
    st.builds(removed, st.sampled_from(ORGANIZATIONS), st.integers(2, 4), st.just("bob")),
    st.builds(bought, st.sampled_from(ORGANIZATIONS), st.integers(2, 4)),
    st.builds(
        voided, st.sampled_from(ORGANIZATIONS), st.integers(3, 5), st.sampled_from(["purchase-2"])
    ),
)
decisions = st.tuples(st.sampled_from(["release", "discard", "release twice"]), st.integers(0, 9))
"""What is decided, and how far back the record stands that it is about."""
garbage = st.binary(max_size=12)
prices_later = st.sampled_from(["p-2", "p-3"])
withdrawals = st.sampled_from(["withdraw p-2", "withdraw p-3"])
entries = st.lists(
    st.one_of(events, events, events, decisions, garbage, prices_later, withdrawals),
    min_size=1,
    max_size=40,
)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLedger]:
    ledger = open_ledger(Path(tmp_path_factory.mktemp("ledger")))
    ledger.begin_generation(NOON, partitions=PARTITIONS, log_identity=LOG)  # the live one, unused
    yield ledger
    ledger.close()


def written(items: list[object]) -> list[LogRecord]:
    """The items as a log of two partitions; every partition begins with the prices."""
    log: dict[int, list[LogRecord]] = {0: [], 1: []}

    def append(partition: int, value: bytes, key: bytes | None) -> None:
        record = LogRecord(partition, len(log[partition]), key, value, NOON + len(log[partition]))
        log[partition].append(record)

    for partition in range(PARTITIONS):
        append(partition, encode(prices()), None)
    for item in items:
        for partition, value, key in _placed(item, log):
            append(partition, value, key)
    return [record for records in log.values() for record in records]


def _placed(
    item: object, log: dict[int, list[LogRecord]]
) -> Iterator[tuple[int, bytes, bytes | None]]:
    if isinstance(item, bytes):
        yield len(item) % PARTITIONS, item, None
    elif isinstance(item, str):
        for partition in range(PARTITIONS):
            yield partition, encode(_price_event(item)), None
    elif isinstance(item, tuple):
        verb, place = item
        partition = place % PARTITIONS
        offset = max(0, len(log[partition]) - 1 - place // PARTITIONS)
        for _ in range(2 if verb == "release twice" else 1):  # the relay sends at least once
            yield partition, encode(_decision(verb.split()[0], partition, offset)), None
    else:
        organization = item.organization  # type: ignore[attr-defined]  # a usage or organization event
        partition = partition_for(organization, PARTITIONS)
        yield partition, encode(item), organization.encode()  # type: ignore[arg-type]  # as above


def _price_event(item: str) -> Event:
    if item.startswith("withdraw "):
        return PricesWithdrawn(
            publication_id=item.split()[1], command_id="c", actor="operator", occurred_at=NOON
        )
    row = prices().prices[0]
    late = type(row)(model=LATE_MODEL, input_picos=1_500, output_picos=1)
    return prices(publication_id=item, prices=(late,))


def _decision(verb: str, partition: int, offset: int) -> Event:
    place = {"letter_partition": partition, "letter_offset": offset}
    said = {"command_id": "c", "actor": "operator", "occurred_at": NOON}
    if verb == "release":
        return QuarantineReleased(**place, **said)  # type: ignore[arg-type]  # mixed values
    return QuarantineDiscarded(reason="no", **place, **said)  # type: ignore[arg-type]  # as above


def fold_all(ledger: SqlLedger, batches: list[list[LogRecord]]) -> int:
    """Fold the batches into a new generation, the way the pipeline does."""
    generation = ledger.begin_generation(NOON, partitions=PARTITIONS, log_identity=LOG)
    for batch in batches:
        with ledger.transaction() as transaction:
            reached = transaction.positions(generation)
        known = {partition: position.next_offset for partition, position in reached.items()}
        prepared = prepare(batch, known)
        for taken in rounds(prepared):
            with ledger.transaction() as transaction:
                folded = fold_round(
                    transaction, generation, taken, partition_count=PARTITIONS, log_identity=LOG
                )
                assert folded is not None
    return generation


def compare(ledger: SqlLedger, one: int, other: int) -> None:
    with reading(ledger.engine) as connection:
        assert [each.describe() for each in differences(connection, one, other)] == []
        assert untied(connection, one) == []


def drop(ledger: SqlLedger, *generations: int) -> None:
    """Forget this log whole: what was decided stays when a generation goes, and the next log is another."""
    for generation in generations:
        ledger.drop_generation(generation)
    with ledger.engine.begin() as connection:
        connection.execute(delete(decided_event))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=entries, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_the_size_of_batches_does_not_matter(
    ledger: SqlLedger, items: list[object], sizes: list[int]
) -> None:
    records = written(items)
    cycle, rest, batches = itertools.cycle(sizes), list(records), []
    while rest:
        size = next(cycle)
        batches.append(rest[:size])
        rest = rest[size:]
    at_once, in_pieces = fold_all(ledger, [records]), fold_all(ledger, batches)
    compare(ledger, at_once, in_pieces)
    drop(ledger, at_once, in_pieces)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=entries, data=st.data())
def test_redelivery_in_any_order_is_the_same_as_once(
    ledger: SqlLedger, items: list[object], data: st.DataObject
) -> None:
    records = written(items)
    batches = []
    for end in range(1, len(records) + 1, data.draw(st.integers(1, 15))):
        again = data.draw(st.integers(0, end - 1))
        batch = records[again:end] + records[again : data.draw(st.integers(again, end))]
        batches.append(data.draw(st.permutations(batch)))
    batches.append(data.draw(st.permutations(records)))
    once, often = fold_all(ledger, [records]), fold_all(ledger, batches)
    compare(ledger, once, often)
    drop(ledger, once, often)


CONFLICT = [opened(), usage(), usage(input_tokens=2_000)]
REPEATED = [opened(), usage(model=LATE_MODEL), usage(model=LATE_MODEL)]


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([*CONFLICT, ("discard", 2)], id="a conflict is discarded"),
        pytest.param([*CONFLICT, ("release", 2)], id="a conflict is released"),
        pytest.param([*CONFLICT, ("release", 2), ("release", 2)], id="a conflict released twice"),
        pytest.param([*REPEATED, ("discard", 1)], id="the first of two is discarded"),
        pytest.param([*REPEATED[:2], ("discard", 1), REPEATED[2]], id="discarded, then repeated"),
        pytest.param([*REPEATED, "p-2", ("release", 1)], id="released once it has a price"),
        pytest.param([*REPEATED[:2], ("release", 1), ("release", 1)], id="in vain, twice"),
        pytest.param([usage(), opened(), ("release", 0)], id="released once it is open"),
        pytest.param([usage(), opened(), ("release", 0), ("release", 0)], id="released twice"),
        pytest.param(
            [usage(), opened(), ("discard", 0), usage(), ("release", 0)],
            id="discarded, then delivered again where it could be charged",
        ),
        pytest.param(
            [usage(), opened(), ("release", 2), ("release", 2)],
            id="a release that is about itself, released",
        ),
        pytest.param(
            [usage(), ("release", 2), ("release", 1), ("release", 1), ("discard", 2)],
            id="two releases that are about each other, released and discarded",
        ),
    ],
)
def test_decisions_about_letters_fold_alike_in_one_batch_and_one_by_one(
    ledger: SqlLedger, items: list[object]
) -> None:
    """A decision names the place of the record in the list; all of them are on one partition."""
    partition = partition_for("acme", PARTITIONS)
    placed = [
        (one[0], (number - one[1] - 1) * PARTITIONS + partition) if isinstance(one, tuple) else one
        for number, one in enumerate(items)
    ]
    records = written(placed)
    for number, one in enumerate(items):
        if isinstance(one, tuple):
            decision = decode([r for r in records if r.partition == partition][number + 1].value)
            assert isinstance(decision, QuarantineReleased | QuarantineDiscarded)
            assert decision.letter_offset == one[1] + 1  # behind the prices
    at_once, one_by_one = fold_all(ledger, [records]), fold_all(ledger, [[one] for one in records])
    compare(ledger, at_once, one_by_one)
    drop(ledger, at_once, one_by_one)
