"""However the log is cut into batches or delivered again: the same is told, and nothing twice (R26)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger.telling import LOG, NEXT_PERIOD, PRICES, Organization, fold, forget, told
from ledger.test_sqlite_ledger import open_ledger
from support.events import NOON

from tollkeeper.events.codec import Event, encode
from tollkeeper.events.organization import CreditsPurchased
from tollkeeper.events.quarantine import QuarantineReleased
from tollkeeper.ledger import fold_notifying
from tollkeeper.ledger.migrate import migrate
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.port import LogRecord
from tollkeeper.outbox.database import open_engine, reading
from tollkeeper.replay.comparing import differences

Step = Callable[["Story"], Event]


class Story:
    """A log that is written step by step."""

    def __init__(self) -> None:
        self.organizations = {name: Organization(name) for name in ("acme", "shop")}
        self.purchases: dict[str, list[CreditsPurchased]] = {"acme": [], "shop": []}
        self.now = NOON
        self.records: list[LogRecord] = []
        self.write(PRICES)
        self.write(self.organizations["acme"].opened("sales_assisted"))
        self.write(self.organizations["shop"].opened())

    def write(self, event: Event) -> None:
        record = LogRecord(0, len(self.records), b"k", encode(event), self.now)
        self.records.append(record)

    def turn_to_next_period(self) -> None:
        self.now = NEXT_PERIOD

    def organization(self, name: str) -> Organization:
        found = self.organizations[name]
        found.now = self.now
        return found


names = st.sampled_from(["acme", "shop"])
members = st.sampled_from(["ann", "bob"])
amounts = st.sampled_from([0, 5, 10, 20, 40])
caps = st.one_of(amounts, st.sampled_from(["unlimited", "inherit"]))
limits = st.sampled_from(["organization_cap", "member_cap", "credits"])
steps = st.one_of(
    st.tuples(st.just("usage"), names, amounts, members),
    st.tuples(st.just("usage"), names, amounts, members),
    st.tuples(st.just("usage"), names, amounts, members),
    st.tuples(st.just("unpriced"), names),
    st.tuples(st.just("release"), st.integers(3, 12)),
    st.tuples(st.just("cap"), names, caps, st.sampled_from([None, "ann", "bob"])),
    st.tuples(st.just("default_cap"), names, caps),
    st.tuples(st.just("thresholds"), names, st.sampled_from([(), (50,), (75, 90, 100)])),
    st.tuples(st.just("bought"), st.just("shop"), st.sampled_from([5, 10, 40])),
    st.tuples(st.just("voided"), st.just("shop"), st.integers(0, 3)),
    st.tuples(st.just("reached"), names, limits, amounts, members),
    st.tuples(st.just("reached"), names, limits, amounts, members),
    st.tuples(st.just("added"), names, members, st.sampled_from(["admin", "member"])),
    st.tuples(st.just("role"), names, members, st.sampled_from(["admin", "member"])),
    st.just(("next_period",)),
)
stories = st.lists(steps, min_size=1, max_size=30)


def written(items: list[tuple[Any, ...]]) -> list[LogRecord]:
    story = Story()
    for verb, *rest in items:
        if verb == "next_period":
            story.turn_to_next_period()
        elif verb == "release":
            place = {"letter_partition": 0, "letter_offset": rest[0]}
            said = {"command_id": "c", "actor": "operator", "occurred_at": story.now}
            story.write(QuarantineReleased(**place, **said))  # type: ignore[arg-type]  # mixed values
        else:
            _write_about(story, verb, *rest)
    return story.records


def _write_about(story: Story, verb: str, name: str, *rest: Any) -> None:
    organization = story.organization(name)
    match verb:
        case "voided":
            bought = story.purchases[name]
            if rest[0] < len(bought):
                story.write(organization.voided(bought.pop(rest[0])))
        case "unpriced":
            usage = organization.usage(7)
            story.write(type(usage)(**{**_fields(usage), "occurred_at": NOON + 10**13}))
        case "thresholds":
            story.write(organization.thresholds(*rest[0]))
        case _:
            event = getattr(organization, verb)(*rest)
            if isinstance(event, CreditsPurchased):
                story.purchases[name].append(event)
            story.write(event)


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLedger]:
    ledger = open_ledger(Path(tmp_path_factory.mktemp("telling")))
    ledger.begin_generation(NOON, partitions=1, log_identity=LOG)  # the live one, unused
    yield ledger
    ledger.close()


def all_told(ledger: SqlLedger, batches: list[list[LogRecord]]) -> tuple[int, list[dict[str, Any]]]:
    """Fold the batches into a new generation as the live fold does; answers it and what was told."""
    forget(ledger)
    generation = ledger.begin_generation(NOON, partitions=1, log_identity=LOG)
    count = sum(fold(ledger, generation, batch, is_live=True).notifications for batch in batches)
    found = told(ledger)
    assert count == len(found)
    return generation, found


relaxed = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(items=stories, cuts=st.sets(st.integers(1, 33)))
def test_r26_the_size_of_batches_does_not_matter(
    ledger: SqlLedger, items: list[tuple[Any, ...]], cuts: set[int]
) -> None:
    records = written(items)
    edges = [0, *sorted(cut for cut in cuts if cut < len(records)), len(records)]
    cut = [records[a:b] for a, b in itertools.pairwise(edges)]
    first, at_once = all_told(ledger, [records])
    second, in_pieces = all_told(ledger, cut)
    third, one_by_one = all_told(ledger, [[record] for record in records])
    assert at_once == in_pieces == one_by_one
    with reading(ledger.engine) as connection:
        assert differences(connection, first, second) == differences(connection, first, third) == []
    forget(ledger, first, second, third)


@relaxed
@given(items=stories, data=st.data())
def test_r26_redelivery_tells_nothing_twice(
    ledger: SqlLedger, items: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    records = written(items)
    batches = []
    for end in range(1, len(records) + 1, data.draw(st.integers(1, 9))):
        batches.append(records[data.draw(st.integers(0, end - 1)) : end])
    batches += [records, records[len(records) // 2 :]]
    once, expected = all_told(ledger, [records])
    often, found = all_told(ledger, batches)
    assert found == expected
    again = ledger.begin_generation(NOON, partitions=1, log_identity=LOG)
    assert fold(ledger, again, records, is_live=True).notifications == 0
    assert told(ledger) == expected
    forget(ledger, once, often, again)


@relaxed
@given(items=stories, size=st.integers(1, 12))
def test_the_short_way_past_organizations_without_news_misses_none(
    ledger: SqlLedger, items: list[tuple[Any, ...]], size: int
) -> None:
    records = written(items)
    batches = [records[at : at + size] for at in range(0, len(records), size)]
    short, found = all_told(ledger, batches)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            fold_notifying,
            "_passing",
            lambda _view, changes, _reads, _moved: {name for name, _, _ in changes.spent},
        )
        long, expected = all_told(ledger, batches)
    assert found == expected
    with reading(ledger.engine) as connection:
        assert differences(connection, short, long) == []
    forget(ledger, short, long)


STORY: list[tuple[Any, ...]] = [
    ("added", "acme", "bob", "admin"),
    ("default_cap", "acme", 20),
    ("cap", "acme", 40, None),
    ("bought", "shop", 40),
    ("usage", "acme", 20, "ann"),
    ("usage", "shop", 40, "bob"),
    ("reached", "shop", "credits", 40, "bob"),
    ("reached", "acme", "member_cap", 20, "ann"),
    ("usage", "acme", 20, "bob"),
    ("reached", "acme", "organization_cap", 40, "bob"),
    ("default_cap", "acme", 10),
    ("cap", "acme", "unlimited", "ann"),
    ("bought", "shop", 10),
    ("voided", "shop", 0),
    ("unpriced", "acme"),
    ("next_period",),
    ("usage", "acme", 5, "bob"),
    ("release", 17),
    ("usage", "acme", 5, "bob"),
]


@pytest.mark.parametrize("size", [1, 5, 100])
def test_r26_both_databases_tell_the_same(
    ledger: SqlLedger, postgresql_url: str, size: int
) -> None:
    records = written(STORY)
    batches = [records[at : at + size] for at in range(0, len(records), size)]
    server = SqlLedger(open_engine(postgresql_url))
    migrate(server.engine)
    server.begin_generation(NOON, partitions=1, log_identity=LOG)
    here, expected = all_told(ledger, batches)
    there, found = all_told(server, batches)
    assert found == expected
    assert len({one["kind"] for one in found}) == 5
    forget(ledger, here)
    forget(server, there)
    server.close()
