"""A command is carried out once, whoever dies: decided in SQL, answered when the log has it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from outbox.buying import FAILPOINTS, OPEN, bought, buy, on_log
from support import homes
from support.stores import Store

from tollkeeper.app.wiring import App
from tollkeeper.errors import LogUnavailable
from tollkeeper.events.organization import CreditsPurchased
from tollkeeper.events.refusal import Refusal
from tollkeeper.log.port import Outgoing
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    CommandContext,
    OpenOrganization,
)
from tollkeeper.organizations.service import OrganizationCommands
from tollkeeper.outbox.deciding import CommandDesk, Done, Pending


@pytest.fixture
def app(either_store: Store, tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(either_store.new(tmp_path / "home")) as opened:
        homes.handle(opened, OPEN)
        yield opened


def test_the_same_key_and_content_gives_the_first_answer_again(app: App) -> None:
    first = buy(app, "k")
    homes.handle(app, AddMember(organization="acme", member="max"))
    again = buy(app, "k")
    assert isinstance(first, Done)
    assert isinstance(again, Done)
    assert (first.is_repeated, again.is_repeated) == (False, True)
    assert again.answer == json.loads(json.dumps(first.answer))
    assert bought(app) == 5


@pytest.mark.parametrize(("nanos", "actor"), [(6, "pia"), (5, "operator")])
def test_the_same_key_with_other_content_is_refused(app: App, nanos: int, actor: str) -> None:
    buy(app, "k")
    other = buy(app, "k", nanos, actor)
    assert isinstance(other, Refusal)
    assert other.reasons[0].reason == "idempotency_key"
    assert "other content" in other.reasons[0].message
    assert bought(app) == 5


def test_a_refusal_is_not_remembered_under_its_key(app: App) -> None:
    command = AddMember(organization="acme", member="max")
    context = CommandContext(actor="lea", command_id="k")
    assert isinstance(app.organizations.handle(command, context), Refusal)
    homes.handle(app, AddMember(organization="acme", member="lea", role="admin"))
    assert isinstance(app.organizations.handle(command, context), Done)


def test_one_key_at_once_from_many_threads_buys_once(app: App) -> None:
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: buy(app, "k"), range(24)))
    assert all(isinstance(one, Done) for one in outcomes)
    assert sum(isinstance(one, Done) and not one.is_repeated for one in outcomes) == 1
    assert bought(app) == 5


def test_one_key_at_once_from_two_processes_buys_once(app: App) -> None:
    home = app.settings.home
    arguments = ("credits", "buy", "acme", "7", "--idempotency-key", "k", "--json")
    children = [homes.start(home, *arguments) for _ in range(3)]
    answers = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], answers
    assert len({output for output, _ in answers}) == 1
    assert bought(app) == 7 * 10**9


def test_writers_at_once_leave_no_gap_and_lose_nothing(app: App) -> None:
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda n: buy(app, f"k-{n}"), range(40)))
    assert all(isinstance(one, Done) for one in outcomes)
    versions = [event.version for event in on_log(app)]
    assert sorted(set(versions)) == list(range(1, 42))
    # An event may stand on the log twice, but never before the one that precedes it.
    firsts = [versions.index(version) for version in range(1, 42)]
    assert firsts == sorted(firsts)
    assert bought(app) == 40 * 5


def test_events_that_a_relay_sends_again_later_change_nothing(app: App) -> None:
    """A relay that was slow, or never heard of its acknowledgement, repeats what it read before."""
    for key in ("k-1", "k-2", "k-3"):
        buy(app, key)
    sent = [
        Outgoing(partition, record.key, record.value)
        for partition in range(app.log.partition_count)
        for record in app.log.read(partition, 0, max_records=100)
        if record.key == b"acme"
    ]
    app.log.append([sent[1], sent[3], sent[0]])
    assert [event.version for event in on_log(app)] == [1, 2, 3, 4, 2, 4, 1]
    assert homes.fold(app).counts.dead_letters == 0
    app.log.append([sent[2]])
    assert bought(app) == 3 * 5
    assert isinstance(buy(app, "k-4"), Done)
    assert bought(app) == 4 * 5


class AwayLog:
    """A log that takes no record with these keys; all but `append` is the real one."""

    def __init__(self, app: App, *refused: bytes) -> None:
        self._log = app.log
        self._refused = refused
        self.partition_count = app.log.partition_count

    def append(self, records: Sequence[Outgoing], *, timeout_s: float = 10.0) -> list[int]:
        if any(record.key in self._refused for record in records):
            raise LogUnavailable("the broker is away")
        return self._log.append(records, timeout_s=timeout_s)


def desk_whose_log_is_away(app: App, key: bytes) -> CommandDesk:
    """For records with this key."""
    log: Any = AwayLog(app, key)  # the desk only appends
    return CommandDesk(
        app.engine, log, behind=lambda _p: 0, check_log=lambda: None, clock=app.clock
    )


def test_without_the_log_the_answer_is_pending_and_later_done(app: App) -> None:
    desk = desk_whose_log_is_away(app, b"acme")
    command = BuyCredits(organization="acme", credit_nanos=5)
    context = CommandContext(actor="pia", command_id="k")
    pending = OrganizationCommands(desk).handle(command, context)
    assert isinstance(pending, Pending)
    assert "the broker is away" in pending.cause
    assert [type(event) for event in on_log(app)].count(CreditsPurchased) == 0
    assert isinstance(OrganizationCommands(desk).handle(command, context), Pending)
    assert app.relay.run_until_empty() == 1
    done = OrganizationCommands(desk).handle(command, context)
    assert isinstance(done, Done)
    assert done.is_repeated
    assert bought(app) == 5


def test_an_organization_does_not_wait_for_another_whose_id_begins_alike(app: App) -> None:
    homes.handle(
        app, OpenOrganization(organization="acme-eu", plan="enterprise_self_serve", owner="eve")
    )
    desk = desk_whose_log_is_away(app, b"acme-eu")
    context = CommandContext(actor="operator", command_id="same-key")
    for organization, outcome in (("acme-eu", Pending), ("acme", Done)):
        command = BuyCredits(organization=organization, credit_nanos=5)
        assert isinstance(OrganizationCommands(desk).handle(command, context), outcome)


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_command_whose_process_is_killed_is_carried_out_once(app: App, failpoint: str) -> None:
    """Whether or not it was decided when the process died, the retry makes exactly one of it."""
    home = app.settings.home
    arguments = ("credits", "buy", "acme", "7", "--as", "pia", "--idempotency-key", "k", "--json")
    killed = homes.run(home, *arguments, failpoints=f"{failpoint}=kill@1")
    assert killed.returncode == homes.KILLED, killed.stderr
    again = homes.run(home, *arguments)
    assert again.returncode == 0, again.stderr
    assert {event.version for event in on_log(app)} == {1, 2}
    assert bought(app) == 7 * 10**9


@pytest.mark.parametrize("failpoint", ["command.after_commit", "relay.after_append"])
def test_a_decided_command_reaches_the_log_without_its_caller(app: App, failpoint: str) -> None:
    """The relay of anybody else finishes what was decided."""
    home = app.settings.home
    arguments = ("credits", "buy", "acme", "7", "--as", "pia", "--idempotency-key", "k")
    killed = homes.run(home, *arguments, failpoints=f"{failpoint}=kill@1")
    assert killed.returncode == homes.KILLED, killed.stderr
    relayed = homes.run(home, "consume", "--until-caught-up")
    assert relayed.returncode == 0, relayed.stderr
    assert bought(app) == 7 * 10**9
