"""All of docker-compose.yml as a project of its own on a Docker engine, driven by its command line."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from functools import cache
from typing import Any

from services import containers
from services.kafka_local import free_port
from support.project import ROOT
from support.waiting import eventually

BUILT_S = 240
UP_S = 240
DOWN_S = 150
ASKED_S = 60
CAUGHT_UP_S = 60.0


class Stack:
    """One project of Compose: nothing of it is shared with another one, ports and volumes neither."""

    PASSWORD = "not-the-default"

    def __init__(self) -> None:
        self.project = f"tollkeeper-test-{secrets.token_hex(4)}"
        self.kafka_port = free_port()
        self.redis_port = free_port()
        self.http_port = free_port()
        self._environment = {
            **os.environ,
            "TOLLKEEPER_IMAGE": f"{self.project}:built",
            "TOLLKEEPER_KAFKA_PORT": str(self.kafka_port),
            "TOLLKEEPER_REDIS_PORT": str(self.redis_port),
            "TOLLKEEPER_HTTP_PORT": str(self.http_port),
            "POSTGRES_PASSWORD": self.PASSWORD,
            "TOLLKEEPER_KAFKA_HEAP": "-Xms256m -Xmx512m",
        }

    def build(self) -> None:
        """Build the image of our own services."""
        self.compose("build", "setup", "run", timeout_s=BUILT_S)

    def up(self) -> None:
        """Start everything, on the volumes that are there; `run` starts when `setup` has succeeded."""
        try:
            self.compose("up", "-d", timeout_s=UP_S)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.logs()}") from None

    def down(self, *options: str) -> None:
        """End everything; the volumes stay unless `-v` is given."""
        self.compose("down", "--remove-orphans", *options, timeout_s=DOWN_S)

    def remove(self) -> None:
        """End everything and leave nothing behind, whatever became of it."""
        self.down("-v", "-t", "5")
        subprocess.run(
            ["docker", "image", "rm", f"{self.project}:built"], capture_output=True, timeout=ASKED_S
        )

    def tollkeeper(self, *arguments: str, stdin: str | None = None) -> Any:
        """What a command answers with `--json`, run where the background jobs run."""
        command = ("exec", "-T", "run", "tollkeeper", *arguments, "--json")
        return json.loads(self.compose(*command, stdin=stdin))

    def catch_up(self) -> None:
        """Wait until the running jobs have brought all that was reported into the ledger."""
        eventually(self._is_caught_up, CAUGHT_UP_S, what="a ledger that is caught up")

    def health(self, service: str) -> str:
        """What the engine makes of the service's own health check."""
        container = self.compose("ps", "-q", service).strip()
        command = ["docker", "inspect", "--format", "{{.State.Health.Status}}", container]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASKED_S, check=True)
        return done.stdout.strip()

    def compose(self, *arguments: str, stdin: str | None = None, timeout_s: float = ASKED_S) -> str:
        """Standard output of a command of Compose that must succeed."""
        done = subprocess.run(
            [*(_program() or ()), "-p", self.project, *arguments],
            cwd=ROOT,
            env=self._environment,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"compose {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def logs(self) -> str:
        """What the services said last."""
        return self.compose("logs", "--no-color", "--tail", "40")

    def _is_caught_up(self) -> bool:
        command = ("exec", "-T", "run", "sh", "-c", "tollkeeper doctor --json || true")
        findings = json.loads(self.compose(*command))["findings"]
        waiting = {one["what"] for one in findings if not one["ok"]}
        return not waiting & {"lag", "outbox", "spool"}


def why_unavailable() -> str | None:
    """Why no stack can be started; None when one can."""
    if reason := containers.why_no_engine():
        return reason
    if _program() is None:
        return "neither `docker compose` nor docker-compose is installed"
    images = (containers.KAFKA_IMAGE, containers.POSTGRESQL_IMAGE, containers.REDIS_IMAGE)
    return next((reason for image in images if (reason := containers.why_no_image(image))), None)


@cache
def _program() -> tuple[str, ...] | None:
    """Compose v2, else docker-compose 1.29: the file is valid for both."""
    if shutil.which("docker"):
        command = ["docker", "compose", "version"]
        if subprocess.run(command, capture_output=True, timeout=ASKED_S).returncode == 0:
            return ("docker", "compose")
    return ("docker-compose",) if shutil.which("docker-compose") else None
