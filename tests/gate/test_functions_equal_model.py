"""The Redis functions answer what the model answers, on Redis and on Valkey, whatever is asked."""

from __future__ import annotations

import ast
import inspect

import pytest
from gate import model
from gate.machine import GateMachine
from gate.servers import told_the_time
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from services.finding import Service

MAX_MODEL_LINES = 150


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_functions_and_model_answer_the_same(kind: str, request: pytest.FixtureRequest) -> None:
    service: Service = request.getfixturevalue(kind)
    with told_the_time(service.address) as server:
        machine = type("Machine", (GateMachine,), {"server": server})
        run_state_machine_as_test(
            machine, settings=settings(max_examples=60, stateful_step_count=40)
        )


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_functions_and_model_answer_the_same_for_long(
    kind: str, request: pytest.FixtureRequest
) -> None:
    service: Service = request.getfixturevalue(kind)
    with told_the_time(service.address) as server:
        machine = type("Machine", (GateMachine,), {"server": server})
        run_state_machine_as_test(
            machine, settings=settings(max_examples=3_000, stateful_step_count=60)
        )


def test_the_model_is_short_enough_to_be_read() -> None:
    """Its code, without imports and docstrings; all else that is known of the gate is in the functions."""
    body = ast.parse(inspect.getsource(model)).body
    lines = inspect.getsource(model).splitlines()
    first = next(node.lineno for node in body if isinstance(node, ast.Assign))
    code = [line for line in lines[first - 1 :] if line.strip() and '"""' not in line]
    assert 100 < len(code) <= MAX_MODEL_LINES
