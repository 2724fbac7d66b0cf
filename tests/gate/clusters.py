"""Real clusters of three primaries, for tests."""

from __future__ import annotations

from collections.abc import Callable

from redis import Redis
from services.kafka_local import free_port
from services.redis_local import LocalRedis, local_valkey
from support.waiting import eventually

SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))
CLUSTERED = {"cluster-enabled": "yes", "cluster-require-full-coverage": "no"}


def members_of(kind: str) -> list[LocalRedis]:
    """Three servers that may become a cluster."""
    program = local_valkey().program if kind == "valkey" else None
    return [LocalRedis(program, {**CLUSTERED, "cluster-port": str(free_port())}) for _ in SLOTS]


def ask(client: Redis, *words: str | int) -> bytes:
    """What CLUSTER answers."""
    execute: Callable[..., bytes] = client.execute_command
    return execute("CLUSTER", *words)


def meet(servers: list[LocalRedis]) -> None:
    """Make a cluster of them, each with a third of the slots."""
    clients = [Redis.from_url(server.address) for server in servers]

    for client, (first, last) in zip(clients, SLOTS, strict=True):
        ask(client, "ADDSLOTSRANGE", first, last)
    for server in servers[1:]:
        ask(clients[0], "MEET", "127.0.0.1", server.port, server.settings["cluster-port"])

    def has_met(client: Redis) -> bool:
        told = ask(client, "INFO")
        return b"cluster_state:ok" in told and b"cluster_known_nodes:3" in told

    eventually(lambda: all(map(has_met, clients)), 30, what="the cluster")
    for client in clients:
        client.close()
