"""A command whose commit isn't heard of: its caller is told the key under which to ask again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from app.commands import CommandLine
from on_postgresql.conftest import behind
from on_postgresql.test_cut_database_connections import COMMAND
from services.postgresql_proxy import Fault, PostgresProxy
from services.tcp_proxy import Direction

BUY = ("credits", "buy", "acme", "5")


@pytest.mark.parametrize(
    ("statement", "direction", "is_done"),
    [
        (f"COMMIT of {COMMAND}", "request", False),
        (f"COMMIT of {COMMAND}", "response", True),
        ("SELECT count(*) AS count_1 FROM decided_event", "request", True),
    ],
    ids=["before the commit", "behind the commit", "before it is relayed"],
)
def test_who_heard_nothing_can_ask_again_and_buys_once(
    proxy: PostgresProxy,
    sql_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    statement: str,
    direction: Direction,
    is_done: bool,
) -> None:
    monkeypatch.setenv("TOLLKEEPER_SQL", behind(proxy, sql_url))
    tk = CommandLine(tmp_path / "home", monkeypatch, capsys)
    assert tk("setup").code == 0
    assert tk("org", "open", "acme", "--plan", "enterprise_self_serve", "--owner", "ann").code == 0
    fault = proxy.arm(Fault(statement, direction, 0.0))
    unheard = tk(*BUY)
    assert fault.struck.is_set(), sorted(proxy.seen)
    assert (unheard.code, unheard.out) == (3, "")
    key = re.search(r"--idempotency-key (\S+)", unheard.err)
    assert key is not None, unheard.err
    again = tk(*BUY, "--idempotency-key", key[1])
    assert again.code == 0
    assert ("was done before" in again.out) == is_done
    assert tk("consume", "--until-caught-up").code == 0
    assert tk.json("balance", "acme")["purchased_nanos"] == 5 * 10**9
