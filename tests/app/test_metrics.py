"""The metrics' names and labels, what is counted as what, and that a scrape touches no service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import homes
from support.events import NOON
from support.homes import opened_app

from tollkeeper.app.metrics import Metrics
from tollkeeper.app.sampling import LETTERS_EVERY, Sampler
from tollkeeper.app.watch import Watch
from tollkeeper.app.wiring import App
from tollkeeper.errors import LogUnavailable, StoreUnavailable
from tollkeeper.log.port import Outgoing
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import OpenOrganization

LABELS = {
    *("partition", "reason", "cause", "stage", "job_name", "service", "version", "python"),
    *("primary", "state", "kind", "outcome"),
}
"""All that any metric may be split by: each has few values, whoever the customers are."""


def values(watch: Watch) -> dict[str, float]:
    """Every sample of Tollkeeper's own as `name{labels}`."""
    families = text_string_to_metric_families(watch.exposition().decode())
    found = {}
    for sample in (one for family in families for one in family.samples):
        labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
        name = sample.name.removeprefix("tollkeeper_")
        found[f"{name}{{{labels}}}" if labels else name] = sample.value
    return found


def usage(event_id: str, **fields: Any) -> Usage:
    call: dict[str, Any] = {
        "organization": "acme",
        "member": "ann",
        "surface": "web",
        "model": "claude-sonnet-5",
    }
    return Usage(event_id=event_id, occurred_at=NOON, input_tokens=1_000, **{**call, **fields})


def open_acme(app: App) -> None:
    homes.handle(
        app, OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="ann")
    )


def watched() -> Watch:
    return Watch(lambda: 0.0, stuck_after_s=60)


def sampler_of(app: App, watch: Watch, now: list[int] | None = None) -> Sampler:
    return Sampler(
        app.log,
        app.engine,
        watch,
        spool_dir=app.settings.spool_dir,
        clock=app.clock if now is None else lambda: now[0],
    )


def test_every_name_has_its_unit_and_every_label_is_bounded() -> None:
    for family in Metrics().registry.collect():
        if family.name.startswith("process_"):
            continue
        assert family.name.startswith("tollkeeper_")
        assert family.documentation.endswith("."), family.name
        assert not any(sample.name.endswith("_created") for sample in family.samples)
        assert not re.search(r"_(ms|micros|nanos|mb|percent)$", family.name)
    declared = Metrics().__dict__.values()
    labels = {label for one in declared for label in getattr(one, "_labelnames", ())}
    assert labels <= LABELS


def test_what_the_fold_does_is_counted_once_a_batch(tmp_path: Path) -> None:
    watch = watched()
    with opened_app(tmp_path) as app:
        open_acme(app)
        usages = [usage("a"), usage("a"), usage("b"), usage("b", surface="mobile")]
        homes.emit(app, [*usages, usage("c", model="unheard-of")])
        total = sum(app.log.end_offsets().values())
        pipeline = app.pipeline(watch)
        for _ in range(total):  # bounded: one step joins, the next folds
            if pipeline.totals.records == total:
                break
            pipeline.step()
        found = values(watch)
        assert watch.health.owned == list(range(8))
        pipeline.close()
    assert found["records_folded_total"] == total
    assert (found["usage_charged_total"], found["usage_duplicates_total"]) == (2, 1)
    assert found["dead_letters_total{cause=id_conflict}"] == 1
    assert found["dead_letters_total{cause=unpriced}"] == 1
    assert (found["batch_records_count"], found["batch_records_sum"]) == (1, total)
    for stage in ("poll", "fold", "commit"):
        assert found[f"stage_duration_seconds_count{{stage={stage}}}"] == 1
    assert found["partition_owned{partition=0}"] == 1
    assert values(watch)["partition_owned{partition=0}"] == 0  # it left
    assert watch.health.owned == []


def test_an_idle_consumer_is_no_stuck_one(tmp_path: Path) -> None:
    now = [0.0]
    watch = Watch(lambda: now[0], stuck_after_s=60)
    with opened_app(tmp_path) as app:
        pipeline = app.pipeline(watch)
        for _ in range(3):
            pipeline.step()
            now[0] += 50.0
            assert watch.health.reasons() == []
        now[0] += 50.0
        assert [one.reason for one in watch.health.reasons()] == ["job_stuck"]
        pipeline.close()


def test_being_overtaken_is_counted(tmp_path: Path) -> None:
    watch = watched()
    with opened_app(tmp_path) as app:
        open_acme(app)
        pipeline = app.pipeline(watch)
        pipeline.step()
        partition = next(p for p, end in app.log.end_offsets().items() if end)
        with app.engine.begin() as connection:  # as another consumer's commit would
            connection.exec_driver_sql(
                "UPDATE consumer_offset SET next_offset = next_offset + 1 WHERE log_partition = ?",
                (partition,),
            )
        pipeline.step()
        pipeline.close()
    assert values(watch)["overtaken_total"] == 1


def test_a_sample_shows_lag_outbox_letters_and_spool(tmp_path: Path) -> None:
    watch = watched()
    with opened_app(tmp_path) as app:
        open_acme(app)
        homes.emit(app, [usage("a", model="unheard-of")])
        homes.fold(app)
        sampler_of(app, watch).sample()
        found = values(watch)
        assert found["dead_letters_open{cause=unpriced}"] == 1
        assert found["dead_letters_at_risk_usd{cause=unpriced}"] == 0
        assert found["relay_pending_events"] == found["relay_oldest_age_seconds"] == 0
        assert found["sampled_timestamp_seconds"] > 1_700_000_000
        lags = [found[f"partition_lag_records{{partition={p}}}"] for p in range(8)]
        assert sum(lags) == 0
        assert found["partition_next_offset{partition=0}"] == app.log.end_offsets()[0]


def test_lag_in_seconds_counts_from_when_nothing_waited(tmp_path: Path) -> None:
    """An hour of silence before a record came is no lag of an hour."""
    watch = watched()
    with opened_app(tmp_path) as app:
        homes.fold(app)
        now = [app.clock() + 3_600_000_000]
        sampler = sampler_of(app, watch, now)
        sampler.sample()
        app.log.append([Outgoing(2, b"acme", b"whatever")])
        now[0] += 20_000_000
        sampler.sample()
    found = values(watch)
    assert found["partition_lag_records{partition=2}"] == 1
    assert found["partition_lag_seconds{partition=2}"] == 20
    assert found["partition_lag_seconds{partition=1}"] == 0


def test_lag_in_seconds_of_a_backlog_is_as_old_as_what_was_folded_last(tmp_path: Path) -> None:
    watch = watched()
    with opened_app(tmp_path) as app:
        homes.fold(app)
        folded_at = app.clock()
        app.log.append([Outgoing(2, b"acme", b"whatever")])
        sampler_of(app, watch, [folded_at + 50_000_000]).sample()
    assert 50 <= values(watch)["partition_lag_seconds{partition=2}"] < 60


@pytest.mark.parametrize(
    ("error", "service"), [(LogUnavailable("no"), "log"), (StoreUnavailable("no"), "sql")]
)
def test_a_service_that_is_away_is_shown_and_stops_no_scrape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, service: str
) -> None:
    watch = watched()

    def refuse(*_: object) -> dict[int, int]:
        raise error

    with opened_app(tmp_path) as app:
        sampler = sampler_of(app, watch)
        monkeypatch.setattr(SqliteLog, "end_offsets", refuse)
        sampler.sample()
        sampler.sample()
    found = values(watch)
    assert found[f"service_errors_total{{job_name=sample,service={service}}}"] == 2


def test_closed_letters_go_back_to_zero_within_a_minute_of_samples(tmp_path: Path) -> None:
    watch = watched()
    with opened_app(tmp_path) as app:
        open_acme(app)
        homes.emit(app, [usage("a", model="unheard-of")])
        homes.fold(app)
        sampler = sampler_of(app, watch)
        sampler.sample()
        with app.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE dead_letter SET status = 'discarded'")
        for _ in range(LETTERS_EVERY):
            sampler.sample()
    assert values(watch)["dead_letters_open{cause=unpriced}"] == 0


def test_a_cause_that_comes_up_all_the_time_is_counted_each_time_and_logged_seldom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    watch = Watch(lambda: now[0], stuck_after_s=60)
    said = []
    for at, cause in [(0.0, "list"), (0.04, "list"), (0.08, "late"), (9.9, "list"), (10.0, "list")]:
        now[0] = at
        caplog.clear()
        watch.gate.not_applied(cause)
        said.append(" ".join(caplog.messages))
    line = "gate_not_applied cause={} held_back={}"
    assert said == [
        line.format("list", 0),
        "",
        line.format("late", 0),
        "",
        line.format("list", 2),
    ]
    assert values(watch)["gate_apply_failures_total"] == 5


def test_r18_what_was_spent_beyond_a_limit_is_counted(tmp_path: Path) -> None:
    watch = watched()
    with opened_app(tmp_path / "home", clock=lambda: NOON) as app:
        open_acme(app)
        homes.emit(app, [usage("e1")])
        homes.fold(app)
        sampler_of(app, watch).sample()
    assert values(watch)["overspent_limits"] == 1, "no credits were bought"
