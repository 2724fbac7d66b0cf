"""For the tests of product services: a gate that behaves like the real one and needs no server.

gate = FakeGate(cap_usd="50", member_cap_usd="30", credits_usd="100")
handle_request(gate)
assert gate.usages[0].output_tokens == 17
"""

from __future__ import annotations

from tollkeeper.testing.fake_functions import FakeFunctions
from tollkeeper.testing.fake_gate import AsyncFakeGate, FakeGate, FakeWorld
from tollkeeper.testing.fake_spool import FakeSpool

__all__ = ["AsyncFakeGate", "FakeFunctions", "FakeGate", "FakeSpool", "FakeWorld"]
