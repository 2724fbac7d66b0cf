"""SIGTERM ends `run` with 0 within ten seconds: idle, under load, and whatever service is away."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from services import kafka_local
from services.finding import found, from_here
from support import homes
from support.waiting import eventually

from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.organizations.commands import OpenOrganization
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

STOPPED_WITHIN_S = 10.0
EVENTS = 20_000


class Running:
    """`tollkeeper run` in a child process whose endpoints are asked."""

    def __init__(self, home: Path) -> None:
        self.process = homes.start(home, "run")
        assert self.process.stderr is not None
        running = json.loads(self.process.stderr.readline())
        assert running["event"] == "running", running
        self._http = running["http"]

    def healthz(self) -> tuple[int, Any]:
        """Status and document."""
        try:
            with urllib.request.urlopen(f"http://{self._http}/healthz", timeout=5) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read())

    def reasons(self) -> list[str]:
        """What it says is wrong."""
        return [one["reason"] for one in self.healthz()[1]["reasons"]]

    def owns_all(self, partitions: int = 8) -> bool:
        """Whether it has joined and was given every partition."""
        return bool(self.healthz()[1]["partitions"] == list(range(partitions)))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> list[dict[str, Any]]:
        """Its log lines from the signal on; it must have ended with 0 in time."""
        began = time.monotonic()
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=STOPPED_WITHIN_S)
        assert time.monotonic() - began < STOPPED_WITHIN_S
        assert (self.process.returncode, out) == (0, ""), err
        return [json.loads(line) for line in err.splitlines()]


@contextmanager
def running(home: Path) -> Iterator[Running]:
    """Killed if it doesn't end by itself."""
    child = Running(home)
    try:
        yield child
    finally:
        kill(child.process)


def kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def on_any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        homes,
        "environment",
        lambda *given: {**ENVIRONMENT(*given), "TOLLKEEPER_HTTP": "127.0.0.1:0"},
    )


ENVIRONMENT = homes.environment


def fill(app: App) -> None:
    """Usage on the log, and organizations to charge it to."""
    for number in range(1, 5):
        homes.handle(
            app,
            OpenOrganization(
                organization=f"org-{number:03d}", plan="enterprise_self_serve", owner="o"
            ),
        )
    load = SyntheticLoad(seed=7, events=EVENTS, organizations=4, ending_at=1_793_880_000_000_000)
    homes.emit(app, list(synthetic(load)))


def fill_more(app: App) -> None:
    """One usage event more, sent without the database."""
    (usage,) = synthetic(
        SyntheticLoad(seed=8, events=1, organizations=1, ending_at=1_793_880_000_000_000)
    )
    homes.emit(app, [usage])


def test_idle(tmp_path: Path) -> None:
    with homes.opened_app(tmp_path):
        pass
    with running(tmp_path) as child:
        eventually(child.owns_all, what="all partitions")
        lines = child.stop()
    assert [one["event"] for one in lines] == ["partitions_adopted", "stopping", "stopped"]
    assert lines[0]["partitions"] == list(range(8))
    assert (lines[1]["cause"], lines[2]["abandoned"]) == ("SIGTERM", None)


def test_under_load_what_was_begun_is_finished_and_the_group_is_left(tmp_path: Path) -> None:
    with homes.opened_app(tmp_path) as app:
        fill(app)
    with running(tmp_path) as child:
        with homes.opened_app(tmp_path) as app:
            eventually(lambda: homes.charged(app) > 0, 30, what="the first batch")
        lines = child.stop()
    assert lines[-1]["abandoned"] is None
    with closing(sqlite3.connect(tmp_path / "log.sqlite")) as log:
        assert log.execute("SELECT count(*) FROM group_member").fetchone() == (0,)
    with homes.opened_app(tmp_path) as app:
        before = homes.charged(app)
        assert homes.fold(app).counts.charged == EVENTS - before


def test_a_database_that_is_locked_leaves_the_batch_behind_and_the_group_at_once(
    tmp_path: Path,
) -> None:
    with homes.opened_app(tmp_path) as app:
        fill(app)
        writer = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
        with closing(writer):
            writer.execute("BEGIN IMMEDIATE")
            with running(tmp_path) as child:
                eventually(lambda: _members(tmp_path), 30, what="it joins, and waits for the lock")
                lines = child.stop()
            assert _members(tmp_path) == 0
    assert lines[-1]["abandoned"] == "consume"
    with homes.opened_app(tmp_path) as app:
        assert homes.fold(app).counts.charged == EVENTS


def test_a_consumer_that_hangs_fails_healthz_and_is_well_again_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeats go on all the while, and so do the other jobs."""
    monkeypatch.setenv("TOLLKEEPER_STUCK_AFTER_S", "1")
    with homes.opened_app(tmp_path) as app:
        fill(app)
        with running(tmp_path) as child:
            eventually(child.owns_all, what="all partitions")
            eventually(lambda: homes.charged(app) == EVENTS, 60, what="all is charged")
            with closing(
                sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
            ) as writer:
                writer.execute("BEGIN IMMEDIATE")
                fill_more(app)
                eventually(lambda: "partition_stuck" in child.reasons(), 30, what="it is noticed")
                assert child.healthz()[0] == 503
                assert _members(tmp_path) == 1
            eventually(lambda: child.healthz()[0] == 200, 60, what="it is well again")
            child.stop()
        assert homes.charged(app) == EVENTS + 1


def test_a_signal_while_it_starts_ends_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As process 1 of a container it would otherwise not even hear it."""
    with socket.socket() as silent:  # connections are taken, and never answered
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("TOLLKEEPER_LOG", f"kafka://127.0.0.1:{silent.getsockname()[1]}")
        process = homes.start(tmp_path, "run")
        try:
            eventually(lambda: _catches_sigterm(process.pid), what="its handler")
            process.terminate()
            out, err = process.communicate(timeout=STOPPED_WITHIN_S)
        finally:
            kill(process)
    assert (process.returncode, out) == (0, ""), err
    assert '"event": "stopped", "while_starting": true' in err


def test_an_address_in_use_ends_the_start_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setattr(
            homes, "environment", lambda *given: {**ENVIRONMENT(*given), "TOLLKEEPER_HTTP": address}
        )
        ended = homes.run(tmp_path, "run")
    assert ended.returncode == 2
    assert f"TOLLKEEPER_HTTP: {address} can't be listened on" in ended.stderr


def _catches_sigterm(pid: int) -> bool:
    (caught,) = re.findall(
        r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _members(home: Path) -> int:
    with closing(sqlite3.connect(home / "log.sqlite")) as log:
        (members,) = log.execute("SELECT count(*) FROM group_member").fetchone()
        return int(members)


@pytest.fixture
def broker() -> Iterator[kafka_local.LocalKafka]:
    """A broker of this test's own, to be killed."""
    made: list[kafka_local.LocalKafka] = []

    def make() -> kafka_local.LocalKafka:
        made.append(kafka_local.LocalKafka())
        return made[0]

    with found("a Kafka broker to kill", [from_here(kafka_local.why_unavailable, make)]):
        yield made[0]


@pytest.fixture
def on_kafka(
    broker: kafka_local.LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[App]:
    """The app on this broker, set up and with usage on the log."""
    monkeypatch.setenv("TOLLKEEPER_LOG", f"kafka://{broker.address}")
    settings = {"TOLLKEEPER_HOME": str(tmp_path), "TOLLKEEPER_LOG": f"kafka://{broker.address}"}
    app = App(load_settings(settings))
    try:
        app.set_up()
        fill(app)
        yield app
    finally:
        app.close()


def test_on_kafka_under_load_and_with_the_broker_killed(
    broker: kafka_local.LocalKafka, on_kafka: App, tmp_path: Path
) -> None:
    with running(tmp_path) as child:
        eventually(lambda: homes.charged(on_kafka) > 0, 60, what="the first batch")
        lines = child.stop()
    assert lines[-1]["abandoned"] is None
    with running(tmp_path) as next_one:
        # The one before left the group: no session had to run out.
        eventually(next_one.owns_all, 30, what="all partitions")
        eventually(lambda: homes.charged(on_kafka) == EVENTS, 60, what="all is charged")
        on_kafka.log.close()  # kafka-python drops a socket unclosed with each vain try to connect
        broker.kill()
        eventually(lambda: _is_missed(next_one), 60, what="the broker is missed")
        lines = next_one.stop()
    assert lines[-1]["event"] == "stopped"


def _is_missed(child: Running) -> bool:
    with urllib.request.urlopen(f"http://{child._http}/metrics", timeout=5) as answer:
        return (
            'tollkeeper_service_errors_total{job_name="sample",service="log"}'
            in answer.read().decode()
        )
