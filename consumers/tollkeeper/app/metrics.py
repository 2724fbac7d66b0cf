"""Every metric that Tollkeeper exports, declared once with its unit and meaning.

docs/runbook.md says what to do about each (a test holds the two together). Labels are bounded: a
partition, a cause, a stage, a job, a service; never an organization, a member or an event id. (A label
`job` would clash with the one that Prometheus gives to each target.) Must not know who measures.
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

RECORDS = (1, 10, 100, 500, 1_000, 2_000, 3_000, 4_000, 5_000)
"""Up to the 5,000 records that a batch holds at most."""
SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""From an idle publish to the longest wait for a locked database."""


class Metrics:
    """One process's metrics, in a registry of its own."""

    def __init__(self) -> None:
        # Else each counter has a second series, that tells nothing here.
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no type for it
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._declare_fold()
        self._declare_partitions()
        self._declare_letters()
        self._declare_outbox_and_spool()
        self._declare_process()

    def _declare_fold(self) -> None:
        self.records_folded = self._counter("records_folded", "Records that this process folded.")
        self.usage_charged = self._counter("usage_charged", "Usage events that were charged.")
        self.usage_duplicates = self._counter(
            "usage_duplicates", "Usage events that had been charged before, ignored."
        )
        self.dead_letters = self._counter(
            "dead_letters", "Records that were quarantined instead of folded.", "cause"
        )
        self.overtaken = self._counter(
            "overtaken", "Rounds rolled back since another process had folded the records first."
        )
        self.adoptions = self._counter(
            "adoptions", "How often partitions were dealt out to this process anew."
        )
        self.batch_records = self._histogram("batch_records", "Records in a round.", RECORDS)
        self.stage_duration = self._histogram(
            "stage_duration_seconds",
            "Time of a round's stage: poll, fold, commit (SQL), publish (the log's group).",
            SECONDS,
            "stage",
        )

    def _declare_partitions(self) -> None:
        self.next_offset = self._gauge(
            "partition_next_offset", "Where the live fold goes on, as SQL has it.", "partition"
        )
        self.lag_records = self._gauge(
            "partition_lag_records", "Records on the log that aren't folded yet.", "partition"
        )
        self.lag_seconds = self._gauge(
            "partition_lag_seconds", "At most this old is the oldest unfolded record.", "partition"
        )
        self.owned = self._gauge(
            "partition_owned", "1 when this process owns the partition.", "partition"
        )
        self.halted = self._gauge(
            "partition_halted", "1 when this process stopped the partition.", "partition", "reason"
        )

    def _declare_letters(self) -> None:
        self.letters_open = self._gauge(
            "dead_letters_open", "Dead letters that wait for a decision.", "cause"
        )
        self.letters_at_risk = self._gauge(
            "dead_letters_at_risk_usd", "What they would be charged, where it is known.", "cause"
        )

    def _declare_outbox_and_spool(self) -> None:
        self.relay_pending = self._gauge(
            "relay_pending_events", "Decided events that the log hasn't acknowledged."
        )
        self.relay_oldest_age = self._gauge(
            "relay_oldest_age_seconds", "How long ago the oldest of them was decided."
        )
        self.relayed = self._counter("relayed_events", "Decided events brought to the log.")
        self.spool_bytes = self._gauge(
            "spool_bytes", "What all emitters of this machine keep on disk."
        )
        self.spool_orphaned = self._gauge(
            "spool_orphaned_records", "Usage that dead emitters left and nobody has sent yet."
        )
        self.drained = self._counter("drained_records", "Usage of dead emitters that was sent.")
        self.damaged = self._counter(
            "spool_damaged", "Stretches of spool files that couldn't be read and were set aside."
        )

    def _declare_process(self) -> None:
        self.service_errors = self._counter(
            "service_errors", "How often a job found a service away.", "job_name", "service"
        )
        self.service_away = self._gauge(
            "service_away_seconds", "For how long a job has found a service away; 0: it isn't.", "job_name",
            "service",
        )  # fmt: skip
        self.sampled_at = self._gauge(
            "sampled_timestamp_seconds", "When the gauges above were last measured."
        )
        self.healthy = self._gauge("healthy", "1 while /healthz answers 200.")
        info = self._gauge("build_info", "Always 1; the labels say what runs.", "version", "python")
        info.labels(release(), platform.python_version()).set(1)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"tollkeeper_{name}_total", meaning, labels, registry=self.registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"tollkeeper_{name}", meaning, labels, registry=self.registry)

    def _histogram(
        self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"tollkeeper_{name}", meaning, labels, buckets=buckets, registry=self.registry
        )


def release() -> str:
    """The installed version; `unknown` when only the sources are there."""
    try:
        return version("tollkeeper")
    except PackageNotFoundError:
        return "unknown"
