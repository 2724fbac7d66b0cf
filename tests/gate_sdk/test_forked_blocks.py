"""A hold is the process's that has it: a child forked within its block neither charges nor frees it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from gate_sdk.answers import CALL, MESSAGE, MODEL, START, Stream, only
from support.forking import ended_well, in_fork

from tollkeeper.errors import Misuse
from tollkeeper.gate.sdk import Hold, metered
from tollkeeper.metering.adapters.provider import ProviderUsage
from tollkeeper.testing import FakeGate


def leave(block: Any, error: BaseException | None) -> None:
    """As `return`, `sys.exit()` or an error does in the child."""
    block.__exit__(None if error is None else type(error), error, None)


def untouched(gate: FakeGate) -> None:
    """Nothing of the parent's was charged or freed here."""
    gate.core.tick()
    assert gate.world.spool.usages == []
    assert "release" not in gate.world.functions.calls


@pytest.mark.parametrize("error", [None, SystemExit(0), TimeoutError()], ids=repr)
def test_leaving_the_block_in_a_forked_child_charges_and_frees_nothing(
    error: BaseException | None,
) -> None:
    gate = FakeGate()
    with metered(gate, **CALL) as call:

        def in_child() -> None:
            leave(call, error)
            untouched(gate)

        assert ended_well(in_fork(in_child))
        call.response(MESSAGE)
    assert only(gate).usage_source == "reported"
    with gate.hold(**CALL) as hold:

        def in_other_child() -> None:
            gate.world.functions.calls.clear()
            gate.world.spool.usages.clear()
            leave(hold, error)
            untouched(gate)

        assert ended_well(in_fork(in_other_child))


def test_a_call_that_a_forked_child_loses_is_charged_by_the_parent_alone() -> None:
    gate = FakeGate()
    calls = [metered(gate, **CALL).__enter__()]
    calls[0].watch().feed(START)

    def in_child() -> None:
        calls.clear()
        gc.collect()
        untouched(gate)

    assert ended_well(in_fork(in_child))
    calls.clear()
    gc.collect()
    assert only(gate).input_tokens == 900


def test_what_a_forked_child_says_of_its_parent_s_hold_is_refused() -> None:
    gate = FakeGate()
    hold: Hold = gate.hold(**CALL)
    with metered(gate, **CALL) as call:
        said: list[Callable[[], object]] = [
            hold.release,
            lambda: hold.settle(ProviderUsage(model=MODEL)),
            lambda: hold.extend(max_output_tokens=1_000),
            lambda: call.response(MESSAGE),
            lambda: call.stream(Stream()),
        ]

        def in_child() -> None:
            for one in said:
                with pytest.raises(Misuse, match="forked"):
                    one()
            untouched(gate)

        assert ended_well(in_fork(in_child))
        call.release()
    hold.release()
    assert gate.reserved_micros == 0
