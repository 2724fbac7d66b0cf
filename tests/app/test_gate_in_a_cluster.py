"""The gate's commands on a real cluster of three: each primary has an epoch, and organizations of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from app.commands import CommandLine
from gate.clusters import meet, members_of
from services.redis_local import LocalRedis

from tollkeeper.gate.redis_settings import load_redis_settings, open_functions

PRIMARIES = 3


@pytest.fixture
def cluster() -> Iterator[list[LocalRedis]]:
    """Three primaries."""
    servers = members_of("valkey")
    try:
        for server in servers:
            server.start()
        meet(servers)
        yield servers
    finally:
        for server in servers:
            server.close()


def test_commands_ask_each_organization_s_primary(
    tk: CommandLine, cluster: list[LocalRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cluster[0].address.replace("redis://", "redis+cluster://")
    monkeypatch.setenv("TOLLKEEPER_REDIS", url)
    assert tk.json("setup")["gate"] == url
    functions = open_functions(load_redis_settings({"TOLLKEEPER_REDIS": url}))
    names: dict[str, str] = {}
    for number in range(100):
        names.setdefault(functions.tag_of(f"org-{number}"), f"org-{number}")
    assert len(names) == PRIMARIES
    functions.close()
    for name in names.values():
        tk.json("org", "open", name, "--plan", "enterprise_self_serve", "--owner", "ann")
        tk.json("credits", "buy", name, "10")
    held = {}
    for name in names.values():
        held[name] = tk.json("hold", name, "ann", "--surface", "web", "--usd", "8")["hold_id"]
        refused = tk.json("hold", name, "ann", "--surface", "web", "--usd", "2.01", code=1)
        assert [one["reason"] for one in refused["reasons"]] == ["credits"]
    (line,) = tk("gate", "watch", *names.values(), "--for", "0", "--json").out.splitlines()
    moment = json.loads(line)
    assert {one["primary"] for one in moment["primaries"]} == set(names)
    assert all(one["phase"] == "open" and one["emitters"] == 1 for one in moment["primaries"])
    assert [one["holds"] for one in moment["organizations"]] == [1] * PRIMARIES
    found = tk.json("reconcile")
    assert (found["agrees"], found["equal"]) == (True, PRIMARIES)
    (emitter,) = tk.json("emitters", "list")["emitters"]
    assert emitter["standing"] == "started"
    assert tk.json("emitters", "retire", emitter["emitter"])["retired"] is True
    for name, hold_id in held.items():
        assert tk.json("holds", "list", name)["count"] == 0, "freed on every primary"
        assert tk.json("release", hold_id)["freed_nanos"] == 0
    findings = [one for one in tk.json("doctor")["findings"] if one["what"] == "gate"]
    assert len(findings) == PRIMARIES
