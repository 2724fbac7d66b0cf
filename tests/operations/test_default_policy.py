"""The default policy is one fact on every partition, decided once (ENFORCEMENT, when the gate can't know)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import homes
from support.stores import Store

from tollkeeper.app.wiring import App
from tollkeeper.errors import InvalidEvent
from tollkeeper.events.codec import decode
from tollkeeper.events.gate import DefaultGatePolicySet
from tollkeeper.events.refusal import Refusal
from tollkeeper.operations.policies import DefaultPolicy, PolicyCommands
from tollkeeper.outbox.deciding import Done, Outcome

OBSERVE = DefaultPolicy(policy="observe")


@pytest.fixture(scope="module")
def template(either_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that is set up, to be copied."""
    home = either_store.new(tmp_path_factory.mktemp("policies") / "home")
    with homes.opened_app(home):
        pass
    return home


@pytest.fixture
def app(template: Path, either_store: Store, tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(either_store.copied(template, tmp_path / "home")) as opened:
        yield opened


def set_default(
    app: App, wanted: DefaultPolicy = OBSERVE, key: str = "k", actor: str = "operator"
) -> Outcome:
    return PolicyCommands(app.desk).set_default(wanted, actor=actor, command_id=key)


def on_log(app: App, partition: int) -> list[DefaultGatePolicySet]:
    records = app.log.read(partition, 0, max_records=1_000)
    events = [decode(record.value) for record in records]
    return [event for event in events if isinstance(event, DefaultGatePolicySet)]


def test_it_reaches_every_partition_once(app: App) -> None:
    assert PolicyCommands(app.desk).in_force() is None
    first = set_default(app)
    again = set_default(app)
    assert isinstance(first, Done) and isinstance(again, Done)
    assert (first.is_repeated, again.is_repeated) == (False, True)
    assert again.answer == first.answer
    for partition in range(app.log.partition_count):
        (event,) = on_log(app, partition)
        assert (event.version, event.policy, event.ceiling_nanos) == (1, "observe", None)


def test_the_newest_is_in_force_and_counts_on(app: App) -> None:
    set_default(app)
    set_default(app, DefaultPolicy(policy="open", ceiling_nanos=7), key="k2")
    found = PolicyCommands(app.desk).in_force()
    assert found is not None
    assert (found.version, found.policy, found.ceiling_nanos) == (2, "open", 7)
    assert [event.version for event in on_log(app, 0)] == [1, 2]


def test_the_same_key_with_another_policy_is_refused(app: App) -> None:
    set_default(app)
    refused = set_default(app, DefaultPolicy(policy="closed"))
    assert isinstance(refused, Refusal)
    assert refused.reasons[0].reason == "idempotency_key"


def test_r14_only_the_operator_sets_it_and_not_for_the_past(app: App) -> None:
    refused = set_default(app, DefaultPolicy(policy="closed", until=app.clock()), actor="ann")
    assert isinstance(refused, Refusal)
    assert [reason.reason for reason in refused.reasons] == ["role", "until"]
    assert on_log(app, 0) == []


@pytest.mark.parametrize(
    "wanted",
    [
        DefaultPolicy(policy="open"),
        DefaultPolicy(policy="closed", ceiling_nanos=1),
        DefaultPolicy(policy="open", ceiling_nanos=-1),
    ],
)
def test_a_ceiling_is_given_exactly_for_open(app: App, wanted: DefaultPolicy) -> None:
    with pytest.raises(InvalidEvent, match="ceiling_nanos"):
        set_default(app, wanted)
