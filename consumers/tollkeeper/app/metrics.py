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
        self._declare_gate()
        self._declare_notifications()
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

    def _declare_gate(self) -> None:
        self.gate_epoch = self._gauge("gate_epoch", "A primary's epoch.", "primary")
        self.gate_state = self._gauge(
            "gate_state",
            "1 for what a primary is: open, and only then it grants.",
            "primary",
            "state",
        )
        self.gate_leased_until = self._gauge(
            "gate_leased_until_timestamp_seconds",
            "Until when it may grant, by Redis' clock.",
            "primary",
        )
        self.gate_emitters = self._gauge(
            "gate_emitters", "Emitters that may hold, or may as soon as they answered.", "primary"
        )
        self.gate_asked = self._gauge(
            "gate_asked_organizations",
            "Organizations that wait to be warmed; 1000 is also more.",
            "primary",
        )
        self.gate_published = self._gauge(
            "gate_published_version", "What product services are told.", "primary", "kind"
        )
        self.gate_applies = self._counter(
            "gate_applies", "What Redis made of the folds of organizations.", "outcome"
        )
        self.gate_apply_failures = self._counter(
            "gate_apply_failures", "Calls that didn't tell Redis what they should; tried again."
        )
        self.gate_behind = self._gauge(
            "gate_partitions_behind",
            "Owned partitions of which Redis lacks something that was folded.",
        )
        self.gate_made_unknown = self._counter(
            "gate_made_unknown", "Organizations that have to be warmed anew.", "cause"
        )
        self.gate_warmed = self._counter(
            "gate_warmed", "What became of organizations that were asked for.", "outcome"
        )
        self.gate_epochs_raised = self._counter(
            "gate_epochs_raised", "How often Redis was found changed, or the ledger was swapped."
        )
        self.gate_retired = self._counter(
            "gate_emitters_retired", "Emitters retired by this process.", "reason"
        )
        self.overspent = self._gauge(
            "overspent_limits", "Caps of this period and credits that are below what was spent."
        )

    def _declare_notifications(self) -> None:
        self.notifications = self._counter(
            "notifications", "What this process's folds found worth telling, each once."
        )
        self.webhook_deliveries = self._counter(
            "webhook_deliveries", "What became of attempts to deliver notifications.", "outcome"
        )
        self.webhook_waiting = self._gauge(
            "webhook_waiting_deliveries", "Deliveries that wait for their first or next attempt."
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
