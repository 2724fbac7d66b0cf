"""The names that product services may rely on: a change here is a change for them."""

from __future__ import annotations

import inspect

import tollkeeper.gate.sdk as sdk
import tollkeeper.testing as testing
from tollkeeper.gate.sdk import (
    AsyncGate,
    AsyncHold,
    AsyncMeteredCall,
    Gate,
    GateSettings,
    GateStats,
    Hold,
    MeteredCall,
    RefusalReason,
    Refused,
)


def public(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def test_the_sdk_s_names() -> None:
    assert set(sdk.__all__) >= {
        *("AsyncGate", "AsyncHold", "AsyncMeteredCall", "CallFields", "Gate", "GateSettings"),
        *("GateStats", "Hold", "MeteredCall", "RefusalReason", "Refused", "metered"),
    }
    assert set(testing.__all__) == {
        *("AsyncFakeGate", "FakeFunctions", "FakeGate", "FakeSpool", "FakeWorld"),
    }


def test_what_they_can() -> None:
    gate = {"open", "hold", "hold_asked", "stats", "close", "settings", "core"}
    assert public(Gate) == public(AsyncGate)
    assert public(Gate) >= gate
    hold = {"hold_id", "policy", "granted_at", "held_micros", "asked", "is_ended"}
    hold |= {"extend", "release", "settle"}
    assert public(Hold) >= hold
    assert public(Hold) == public(AsyncHold)
    assert public(MeteredCall) >= {"hold", "response", "stream", "usage", "release"}
    assert public(MeteredCall) == public(AsyncMeteredCall)


def test_what_they_carry() -> None:
    assert RefusalReason.__struct_fields__ == (
        *("reason", "scope", "rule", "message", "who_can_lift", "next_step"),
        *("requested_nanos", "cap_nanos", "spent_nanos", "held_nanos", "lifts_at"),
    )
    assert {"reasons", "as_document", "is_unavailable", "http_status"} <= public(Refused) | {
        "reasons"
    }
    assert set(GateSettings.__struct_fields__) >= {
        *("tick_s", "lease_s", "warm_wait_s", "start_wait_s", "unanswered", "begins_not"),
        *("bytes_per_token", "attempts", "max_open_holds", "max_reports", "close_timeout_s"),
    }
    assert set(GateStats.__struct_fields__) >= {
        *("granted", "refused", "unavailable", "admitted_open", "admitted_observe", "settled"),
        *("released", "estimated", "abandoned", "open_holds", "open_micros", "owed_releases"),
        *("owed_usages", "trouble", "epoch", "policies", "reasserted", "began_anew"),
    }
    words = set(sdk.CallFields.__annotations__)
    assert words >= {"organization", "member", "surface", "model", "input_tokens"}
    assert words >= {"max_output_tokens", "max_cost_usd", "cache_write", "scopes"}
