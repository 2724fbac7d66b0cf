"""The gate on Kafka, PostgreSQL and Redis: processes keep it, commands ask, `setup` and `doctor` know it."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services.finding import Service, skip_or_fail
from services.redis_local import LocalRedis, local_valkey, why_unavailable
from support.homes import CONFIG, run, start
from support.waiting import eventually


@pytest.fixture
def server() -> Iterator[LocalRedis]:
    """A Redis of this test's own: a database has one gate."""
    server = local_valkey() if why_unavailable() else LocalRedis()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def home(tmp_path: Path, kafka: Service, postgresql_url: str, server: LocalRedis) -> Path:
    """A home that names all three."""
    settings = {
        "log": f"kafka://{kafka.address}",
        "topic": f"gate-{secrets.token_hex(4)}",
        "sql": postgresql_url,
        "redis": server.address,
        "partitions": 2,
    }
    home = tmp_path / "home"
    home.mkdir()
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    (home / CONFIG).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return home


def asked(home: Path, *arguments: str, code: int = 0) -> Any:
    """A command's document."""
    ended = run(home, *arguments, "--json")
    assert ended.returncode == code, ended
    return json.loads(ended.stdout)


def gate_of(doctor: Any) -> Any:
    """What the doctor found of the gate."""
    (found,) = [one for one in doctor["findings"] if one["what"] == "gate"]
    return found


def reasons(document: Any) -> list[str]:
    return [one["reason"] for one in document["reasons"]]


def test_processes_keep_the_gate_and_commands_ask_it(home: Path, server: LocalRedis) -> None:
    assert asked(home, "setup")["gate"] == server.address
    found = gate_of(asked(home, "doctor", code=1))
    assert (found["ok"], found["next_step"]) == (False, "tollkeeper run")
    asked(home, "org", "open", "acme", "--plan", "enterprise_self_serve", "--owner", "ann")
    asked(home, "credits", "buy", "acme", "10")
    asks = ("hold", "acme", "ann", "--surface", "web", "--usd")
    assert reasons(asked(home, *asks, "1", code=3)) == ["unavailable"], "nobody keeps it"

    child = start(home, "run")
    try:
        eventually(
            lambda: gate_of(json.loads(run(home, "doctor", "--json").stdout))["ok"],
            60,
            what="a gate that is kept",
        )
        assert asked(home, *asks, "8")["held_usd"] == "8.00"
        assert reasons(asked(home, *asks, "2.01", code=1)) == ["credits"]
        asked(home, "credits", "buy", "acme", "5")
        assert asked(home, *asks, "7")["granted"] is True
        assert asked(home, "holds", "list", "acme")["count"] == 2
        assert asked(home, "reconcile")["agrees"] is True
        (primary,) = json.loads(run(home, "gate", "watch", "--for", "0", "--json").stdout)[
            "primaries"
        ]
        assert (primary["grants"], primary["prices_version"] > 0) == (True, True)
    finally:
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=30)
    assert child.returncode == 0, err


def test_a_redis_that_is_away_is_named_by_setup_and_stops_no_fold(
    home: Path, server: LocalRedis
) -> None:
    server.stop()
    ended = run(home, "setup")
    assert (ended.returncode, "the gate can't be asked" in ended.stderr) == (3, True)
    asked(home, "org", "open", "acme", "--plan", "enterprise_self_serve", "--owner", "ann")
    asked(home, "credits", "buy", "acme", "10")
    asked(home, "consume", "--until-caught-up")
    assert asked(home, "balance", "acme")["purchased_nanos"] == 10 * 10**9
    (found,) = [one for one in asked(home, "doctor", code=3)["findings"] if one["what"] == "redis"]
    assert found["ok"] is False


def test_a_redis_that_may_forget_holds_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = LocalRedis(settings={"maxmemory-policy": "allkeys-lru"})
    if why_unavailable():
        skip_or_fail("Redis isn't at hand")
    try:
        server.start()
        home = tmp_path / "home"
        home.mkdir()
        (home / CONFIG).write_text(f'redis = "{server.address}"\n', encoding="utf-8")
        asked(home, "setup")
        findings = {one["what"]: one for one in asked(home, "doctor", code=1)["findings"]}
        assert "noeviction" in findings["eviction"]["next_step"]
    finally:
        server.close()
