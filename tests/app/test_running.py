"""`run` and `consume` as processes: they stop on a signal, and what was accepted is folded by then."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from app.commands import CommandLine, line
from support.homes import start
from support.waiting import eventually

from tollkeeper.app.jobs import JOBS
from tollkeeper.log.partitioner import partition_for

STOPPED_WITHIN_S = 8.0


@contextmanager
def running(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a child process that is killed if it doesn't end by itself."""
    child = start(home, *arguments)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_all_jobs_fold_what_arrives_and_stop_on_a_signal(
    acme: CommandLine, number: signal.Signals
) -> None:
    with running(acme.home, "run") as child:
        acme.json("emit", "-", stdin=line("while-running"))
        eventually(
            lambda: acme.json("balance", "acme")["used_nanos"] == 9_000_000,
            what="the charge",
        )
        child.send_signal(number)
        out, err = child.communicate(timeout=STOPPED_WITHIN_S)
    assert (child.returncode, out) == (0, ""), err
    (running_line, *_, stopped_line) = map(json.loads, err.splitlines())
    assert (running_line["event"], running_line["jobs"]) == (
        "running",
        "consume,relay,drain,deliver,keep,warm,tend",
    )
    assert (stopped_line["event"], stopped_line["abandoned"]) == ("stopped", None)
    assert acme.json("consume", "--until-caught-up")["records"] == 0


def test_consume_stops_on_sigterm_and_says_what_it_did(acme: CommandLine) -> None:
    acme.json("emit", "-", stdin=line("one") + line("one") + line("two", model="unheard-of"))
    with running(acme.home, "consume", "--json") as child:
        eventually(
            lambda: acme.json("balance", "acme")["freshness"]["lag_events"] == 0, what="the fold"
        )
        child.terminate()
        out, err = child.communicate(timeout=STOPPED_WITHIN_S)
    assert child.returncode == 0, err
    assert '"charged": 1' in out
    assert '"duplicates": 1' in out
    assert '"dead_letters": 1' in out


def test_a_chosen_job_runs_alone(acme: CommandLine) -> None:
    acme.json("emit", "-", stdin=line("unfolded"))
    with running(acme.home, "run", "--only", "relay,drain") as child:
        assert child.stderr is not None
        assert json.loads(child.stderr.readline())["jobs"] == "relay,drain"
        child.terminate()
        child.communicate(timeout=STOPPED_WITHIN_S)
    assert child.returncode == 0
    assert acme.json("event", "show", "acme", "unfolded")["status"] == "on_log"


def test_a_job_that_breaks_ends_the_others_and_the_process(
    acme: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setitem(JOBS, "relay", broken)
    ended = acme("run")
    assert (ended.code, ended.out) == (70, "")
    lines = [json.loads(text) for text in ended.err.splitlines()]
    (died,) = [one for one in lines if one["event"] == "job_died"]
    assert (died["job"], died["error"], died["cause"]) == ("relay", "ZeroDivisionError", "oh")
    assert "in broken" in died["traceback"]


def test_a_halted_partition_is_named_and_ends_with_1(acme: CommandLine) -> None:
    acme.json("emit", "-", stdin=line("a") + line("lost") + line("b"))
    partition = partition_for("acme", 8)
    with closing(sqlite3.connect(acme.home / "log.sqlite")) as connection, connection:
        last = connection.execute(f"SELECT max(offset) FROM partition_{partition}").fetchone()[0]
        connection.execute(f"DELETE FROM partition_{partition} WHERE offset = {last - 1}")
    found = acme.json("consume", "--until-caught-up", code=1)
    ((halt),) = found["halted"]
    assert halt["partition"] == partition
    assert halt["cause"]
    shown = acme("consume", "--until-caught-up")
    assert f"partition {partition} halted" in shown.err
