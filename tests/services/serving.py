"""Run a command with all services up and their addresses in its environment.

    PYTHONPATH=tests python -m services.serving make test

Saves starting them for each run of the tests, and is how `.ci/run` shows that addresses are heeded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

from services.finding import LocalServer
from services.kafka_local import LocalKafka
from services.postgresql_local import LocalPostgres
from services.redis_local import LocalRedis, local_valkey

VARIABLES: dict[str, Callable[[], LocalServer]] = {
    "TOLLKEEPER_TEST_KAFKA": LocalKafka,
    "TOLLKEEPER_TEST_POSTGRESQL": LocalPostgres,
    "TOLLKEEPER_TEST_REDIS": LocalRedis,
    "TOLLKEEPER_TEST_VALKEY": local_valkey,
}


def main(command: list[str]) -> int:
    """The command's exit code."""
    with ExitStack() as stack:
        environment = dict(os.environ)
        for variable, make in VARIABLES.items():
            server = make()
            stack.callback(server.close)
            server.start()
            environment[variable] = server.address
            print(f"{variable}={server.address}", file=sys.stderr)  # noqa: T201 - for who runs it
        return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
