"""Services in containers, through testcontainers, where a Docker engine answers and has or gets the image.

Image names are settings, the same as of docker-compose.yml. Docker's libraries are imported where they are
used: importing them takes longer than most test modules run.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

from services.finding import Way
from services.kafka_local import free_port
from services.redis_local import answers
from support.waiting import eventually

KAFKA_IMAGE = os.environ.get("TOLLKEEPER_KAFKA_IMAGE") or "apache/kafka:4.3.1"
POSTGRESQL_IMAGE = os.environ.get("TOLLKEEPER_POSTGRESQL_IMAGE") or "postgres:17"
REDIS_IMAGE = os.environ.get("TOLLKEEPER_REDIS_IMAGE") or "redis:7"
STARTED_S = 60.0
ANSWERED_S = 10
PULLED_S = 200
"""Less than a test may take (pytest's `timeout`), so that the reason is printed."""


def from_container(image: str, provide: Callable[[], AbstractContextManager[str]]) -> Way:
    """A container of this image."""
    return "container", lambda: why_no_engine() or why_no_image(image), provide


@cache
def why_no_engine() -> str | None:
    """Why no Docker engine can be used; None when one answers."""
    # Asked by the command: Docker's library leaves a socket open when nobody answers.
    failure = _docker("version", "--format", "{{.Server.Version}}")
    return None if failure is None else f"no Docker engine answers ({failure})"


@cache
def why_no_image(image: str) -> str | None:
    """Why this image can't be had; None when it is there or was pulled."""
    if _docker("image", "inspect", image) is None:
        return None
    failure = _docker("pull", "--quiet", image)
    return None if failure is None else f"image {image} is neither there nor pulled: {failure}"


@contextmanager
def kafka() -> Iterator[str]:
    """One combined KRaft node. It must tell clients its port, so the port is chosen before."""
    port = free_port()
    container = _container(KAFKA_IMAGE)
    host = container.get_docker_client().host()
    container.with_bind_ports(port, port).with_envs(**_kafka_settings(host, port))
    with container:
        # Asked inside: outside the port is Docker's, and open from the start.
        _wait_inside(container, f"exec 3<>/dev/tcp/127.0.0.1/{port}")
        yield f"{host}:{port}"


@contextmanager
def postgresql() -> Iterator[str]:
    """One server with a superuser."""
    from testcontainers.community.postgres import PostgresContainer

    _settle_reaper()
    container = PostgresContainer(
        POSTGRESQL_IMAGE, driver="psycopg", username="test", password="test", dbname="test"
    )
    with container:
        yield container.get_connection_url()


@contextmanager
def redis() -> Iterator[str]:
    """One server without a password. testcontainers' own class needs a client that nobody else does."""
    with _container(REDIS_IMAGE).with_exposed_ports(6379) as container:
        host, port = container.get_container_host_ip(), int(container.get_exposed_port(6379))
        eventually(lambda: answers(host, port), STARTED_S, what="Redis in its container")
        yield f"redis://{host}:{port}"


def _container(image: str) -> Any:
    from testcontainers.core.container import DockerContainer

    _settle_reaper()
    return DockerContainer(image)


def _wait_inside(container: Any, line: str) -> None:
    from testcontainers.core.wait_strategies import ExecWaitStrategy

    strategy = ExecWaitStrategy(["bash", "-c", line])
    strategy.with_startup_timeout(int(STARTED_S)).with_poll_interval(0.2)
    strategy.wait_until_ready(container)


def _settle_reaper() -> None:
    """Do without Ryuk, which removes what a killed test run left behind, where its image can't be had."""
    from testcontainers.core.config import testcontainers_config

    if not testcontainers_config.ryuk_disabled and why_no_image(testcontainers_config.ryuk_image):
        testcontainers_config.ryuk_disabled = True


def _docker(*arguments: str) -> str | None:
    """What went wrong; None when nothing did."""
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=PULLED_S
        )
    except FileNotFoundError:
        return "no docker command"
    except subprocess.TimeoutExpired:
        return f"not within {PULLED_S} s"
    if done.returncode == 0:
        return None
    return (done.stderr.strip() or "without a word").splitlines()[-1]


def _kafka_settings(host: str, port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{host}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
        "KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m",
    }
