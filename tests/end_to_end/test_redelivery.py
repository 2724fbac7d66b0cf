"""However a log is cut into batches, and whatever is delivered again: the same rows and fingerprints."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replay.histories import fill, load, tables
from support import homes
from support.events import prices

from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.events.codec import encode
from tollkeeper.ledger.migrate import migrate
from tollkeeper.log.port import LogConsumer, LogRecord, Outgoing
from tollkeeper.metering.usage import Usage
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Done
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.settings import PipelineSettings
from tollkeeper.reports.letters import LetterFilter, find_letters


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A log with all that there can be: usage twice, conflicts, garbage, letters released and not."""
    home = tmp_path_factory.mktemp("home")
    with homes.opened_app(home) as app:
        fill(app)
        usages = load(150, seed=12)
        unpriced = [
            msgspec.structs.replace(one, model="priced-later", event_id=f"{one.event_id}-x")
            for one in usages[:30]
        ]
        changed = [msgspec.structs.replace(one, output_tokens=1) for one in usages[:20]]
        homes.emit(app, [*usages, *unpriced, *usages, *unpriced, *changed])
        app.log.append([Outgoing(n % 8, None, bytes([n, 7])) for n in range(16)])
        homes.fold(app)
        _price_and_release(app, unpriced[:10])
        homes.emit(app, [*load(150, seed=13), *unpriced, *usages])
        homes.fold(app)
    yield home


def _price_and_release(app: App, usages: list[Usage]) -> None:
    row = msgspec.structs.replace(prices().prices[0], model="priced-later")
    published = encode(prices(publication_id="later", prices=(row,)))
    app.log.append([Outgoing(n, None, published) for n in range(app.log.partition_count)])
    homes.fold(app)
    wanted = {one.event_id for one in usages}
    with reading(app.engine) as connection:
        found = find_letters(connection, LetterFilter(model="priced-later"))
    places = [one.place for one in found if one.event_id in wanted]
    assert len(places) == len(usages)
    outcome = app.quarantine.release(places, actor="operator", command_id="release-1")
    assert isinstance(outcome, Done)


class Redelivering:
    """A consumer that hands out what it has handed out before, again and in any order."""

    def __init__(self, consumer: LogConsumer, chance: random.Random) -> None:
        self._consumer = consumer
        self._chance = chance
        self._seen: list[LogRecord] = []

    def poll(self, *, max_records: int, timeout_s: float) -> list[LogRecord]:
        records = self._consumer.poll(max_records=max_records, timeout_s=timeout_s)
        self._seen += records
        again = self._chance.choices(self._seen, k=len(records) // 2) if records else []
        delivered = records + again
        self._chance.shuffle(delivered)
        return delivered

    @property
    def assignment(self) -> frozenset[int]:
        return self._consumer.assignment

    @property
    def assignment_epoch(self) -> int:
        return self._consumer.assignment_epoch

    def seek(self, partition: int, offset: int) -> None:
        self._consumer.seek(partition, offset)

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        self._consumer.commit(next_offsets)

    def close(self) -> None:
        self._consumer.close()


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 900), min_size=1, max_size=6))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_batches_and_redelivery_give_the_same_ledger(
    home: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int]
) -> None:
    sql = tmp_path_factory.mktemp("other") / "ledger.sqlite"
    chance = random.Random(seed)
    app = App(load_settings({"TOLLKEEPER_HOME": str(home), "TOLLKEEPER_SQL": f"sqlite:///{sql}"}))
    try:
        migrate(app.engine)
        app.ledger.begin_generation(
            1, partitions=app.log.partition_count, log_identity=app.log.identity
        )
        total, folded = sum(app.log.end_offsets().values()), 0
        for turn in range(total):  # bounded: each turn folds something
            if folded == total:
                break
            folded += _fold_some(app, chance, sizes[turn % len(sizes)], f"group-{seed}-{turn}")
        assert folded == total
        found = tables(app)
    finally:
        app.close()
    with homes.opened_app(home) as live:
        assert found == tables(live)
        assert {row[8] for row in found["organization"]}, "there are fingerprints"


def _fold_some(app: App, chance: random.Random, size: int, group: str) -> int:
    """One member of the group: it folds some batches of at most `size` records, and leaves."""
    fresh = PipelineSettings(group=group, max_records=size, linger_s=0.0, poll_timeout_s=0.0)
    pipeline = Pipeline(app.log, app.ledger, monotonic=lambda: 0.0, settings=fresh)
    pipeline._consumer = Redelivering(pipeline._consumer, chance)
    try:
        for _ in range(chance.randint(4, 12)):
            pipeline.step()
        assert pipeline.halted == {}
        return pipeline.totals.records
    finally:
        pipeline.close()
