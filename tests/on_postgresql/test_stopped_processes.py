"""A process that is stopped inside its transaction is overtaken soon, and writes nothing when it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from time import monotonic

import pytest
from on_kafka.installation import Installation, load, organization_of
from on_postgresql.conftest import Install, behind
from services.postgresql_proxy import Fault, PostgresProxy
from sqlalchemy import text
from support import homes
from support.waiting import eventually

from tollkeeper.errors import StoreUnavailable
from tollkeeper.ledger.dialect_postgresql import TAKE_OVER_AFTER_S
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import BuyCredits, CommandContext
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Done

SEED = 53
EVENTS = 3_000
SESSION_TIMEOUT_S = 2.0
OVERTAKEN_S = SESSION_TIMEOUT_S + TAKE_OVER_AFTER_S + 6.0
"""The group gives its partitions away, its locks are taken from it, and the rest is work."""
STOPPED_S = 20.0


def filled(install: Install) -> tuple[Installation, list[Usage]]:
    """Set up, with events on the log that nobody has folded."""
    installation = install(session_timeout_s=SESSION_TIMEOUT_S)
    installation.set_up()
    usages = list(load(SEED, EVENTS))
    homes.emit(installation.app, usages)
    return installation, usages


def is_stopped(child: subprocess.Popen[bytes]) -> bool:
    state = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state == "T"


def overtake(
    installation: Installation, usages: list[Usage], stopped: subprocess.Popen[bytes]
) -> None:
    """Another consumer folds all in time; the stopped one then goes on, and changes nothing."""
    began = monotonic()
    installation.consumer()
    installation.wait_until_folded(OVERTAKEN_S)
    print(f"overtaken within {monotonic() - began:.1f} s")  # noqa: T201 - shown by `pytest -s`
    os.kill(stopped.pid, signal.SIGCONT)
    more = list(load(SEED + 1, 300))
    homes.emit(installation.app, more)
    installation.wait_until_folded()
    stopped.terminate()
    assert stopped.wait(STOPPED_S) == 0
    installation.assert_charged([*usages, *more])


@pytest.mark.parametrize(
    "failpoint",
    [
        pytest.param("pipeline.after_fence", marks=pytest.mark.soak),
        "pipeline.after_charges",
        pytest.param("pipeline.after_fold", marks=pytest.mark.soak),
    ],
)
def test_a_consumer_stopped_inside_its_transaction_is_overtaken(
    install: Install, failpoint: str
) -> None:
    installation, usages = filled(install)
    stopped = installation.consumer(f"{failpoint}=stop")
    eventually(lambda: is_stopped(stopped), STOPPED_S, what="the consumer stops itself")
    assert installation.charged() == {}
    overtake(installation, usages, stopped)


def test_a_consumer_stopped_in_the_middle_of_copying_is_overtaken(
    install: Install, proxy: PostgresProxy, sql_url: str
) -> None:
    """The server has half of the rows, and waits for the rest."""
    installation, usages = filled(install)
    fault = proxy.arm(Fault("rows of COPY charge", "request", 0.5, "swallow"))
    stopped = installation.consumer(TOLLKEEPER_SQL=behind(proxy, sql_url))
    eventually(fault.struck.is_set, STOPPED_S, what="rows are copied")
    os.kill(stopped.pid, signal.SIGSTOP)
    overtake(installation, usages, stopped)


@pytest.mark.soak
def test_a_fold_whose_network_swallows_everything_is_overtaken(
    install: Install, proxy: PostgresProxy, sql_url: str
) -> None:
    """Nothing is cut, so that neither side knows: a black hole behind a router that still answers."""
    installation, usages = filled(install)
    fault = proxy.arm(Fault("UPDATE consumer_offset", "response", 0.0, "swallow"))
    hanging = installation.consumer(TOLLKEEPER_SQL=behind(proxy, sql_url))
    eventually(fault.struck.is_set, STOPPED_S, what="the fold waits for an answer")
    hanging.send_signal(signal.SIGTERM)  # as whatever watches its health does
    overtake(installation, usages, hanging)


@pytest.mark.soak
def test_a_command_stopped_before_its_commit_holds_others_up_for_a_bounded_time(
    installation: Installation,
) -> None:
    """They wait for its row, are told why, and succeed once its session is ended."""
    buy = ("credits", "buy", organization_of(0), "1", "--idempotency-key", "first")
    with installation.process(
        homes.command(*buy),
        installation.environment("command.before_commit=stop"),
        installation.home / "children.log",
    ) as stopped:
        eventually(lambda: is_stopped(stopped), STOPPED_S, what="the command stops itself")
        command = BuyCredits(organization=organization_of(0), credit_nanos=10**9)
        context = CommandContext(actor="operator", command_id="second")
        with pytest.raises(StoreUnavailable, match="another session holds it up"):
            installation.app.organizations.handle(command, context)
        eventually(
            lambda: isinstance(installation.app.organizations.handle(command, context), Done)
        )
        os.kill(stopped.pid, signal.SIGCONT)
        assert stopped.wait(STOPPED_S) == 3
    with reading(installation.app.engine) as connection:
        kept = connection.execute(text("SELECT command_id FROM command WHERE scope LIKE 'org%'"))
        assert "first" not in kept.scalars().all()
