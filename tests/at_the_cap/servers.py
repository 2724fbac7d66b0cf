"""Redis servers that follow each other, and addresses of them that are led elsewhere.

An address is a link to a server's socket: led to another server, new connections go there, and those that
are open stay where they are until somebody cuts them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from services.finding import skip_or_fail
from services.redis_local import LocalRedis, local_valkey, why_unavailable
from support.waiting import eventually

FOLLOWED_S = 30.0
REDIS_FIRST = ("redis", pytest.param("valkey", marks=pytest.mark.soak))
VALKEY_FIRST = ("valkey", pytest.param("redis", marks=pytest.mark.soak))
"""Both have their turn in every run; what the other does with either is for the soak."""


def new_server(kind: str, settings: dict[str, str] | None = None) -> LocalRedis:
    """Redis or Valkey, not started yet; a replica of it is in step at once."""
    settings = {"repl-diskless-sync-delay": "0", **(settings or {})}
    if kind == "valkey":
        return LocalRedis(local_valkey().program, settings)
    if reason := why_unavailable():
        skip_or_fail(f"Redis isn't at hand (local: {reason})")
    return LocalRedis(None, settings)


@contextmanager
def started(*servers: LocalRedis) -> Iterator[None]:
    """All of them, until this is left."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.close()


class Address:
    """What clients are told instead of a server's own address."""

    def __init__(self, server: LocalRedis) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tollkeeper-address-"))
        self._link = self._folder / "redis.sock"
        self.lead_to(server)

    @property
    def url(self) -> str:
        """For TOLLKEEPER_REDIS."""
        return f"unix://{self._link}"

    def lead_to(self, server: LocalRedis) -> None:
        """From now on, in one step."""
        new = self._folder / "new"
        new.symlink_to(server.socket_address.removeprefix("unix://"))
        os.replace(new, self._link)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self._folder)


def follow(replica: LocalRedis, primary: LocalRedis) -> None:
    """Have the replica follow, and wait until it is in step."""
    with Redis.from_url(replica.address) as client:
        client.replicaof("127.0.0.1", str(primary.port))

        def is_following() -> bool:
            found: dict[str, Any] = client.info("replication")
            return found.get("master_link_status") == "up"

        eventually(is_following, FOLLOWED_S, what="a replica in step")


def promote(replica: LocalRedis) -> None:
    """Make it a primary; what the old one takes from now on it doesn't have."""
    with Redis.from_url(replica.address) as client:
        client.replicaof("NO", "ONE")


def cut_clients(server: LocalRedis) -> None:
    """End the connections that clients have to it."""
    with Redis.from_url(server.address) as client:
        client.client_kill_filter(_type="normal", skipme=True)
