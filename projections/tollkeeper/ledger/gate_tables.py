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

usage_stop = projection(
    "usage_stop",
    key("organization"),
    key("limit_name"),  # organization_cap | member_cap | credits
    key("scope"),  # organization/ID | member/ID
    Column("period_start", Int64, nullable=False),
    Column("cap_nanos", Int64, nullable=False),  # at which it stopped; or all credits bought
    Column("version", Int64, nullable=False),
    Column("stopped_at", Int64, nullable=False),
    Column("log_offset", Int64, nullable=False),
    Column("resumed_at", Int64),
    Column("resumed_offset", Int64),
    Column("resumed_by", Text),  # cap_raised | credits_bought | new_period
)
"""Where usage stopped last, by LimitReached; closed by SpendCapSet, CreditsPurchased or a later period."""

admitted_call = projection(
    "admitted_call",
    key("organization"),
    key("event_id"),
    Column("member", Text, nullable=False),
    Column("period_start", Int64, nullable=False),
    Column("policy", Text, nullable=False),  # open | observe
    Column("cause", Text, nullable=False),
    Column("amount_nanos", Int64, nullable=False),
    Column("emitter", Text, nullable=False),
    Column("occurred_at", Int64, nullable=False),
    Column("log_partition", Int64, nullable=False),
    Column("log_offset", Int64, nullable=False),
)
"""One row a call that a policy let through: CallAdmitted, each counted once."""
