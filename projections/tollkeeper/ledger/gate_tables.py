"""The tables of what the log says about the gate: policies, calls let through, usage that stopped."""

from __future__ import annotations

from sqlalchemy import Column

from tollkeeper.ledger.columns import int_key, key, projection
from tollkeeper.outbox.tables import Int64, Text

gate_policy = projection(
    "gate_policy",
    key("organization"),  # rows.EVERYBODY: the default
    int_key("log_partition"),  # the default has a row for each
    Column("policy", Text, nullable=False),  # closed | open | observe | inherit
    Column("ceiling_nanos", Int64),
    Column("until", Int64),
    Column("version", Int64, nullable=False),
    Column("actor", Text, nullable=False),
    Column("set_at", Int64, nullable=False),
)
"""Filled by GatePolicySet and, on every partition, by DefaultGatePolicySet; the newest of each."""
