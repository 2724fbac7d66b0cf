"""While the log is away nothing is lost: usage is spooled, commands are pending, and a retry ends both."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from app.commands import CommandLine, line
from support.homes import run

from tollkeeper.errors import LogUnavailable
from tollkeeper.log.sqlite import SqliteLog


@pytest.fixture
def take_log_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[], pytest.MonkeyPatch]:
    """Appending fails from then on, until the context that is answered is undone."""

    def take_away() -> pytest.MonkeyPatch:
        def refuse(*_: object, **__: object) -> list[int]:
            raise LogUnavailable("the log is away")

        away = pytest.MonkeyPatch()
        away.setattr(SqliteLog, "append", refuse)
        return away

    monkeypatch.setattr("tollkeeper.app.cli.usage.SEND_TIMEOUT_S", 0.1)
    return take_away


def test_a_purchase_is_pending_and_its_key_ends_it_once(
    acme: CommandLine, take_log_away: Callable[[], pytest.MonkeyPatch]
) -> None:
    buy = ("credits", "buy", "acme", "5", "--idempotency-key", "k")
    away = take_log_away()
    try:
        pending = acme.json(*buy, code=3)
        shown = acme(*buy)
    finally:
        away.undo()
    assert (pending["pending"], pending["command_id"]) == (True, "k")
    assert "the log is away" in pending["cause"]
    assert (shown.code, shown.out) == (3, "")
    assert "--idempotency-key k" in shown.err
    assert acme.json(*buy)["purchase_id"] == pending["purchase_id"]
    acme.json("consume", "--until-caught-up")
    assert acme.json("balance", "acme")["purchased_nanos"] == 15 * 10**9


def test_usage_is_spooled_and_charged_when_the_log_is_back(
    acme: CommandLine, take_log_away: Callable[[], pytest.MonkeyPatch]
) -> None:
    away = take_log_away()
    try:
        ended = acme("emit", "-", "--json", stdin=line("spooled"))
        where = acme.json("event", "show", "acme", "spooled")
        doctor = acme.json("doctor", code=1)
    finally:
        away.undo()
    assert (ended.code, ended.document["accepted"]) == (0, 1)
    assert "sent as soon as it is back" in ended.err
    assert where["status"] == "spooled"
    assert "doctor" in where["next_step"]
    assert [one["what"] for one in doctor["findings"] if not one["ok"]] == ["spool"]
    counts = acme.json("consume", "--until-caught-up")
    assert (counts["drained"], counts["charged"], counts["spooled"]) == (1, 1, 0)
    assert acme.json("event", "show", "acme", "spooled")["status"] == "charged"
    assert acme.json("doctor")["healthy"] is True


def test_consuming_while_the_log_is_away_ends_with_3(
    acme: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> dict[int, int]:
        raise LogUnavailable("the log is away")

    monkeypatch.setattr(SqliteLog, "end_offsets", refuse)
    ended = acme("consume", "--until-caught-up", "--json")
    assert (ended.code, ended.out) == (3, "")
    assert "the log is away" in ended.err
    shown = acme("balance", "acme")
    assert shown.code == 0
    assert "run: tollkeeper doctor" in shown.out


def test_two_processes_that_set_up_at_once_make_one_home(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as both:
        ended = list(both.map(lambda _: run(tmp_path / "home", "setup", "--json"), range(2)))
    assert [one.returncode for one in ended] == [0, 0], ended
    assert ended[0].stdout == ended[1].stdout


def test_two_processes_with_one_key_buy_once(acme: CommandLine) -> None:
    buy = ("credits", "buy", "acme", "5", "--idempotency-key", "k", "--json")
    with ThreadPoolExecutor(2) as both:
        ended = list(both.map(lambda _: run(acme.home, *buy), range(2)))
    assert [one.returncode for one in ended] == [0, 0], ended
    assert ended[0].stdout == ended[1].stdout
    acme.json("consume", "--until-caught-up")
    assert acme.json("balance", "acme")["purchased_nanos"] == 15 * 10**9
