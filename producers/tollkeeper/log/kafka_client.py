"""Making kafka-python's clients, where a broker can be reached at all.

A client that can't begin raises and leaves its sockets to the garbage collector: some hundred attempts
in an outage were seen to use up a process's file descriptors. So somebody must answer first.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from kafka.errors import KafkaConnectionError

from tollkeeper.log.kafka_settings import KafkaSettings

PROBE_S = 2.0
PAUSE_S = 0.1


def open_client(
    make: Callable[..., Any], settings: KafkaSettings, *, timeout_s: float, **options: Any
) -> Any:
    """A client on this cluster; waits up to `timeout_s` for a broker. Raises kafka-python's errors.

    `options` go before those that the settings make.
    """
    deadline = monotonic() + timeout_s
    while not any(_answers(server, deadline) for server in settings.servers):
        if monotonic() >= deadline:
            raise KafkaConnectionError(f"no broker answers at {','.join(settings.servers)}")
        sleep(PAUSE_S)
    left_ms = max(1, round((deadline - monotonic()) * 1_000))
    return make(**{**settings.client_options, "bootstrap_timeout_ms": left_ms, **options})


def _answers(server: str, deadline: float) -> bool:
    host, _, port = server.rpartition(":")
    timeout_s = min(PROBE_S, max(0.01, deadline - monotonic()))
    with contextlib.suppress(OSError):
        socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
        return True
    return False
