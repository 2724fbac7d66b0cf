"""A whole embedded Tollkeeper in a folder: for tests that run the real thing, in and out of process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import func, select
from support.project import ROOT

from tollkeeper.app.jobs import CaughtUp, catch_up
from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.events.ids import now_micros
from tollkeeper.failpoints import VARIABLE
from tollkeeper.gate.embedded import stop_embedded_gate
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import charge
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import Command, CommandContext
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.deciding import Done

KILLED = -9
CHILD_TIMEOUT_S = 120


CONFIG = "tollkeeper.toml"
"""A home's own settings, where it has some: which database it uses, which log."""


def settings_of(home: Path) -> dict[str, str]:
    """What must stand in the environment for this home."""
    config = home / CONFIG
    return {
        "TOLLKEEPER_HOME": str(home),
        **({"TOLLKEEPER_CONFIG": str(config)} if config.exists() else {}),
    }


@contextmanager
def opened_app(home: Path, clock: Callable[[], int] = now_micros) -> Iterator[App]:
    """The app on this home, set up, in this process."""
    app = App(load_settings(settings_of(home)), clock)
    try:
        app.set_up()
        yield app
    finally:
        app.close()


def handle(app: App, *commands: Command) -> None:
    """Carry the commands out as the operator; each must be done."""
    for number, command in enumerate(commands):
        key = f"test-{type(command).__name__}-{number}"
        context = CommandContext(actor="operator", command_id=key)
        outcome = app.organizations.handle(command, context)
        assert isinstance(outcome, Done), outcome


def emit(app: App, usages: Iterable[Usage]) -> None:
    """Accept the usages and bring them to the log."""
    with app.emitter() as emitter:
        emitter.emit_many(list(usages))
        assert emitter.flush(60)


def fold(app: App) -> CaughtUp:
    """Fold up to the log's end."""
    return catch_up(app, threading.Event(), progress=lambda _records: None)


def end_gate(home: Path) -> None:
    """End a home's embedded gate, which would outlive the test; a home without one is left alone."""
    if (home / "gate").exists():
        stop_embedded_gate(home)


def charged(app: App) -> int:
    """How many usage events the live ledger has charged."""
    with reading(app.engine) as connection:
        found = connection.execute(
            select(func.count()).where(charge.c.generation == live_generation(connection))
        )
        return int(found.scalar_one())


def copied(home: Path, to: Path) -> Path:
    """A copy of a home, to be spoiled."""
    shutil.copytree(home, to)
    return to


def environment(home: Path, failpoints: str = "") -> dict[str, str]:
    """The environment of a child on this home; it finds the sources whether installed or not."""
    roots = ("schemas", "producers", "projections", "consumers")
    return {
        **os.environ,
        **settings_of(home),
        "PYTHONPATH": os.pathsep.join(str(ROOT / root) for root in roots),
        # A killed child's partitions are free again soon, so that no test waits for long.
        "TOLLKEEPER_SESSION_TIMEOUT_S": "1.5",
        # Several run at once: those that are asked for metrics say where.
        "TOLLKEEPER_HTTP": "off",
        VARIABLE: failpoints,
    }


def command(*arguments: str) -> list[str]:
    """The command line as a child process would be started."""
    return [sys.executable, "-c", "from tollkeeper.app.cli import main; main()", *arguments]


def run(
    home: Path,
    *arguments: str,
    failpoints: str = "",
    limits: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a child process to its end; `limits` is called in the child first."""
    return subprocess.run(
        command(*arguments),
        env=environment(home, failpoints),
        capture_output=True,
        text=True,
        timeout=CHILD_TIMEOUT_S,
        check=False,
        preexec_fn=limits,
    )


def start(home: Path, *arguments: str, failpoints: str = "") -> subprocess.Popen[str]:
    """Start the command line in a child process."""
    return subprocess.Popen(
        command(*arguments),
        env=environment(home, failpoints),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
