"""Everything at once on one PostgreSQL: what READ COMMITTED allows to interleave must come out as one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from on_kafka.installation import PARTITIONS, Installation, load, organization_of
from on_postgresql.buying import Buyer
from on_postgresql.conftest import Install
from replay.histories import replayed
from sqlalchemy import event, select, text
from support import homes
from support.waiting import eventually

from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.errors import Unavailable
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import generation
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Done
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.settings import PipelineSettings
from tollkeeper.rating.files import read_price_file
from tollkeeper.reports.balance import balance

SEED = 61
ENDED_S = 120
PRICES = """publication_id = "{name}"
source = "test"
source_date = "2026-11-01"
effective_from = "2033-01-01T00:00:00Z"
[[prices]]
models = ["{name}"]
input = "1"
"""


def at_once(*works: Callable[[], object]) -> list[object]:
    """Run them in threads; what one of them raises is the test's failure."""
    with ThreadPoolExecutor(len(works)) as threads:
        return [future.result(ENDED_S) for future in [threads.submit(work) for work in works]]


def children(installation: Installation, *commands: tuple[str, ...]) -> list[tuple[int, str, str]]:
    """Run the command lines as processes at once; exit code, output and errors of each."""
    started = [
        subprocess.Popen(
            homes.command(*command),
            env=installation.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    try:
        ended = [child.communicate(timeout=ENDED_S) for child in started]
    finally:
        for child in started:
            child.kill()
            child.wait()
    return [(child.returncode, *said) for child, said in zip(started, ended, strict=True)]


def test_setups_of_many_machines_make_one_database(sql_url: str, tmp_path: Path) -> None:
    """A home each, so that no lock on a file helps; the log is one of them's, and theirs."""
    apps = [
        App(
            load_settings(
                {"TOLLKEEPER_HOME": str(tmp_path / f"home-{number}"), "TOLLKEEPER_SQL": sql_url}
            )
        )
        for number in range(5)
    ]
    for app in apps[1:]:
        app.__dict__["log"] = apps[0].log
    try:
        at_once(*(app.set_up for app in apps))
        with reading(apps[0].engine) as connection:
            assert connection.execute(select(generation.c.status)).scalars().all() == ["live"]
            published = connection.execute(
                text("SELECT stream, count(*) FROM decided_event GROUP BY stream")
            ).all()
        assert len(published) == apps[0].log.partition_count
        assert len({count for _, count in published}) == 1
        homes.fold(apps[0])
        assert replayed(apps[0]).agrees
    finally:
        for app in apps:
            app.close()


def test_one_key_from_many_processes_buys_once(installation: Installation) -> None:
    buy = ("credits", "buy", organization_of(0), "5", "--idempotency-key", "k", "--json")
    ended = children(installation, *[buy] * 6)
    assert [code for code, _, _ in ended] == [0] * 6, ended
    assert len({json.loads(out)["purchase_id"] for _, out, _ in ended}) == 1
    installation.fold()
    assert purchased(installation, 0) == 5 * 10**9


def purchased(installation: Installation, partition: int) -> int:
    app = installation.app
    with reading(app.engine) as connection:
        return balance(
            connection, app.log, organization_of(partition), now=app.clock()
        ).purchased_nanos


@pytest.mark.soak
def test_prices_published_while_others_fold_reach_every_partition_once(
    installation: Installation, tmp_path: Path
) -> None:
    files = []
    for name in ("one", "two", "three"):
        files.append(tmp_path / f"{name}.toml")
        files[-1].write_text(PRICES.format(name=name))
    for _ in range(2):
        installation.consumer()
    installation.job("relay")
    usages = list(load(SEED, 2_000))
    homes.emit(installation.app, usages)
    publish = [
        ("prices", "publish", str(path), "--yes", "--json", "--idempotency-key", path.stem)
        for path in files
    ]
    ended = children(installation, *publish, *publish)
    assert [code for code, _, _ in ended] == [0] * 6, ended
    installation.wait_until_folded()
    installation.assert_charged(usages)
    with reading(installation.app.engine) as connection:
        found = connection.execute(
            text("SELECT publication_id, count(*) FROM price_publication GROUP BY publication_id")
        )
        counts = {name: count for name, count in found if name in ("one", "two", "three")}
    assert counts == dict.fromkeys(("one", "two", "three"), PARTITIONS)
    assert deadlocks(installation) == 0


@pytest.mark.soak
@pytest.mark.parametrize("rounds", [12])
def test_rebuilds_swap_while_others_fold_buy_and_relay(
    installation: Installation, rounds: int
) -> None:
    """Two rebuilds at once each round: one of them may be overtaken, none may spoil anything."""
    for _ in range(2):
        installation.consumer()
    installation.job("relay")
    service = installation.service(SEED, 400)
    buyer = Buyer(installation.opened(), organization_of(0))
    swapped = 0
    with buyer.buying():
        for _ in range(rounds):
            ended = children(installation, *[("rebuild", "--swap", "--json")] * 2)
            for code, out, errors in ended:
                assert code == 0 or (code == 3 and "another replay" in errors), (code, out, errors)
                swapped += code == 0 and json.loads(out)["swapped"]
    accepted = service.stop()
    installation.wait_until_folded()
    installation.assert_charged(accepted)
    buyer.assert_bought(installation)
    assert swapped >= rounds
    with reading(installation.app.engine) as connection:
        live = live_generation(connection)
        rest = select(generation.c.generation).where(generation.c.status != "dropped")
        assert connection.execute(rest).scalars().all() == [live]


def test_folds_that_all_believe_to_own_everything_charge_each_once(install: Install) -> None:
    """Five members of groups of their own, in threads: nothing but SQL keeps them apart."""
    installation = install()
    installation.set_up()
    usages = list(load(SEED, 6_000))
    homes.emit(installation.app, usages)
    total = sum(installation.app.log.end_offsets().values())

    def fold(number: int) -> int:
        app = installation.opened()
        settings = PipelineSettings(group=f"group-{number}", max_records=300)
        pipeline = Pipeline(app.log, app.ledger, monotonic=lambda: 0.0, settings=settings)
        for _ in range(total):  # bounded: a step folds something or finds out it was overtaken
            if sum(installation.next_offsets().values()) == total:
                break
            try:
                pipeline.step()
            except Unavailable as away:
                assert "broke" in str(away), away
        pipeline.close()
        return pipeline.totals.records

    folded = at_once(*(lambda number=number: fold(number) for number in range(5)))
    assert sum(map(int, map(str, folded))) == total
    installation.assert_charged(usages)


def test_relays_and_folds_write_the_same_decisions_without_a_deadlock(
    installation: Installation,
) -> None:
    """Three relays and a fold acknowledge what two owners decide; each of them in the same order."""
    for _ in range(3):
        installation.job("relay")
    installation.consumer()
    buyers = [Buyer(installation.opened(), organization_of(number)) for number in range(2)]
    with buyers[0].buying(), buyers[1].buying():
        homes.emit(installation.app, list(load(SEED, 4_000)))
        eventually(lambda: homes.charged(installation.app) == 4_000, 60, what="all is charged")
    installation.wait_until_folded()
    for number, buyer in enumerate(buyers):
        assert buyer.bought > 3
        assert buyer.interrupted == 0
        assert purchased(installation, number) == buyer.bought * 10**9
    assert deadlocks(installation) == 0
    installation.assert_replays()


def test_every_writer_goes_through_decisions_by_stream(installation: Installation) -> None:
    """Commands, relay and fold: two orders would be a deadlock, sooner or later."""
    orders: list[list[str]] = [[]]

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith(("UPDATE decided_event", "INSERT INTO decided_event")):
            rows = parameters if isinstance(parameters, list) else [parameters]
            orders[-1] += [
                value
                for row in rows
                for name, value in row.items()
                if name.startswith("stream") and isinstance(value, str)
            ]

    app = installation.app
    event.listen(app.engine, "before_cursor_execute", note)
    event.listen(app.engine, "commit", lambda _connection: orders.append([]))
    proposal = read_price_file(PRICES.format(name="brand-new"))
    outcome = app.prices.publish(proposal, actor="operator", command_id="k")
    assert isinstance(outcome, Done)
    installation.fold()
    several = [streams for streams in orders if len(streams) > 1]
    assert len(several) >= 3
    assert all(streams == sorted(streams) for streams in several), several


def deadlocks(installation: Installation) -> int:
    with reading(installation.app.engine) as connection:
        found = connection.execute(
            text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
        return int(found.scalar_one())
