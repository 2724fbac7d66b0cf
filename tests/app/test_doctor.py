"""The doctor names what is wrong and the next step, also while services are away, and tells no secret."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from app.commands import CommandLine, line
from support.homes import start
from support.waiting import eventually

from tollkeeper.app.doctor import findings_of_gate
from tollkeeper.app.examining import shown_settings
from tollkeeper.app.gate_looking import GateFacts, PrimaryNow
from tollkeeper.app.run_settings import load_run_settings
from tollkeeper.app.settings import load_settings
from tollkeeper.errors import LogUnavailable
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.sqlite import SqliteLog
from tollkeeper.outbox.database import shown_url

PARTITION = partition_for("acme", 8)


def wrong(document: Any) -> dict[str, str]:
    """What isn't fine, by what was looked at."""
    return {one["what"]: one["next_step"] for one in document["findings"] if not one["ok"]}


def rewrite_last_record(home: Path, statement: str) -> None:
    """As a broken disk or a newer producer would leave the log."""
    with closing(sqlite3.connect(home / "log.sqlite")) as connection, connection:
        table = f"partition_{PARTITION}"
        (last,) = connection.execute(f"SELECT max(offset) FROM {table}").fetchone()
        connection.execute(statement.format(table=table), (last,))


def test_each_service_is_asked_and_timed(acme: CommandLine) -> None:
    document = acme.json("doctor")
    assert [one["service"] for one in document["services"]] == ["log", "sql", "group"]
    assert all(one["latency_ms"] > 0 and one["error"] is None for one in document["services"])
    assert document["settings"]["TOLLKEEPER_PARTITIONS"] == "8"
    assert document["spool"]["records"] == 0
    shown = acme("doctor").out
    assert "answers in" in shown
    assert "TOLLKEEPER_HOME" in shown


def test_what_is_found_fits_80_columns_and_its_paths_stay_whole(
    tk: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ("h" * 80)
    monkeypatch.setenv("TOLLKEEPER_HOME", str(home))
    assert tk("setup").code == 0
    lines = tk("doctor").out.splitlines()
    assert [line for line in lines if len(line) > 80 and " " in line] == []
    assert f"sqlite:///{home}/ledger.sqlite" in lines
    assert f"sqlite:///{home}/ledger.sqlite," in lines, "and what else is said of it goes on below"


def test_a_log_that_is_away_is_one_finding_and_the_rest_is_still_asked(
    acme: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> dict[int, int]:
        raise LogUnavailable("no broker answers")

    monkeypatch.setattr(SqliteLog, "end_offsets", refuse)
    document = acme.json("doctor", code=3)
    assert list(wrong(document)) == ["log"]
    assert document["services"][0]["error"] == "no broker answers"
    assert document["partitions"][PARTITION]["next_offset"] > 0
    assert document["partitions"][PARTITION]["lag"] is None
    assert "TOLLKEEPER_LOG" in acme("doctor").out


def test_owners_that_cannot_be_asked_are_unknown_and_not_missing(
    acme: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> dict[int, str]:
        raise LogUnavailable("no coordinator")

    monkeypatch.setattr(SqliteLog, "owners", refuse)
    acme.json("emit", "-", stdin=line("a"))
    assert list(wrong(acme.json("doctor", code=3))) == ["group", "lag"]


def test_a_database_that_is_away_is_one_finding_and_the_rest_is_still_asked(
    acme: CommandLine,
) -> None:
    for path in acme.home.glob("ledger.sqlite*"):
        path.unlink()
    (acme.home / "ledger.sqlite").mkdir()
    document = acme.json("doctor", code=3)
    assert list(wrong(document)) == ["ledger"]
    assert document["partitions"] == []


def test_what_would_stop_the_fold_is_named_with_its_next_step(acme: CommandLine) -> None:
    acme.json("emit", "-", stdin=line("a"))
    rewrite_last_record(acme.home, "UPDATE {table} SET value = x'00000fffff00' WHERE offset = ?")
    document = acme.json("doctor", code=1)
    assert "newer release" in wrong(document)["halted"]
    halted = [one for one in document["partitions"] if one["halted"]]
    assert [one["partition"] for one in halted] == [PARTITION]
    assert "schema id" in halted[0]["halted"]
    assert "lag" not in wrong(document)  # folding wouldn't help


def test_missing_records_are_named(acme: CommandLine) -> None:
    acme.json("emit", "-", stdin=line("lost"))
    acme.json("emit", "-", stdin=line("kept"))
    rewrite_last_record(acme.home, "DELETE FROM {table} WHERE offset = ? - 1")
    assert "missing records" in wrong(acme.json("doctor", code=1))["halted"]


def test_who_owns_a_partition_is_named_while_somebody_does(acme: CommandLine) -> None:
    acme.json("emit", "-", stdin=line("a"))
    assert wrong(acme.json("doctor", code=1))["owners"] == "tollkeeper run"
    child = start(acme.home, "run", "--only", "consume")
    try:
        eventually(lambda: acme.json("balance", "acme")["used_nanos"] == 9_000_000, 30)
        owners = {one["owner"] for one in acme.json("doctor")["partitions"]}
        assert len(owners) == 1
        assert owners.pop().startswith(f"{child.pid}-")
    finally:
        child.kill()
        child.communicate()


def test_no_secret_is_shown() -> None:
    environ = {
        "TOLLKEEPER_LOG": "kafka://broker:9092",
        "TOLLKEEPER_KAFKA_SECURITY": "SASL_SSL",
        "TOLLKEEPER_KAFKA_SASL_MECHANISM": "PLAIN",
        "TOLLKEEPER_KAFKA_USERNAME": "tk",
        "TOLLKEEPER_KAFKA_PASSWORD": "s3cret",
        "TOLLKEEPER_SQL": "postgresql+psycopg://tk:s3cret@db/tk?sslpassword=s3cret&sslmode=require",
    }
    shown = shown_settings(load_settings(environ), load_run_settings(environ))
    assert "s3cret" not in str(shown)
    assert shown["TOLLKEEPER_KAFKA_PASSWORD"] == "hidden"
    assert shown["TOLLKEEPER_KAFKA_USERNAME"] == "tk"
    assert "sslmode=require" in shown["TOLLKEEPER_SQL"]
    assert shown_url("sqlite:////home.sqlite") == "sqlite:////home.sqlite"


def test_an_embedded_gate_beside_a_shared_log_is_named() -> None:
    shared = load_settings({"TOLLKEEPER_LOG": "kafka://h:9092"})
    alone = load_settings({})
    facts = GateFacts(is_running=True)
    (found,) = findings_of_gate(facts, shared)
    assert (found.is_fine, found.next_step) == (False, "set TOLLKEEPER_REDIS on every machine")
    assert [*findings_of_gate(facts, alone)] == []
    assert [one.is_fine for one in findings_of_gate(GateFacts(is_running=False), shared)] == [True]


@pytest.mark.parametrize(
    ("phase", "lease_s", "is_fine", "step"),
    [
        ("open", 1.0, True, ""),
        ("open", 0.0, False, "tollkeeper run"),
        ("recovering", 1.0, False, "tollkeeper emitters list"),
        ("absent", 0.0, False, "tollkeeper run"),
    ],
)
def test_a_gate_that_grants_nothing_says_what_to_do(
    phase: str, lease_s: float, is_fine: bool, step: str
) -> None:
    settings = load_settings(
        {"TOLLKEEPER_LOG": "kafka://h:9092", "TOLLKEEPER_REDIS": "redis://h:6379"}
    )
    primary = PrimaryNow("0", 1, phase, lease_s, 0, 0, 0, 0)
    (found,) = findings_of_gate(GateFacts(True, [primary], {"0": "noeviction"}), settings)
    assert found.is_fine is is_fine
    assert step in found.next_step
