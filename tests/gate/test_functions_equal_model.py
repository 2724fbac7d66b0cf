"""The Redis functions answer what the model answers, on Redis and on Valkey, whatever is asked."""

from __future__ import annotations

import pytest
from gate.machine import GateMachine
from gate.servers import told_the_time
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from services.finding import Service


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_functions_and_model_answer_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    service: Service = request.getfixturevalue(kind)
    with told_the_time(service.address) as server:
        machine = type("Machine", (GateMachine,), {"server": server})
        run_state_machine_as_test(
            machine, settings=settings(max_examples=60, stateful_step_count=40)
        )
