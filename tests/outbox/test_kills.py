"""Processes killed anywhere between a decision and the log: what was answered stands, once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from outbox.buying import FAILPOINTS
from outbox.child_commands import ORGANIZATIONS
from support import homes
from support.stores import Store

from tollkeeper.app.wiring import App
from tollkeeper.events.codec import decode
from tollkeeper.events.organization import CreditsPurchased, OrganizationFact
from tollkeeper.organizations.commands import BuyCredits, CommandContext, OpenOrganization
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Done
from tollkeeper.outbox.store import count_waiting, read_stream
from tollkeeper.outbox.streams import organization_stream
from tollkeeper.reports.balance import balance

CHILD = Path(__file__).with_name("child_commands.py")
COMMANDS = 12


@pytest.fixture
def app(either_store: Store, tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(either_store.new(tmp_path / "home")) as opened:
        for organization in ORGANIZATIONS:
            homes.handle(
                opened,
                OpenOrganization(
                    organization=organization, plan="enterprise_self_serve", owner="pia"
                ),
            )
        yield opened


def start(app: App, first: int, failpoints: str = "") -> subprocess.Popen[str]:
    environment = {
        **homes.environment(app.settings.home, failpoints),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(app.settings.home), str(first), str(COMMANDS)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(child: subprocess.Popen[str], returncode: int) -> set[tuple[str, str]]:
    """The (organization, key) that the child has answered."""
    printed, errors = child.communicate(timeout=60)
    assert child.returncode == returncode, errors
    return {(organization, key) for organization, key in map(str.split, printed.splitlines())}


def on_log(app: App) -> dict[str, list[OrganizationFact]]:
    """Each organization's events as they stand on the log, repeats included."""
    found: dict[str, list[OrganizationFact]] = {name: [] for name in ORGANIZATIONS}
    for partition in range(app.log.partition_count):
        for record in app.log.read(partition, 0, max_records=100_000):
            event = decode(record.value)
            if isinstance(event, OrganizationFact):
                found[event.organization].append(event)
    return found


def check_history(app: App, organization: str, events: list[OrganizationFact]) -> None:
    """No gap, no version with two contents, none before the one that precedes it."""
    versions = [event.version for event in events]
    firsts = list(dict.fromkeys(versions))
    assert firsts == list(range(1, len(firsts) + 1))
    assert len({event.version: event for event in events}) == len(set(events))
    with reading(app.engine) as connection:
        decided = read_stream(connection, organization_stream(organization))
        bought = balance(connection, app.log, organization, now=app.clock()).purchased_nanos
    assert [decode(row.value) for row in decided] == [
        events[versions.index(version)] for version in firsts
    ]
    assert bought == sum(isinstance(event, CreditsPurchased) for event in set(events))


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_what_was_answered_stands_on_the_log_whoever_was_killed(app: App, failpoint: str) -> None:
    """One of two processes that command the same organizations dies at its fourth passage."""
    killed = start(app, 0, f"{failpoint}=kill@4")
    other = start(app, COMMANDS)
    answered = ended(killed, homes.KILLED) | ended(other, 0)
    assert len(answered) >= COMMANDS
    keys = {
        (event.organization, event.command_id) for each in on_log(app).values() for event in each
    }
    assert answered <= keys
    app.relay.run_until_empty()
    with reading(app.engine) as connection:
        assert count_waiting(connection) == 0
    homes.fold(app)
    for organization, events in on_log(app).items():
        check_history(app, organization, events)
    for organization, key in sorted(answered)[:4]:
        again = app.organizations.handle(
            BuyCredits(organization=organization, credit_nanos=1),
            CommandContext(actor="operator", command_id=key),
        )
        assert isinstance(again, Done)
        assert again.is_repeated


def test_the_list_of_failpoints_is_whole() -> None:
    """A new one between decision and log has to be killed at, too."""
    sources = Path(__file__).parents[2] / "producers" / "tollkeeper"
    named = {
        line.split('failpoint("')[1].split('"')[0]
        for folder in ("outbox", "organizations")
        for path in sorted((sources / folder).glob("*.py"))
        for line in path.read_text().splitlines()
        if 'failpoint("' in line
    }
    assert named
    assert named <= set(FAILPOINTS)
