"""Whatever is killed, stopped or repeated: every accepted event is charged exactly once.

The children run the real command line on the embedded log, with the ledger in SQLite and in PostgreSQL;
each failpoint stands before or after one effect of the fold.
"""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest
from support import homes
from support.stores import Store
from support.waiting import eventually

from tollkeeper.app.wiring import App
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import BuyCredits, OpenOrganization
from tollkeeper.outbox.database import reading
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.settings import PipelineSettings
from tollkeeper.replay.verify import verify
from tollkeeper.reports.balance import balance
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

EVENTS = 12_000  # three batches
FAILPOINTS = (
    "pipeline.before_begin",
    "pipeline.after_fence",
    "pipeline.after_charges",
    "pipeline.after_fold",
    "pipeline.after_commit",
    "pipeline.after_log_commit",
)


def load(events: int) -> list[Usage]:
    """Seeded usage that ended some weeks ago, so that no test depends on the time of day."""
    return list(
        synthetic(
            SyntheticLoad(seed=7, events=events, organizations=4, ending_at=1_793_880_000_000_000)
        )
    )


@pytest.fixture(scope="module")
def filled(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose log holds every event twice, and nothing folded yet."""
    home = store.new(tmp_path_factory.mktemp("filled"))
    usages = load(EVENTS)
    with homes.opened_app(home) as app:
        _open_all(app)
        homes.emit(app, usages)
        homes.emit(app, usages)
    return home


def _open_all(app: App) -> None:
    for number in range(1, 5):
        homes.handle(
            app,
            OpenOrganization(
                organization=f"org-{number:03d}", plan="enterprise_self_serve", owner="o"
            ),
            BuyCredits(organization=f"org-{number:03d}", credit_nanos=10**12),
        )


def assert_each_is_charged_once(home: Path, events: int) -> None:
    """Through figures, rows and a replay; the sums are made here, from the usage itself."""
    with homes.opened_app(home) as app, reading(app.engine) as connection:
        charged = connection.exec_driver_sql("SELECT count(*), sum(charge_nanos) FROM charge").one()
        assert charged[0] == events
        used = sum(
            balance(connection, app.log, f"org-{number:03d}", now=app.clock()).used_nanos
            for number in range(1, 5)
        )
        assert used == charged[1]
    with homes.opened_app(home) as app:
        report = verify(app.log, app.ledger, now=app.clock(), progress=lambda _records: None)
        assert report.agrees, [one.describe() for one in report.differences]
        assert report.charged_events == events


@pytest.mark.parametrize("failpoint", FAILPOINTS)
@pytest.mark.parametrize("passage", [1, 2])
def test_a_consumer_that_is_killed_charges_each_event_once(
    filled: Path, store: Store, tmp_path: Path, failpoint: str, passage: int
) -> None:
    home = store.copied(filled, tmp_path / "home")
    if failpoint == "pipeline.after_log_commit":
        passage = 1  # progress is published at most once a second, and when it ends
    killed = homes.run(
        home, "consume", "--until-caught-up", failpoints=f"{failpoint}=kill@{passage}"
    )
    assert killed.returncode == homes.KILLED, killed.stderr
    after = homes.run(home, "consume", "--until-caught-up", "--json")
    assert after.returncode == 0, after.stderr
    assert json.loads(after.stdout)["halted"] == []
    assert_each_is_charged_once(home, EVENTS)


def test_a_consumer_stopped_past_its_session_and_overtaken_writes_nothing(
    filled: Path, store: Store, tmp_path: Path
) -> None:
    home = store.copied(filled, tmp_path / "home")
    zombie = homes.start(
        home, "consume", "--until-caught-up", "--json", failpoints="pipeline.before_begin=stop@2"
    )
    try:
        eventually(lambda: _state(zombie.pid) == "T", 30, what="the consumer stops itself")
        overtaker = homes.run(home, "consume", "--until-caught-up", "--json")
        assert overtaker.returncode == 0, overtaker.stderr
        os.kill(zombie.pid, signal.SIGCONT)
        output, errors = zombie.communicate(timeout=60)
    finally:
        zombie.kill()
        zombie.wait()
    assert zombie.returncode == 0, errors
    folded = [json.loads(text)["charged"] for text in (output, overtaker.stdout)]
    assert sum(folded) == EVENTS  # what the zombie had in hand when it woke was folded by the other
    assert 0 < folded[0] < EVENTS
    assert_each_is_charged_once(home, EVENTS)


def test_consumers_of_one_group_share_the_work_and_take_over_from_a_killed_one(
    filled: Path, store: Store, tmp_path: Path
) -> None:
    home = store.copied(filled, tmp_path / "home")
    children = [homes.start(home, "run", "--only", "consume") for _ in range(2)]
    try:
        with homes.opened_app(home) as app:
            eventually(lambda: homes.charged(app) > 0, 30, what="somebody folds")
            children[0].kill()
            homes.emit(app, load(EVENTS + 2_000)[EVENTS:])
            eventually(
                lambda: homes.charged(app) == EVENTS + 2_000, 60, what="the other folds the rest"
            )
        children[1].send_signal(signal.SIGTERM)
        _, errors = children[1].communicate(timeout=30)
        assert children[1].returncode == 0, errors
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert_each_is_charged_once(home, EVENTS + 2_000)


def test_two_consumers_that_believe_to_own_a_partition_fold_each_record_once(
    filled: Path, store: Store, tmp_path: Path
) -> None:
    """Group membership is no fence: here both members get everything, and SQL decides."""
    home = store.copied(filled, tmp_path / "home")
    with homes.opened_app(home) as app:
        settings = [PipelineSettings(group=f"group-{n}", max_records=700) for n in range(2)]
        pipelines = [
            Pipeline(app.log, app.ledger, monotonic=lambda: 0.0, settings=one) for one in settings
        ]
        total = sum(app.log.end_offsets().values())
        turns = random.Random(5)
        for _ in range(total):  # bounded: a step folds something or finds out it was overtaken
            if sum(one.totals.records for one in pipelines) >= total:
                break
            turns.choice(pipelines).step()
        for pipeline in pipelines:
            pipeline.close()
        assert sum(one.totals.records for one in pipelines) == total
        assert all(one.totals.records > 0 for one in pipelines)
    assert_each_is_charged_once(home, EVENTS)


def _charged(app: App) -> int:
    with reading(app.engine) as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM charge").scalar() or 0)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
