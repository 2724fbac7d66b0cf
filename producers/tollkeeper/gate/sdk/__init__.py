"""The gate's SDK for product services: ask before you spend, report what you used.

    with Gate.open() as gate:
        with metered(gate, organization="acme", member="ann", surface="web", model="claude-sonnet-5",
                     input_tokens=1200, max_output_tokens=800) as call:
            response = client.messages.create(...)
            call.response(response)

Or, with the provider's client library and no call site changed:

    client = gate.wrap(anthropic.Anthropic())
    with acting_for(organization="acme", member="ann", surface="web"):
        client.messages.create(...)

It needs the log and Redis, and must not know SQL.
"""

from __future__ import annotations

from tollkeeper.gate.sdk.aio import AsyncGate
from tollkeeper.gate.sdk.gate import CallFields, Gate
from tollkeeper.gate.sdk.hold import AsyncHold, Hold
from tollkeeper.gate.sdk.identity import Identity, acting_for
from tollkeeper.gate.sdk.metered import AsyncMeteredCall, MeteredCall, metered
from tollkeeper.gate.sdk.refused import RefusalReason, Refused
from tollkeeper.gate.sdk.settings import GateSettings
from tollkeeper.gate.sdk.stats import GateStats
from tollkeeper.gate.sdk.wrapping.settings import WrapSettings

__all__ = [
    "AsyncGate",
    "AsyncHold",
    "AsyncMeteredCall",
    "CallFields",
    "Gate",
    "GateSettings",
    "GateStats",
    "Hold",
    "Identity",
    "MeteredCall",
    "RefusalReason",
    "Refused",
    "WrapSettings",
    "acting_for",
    "metered",
]
