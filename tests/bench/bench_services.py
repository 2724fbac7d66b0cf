"""How fast the fold charges on Kafka and PostgreSQL, in one and two processes, beside their bare work.

Everything runs on this machine: broker, database and consumers share its cores, floors no less than
ours. Each measurement is made by processes of its own, on a database of its own.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.bench_pipeline import fill
from bench.measuring import ROUNDS
from bench.stages import micros_of
from services.databases import new_database
from services.sharing import a_kafka, a_postgresql
from support import homes

PARTITIONS = 8
CHILD_S = 600


class Ground:
    """A topic with the events, and a database that was set up on it and has folded nothing."""

    def __init__(self, root: Path, kafka: str, server: str, template: str, topic: str) -> None:
        self.root = root
        self.template = template
        self._kafka = kafka
        self._server = server
        self._topic = topic

    def environment(self, sql: str) -> dict[str, str]:
        """Of a process on this topic and that database."""
        home = homes.environment(self.root)
        return {
            **home,
            "PYTHONPATH": os.pathsep.join([home["PYTHONPATH"], str(Path(__file__).parents[1])]),
            "TOLLKEEPER_LOG": f"kafka://{self._kafka}",
            "TOLLKEEPER_TOPIC": self._topic,
            "TOLLKEEPER_SQL": sql,
            "TOLLKEEPER_SESSION_TIMEOUT_S": "6",
        }

    def on(self, template: str) -> Ground:
        """The same topic, and another database to copy, to which nobody is connected."""
        return Ground(self.root, self._kafka, self._server, template, self._topic)

    @contextmanager
    def database(self) -> Iterator[str]:
        """A copy of the template."""
        with new_database(self._server, like=self.template) as url:
            yield url

    def fold(self, processes: int, record_to: list[str] | None = None) -> list[dict[str, Any]]:
        """Ours, in so many processes that share the partitions."""
        group = f"bench-{secrets.token_hex(4)}"
        share = str(PARTITIONS // processes)
        with self.database() as url:
            return together(
                self.environment(url),
                [
                    ["bench.folding_child", group, share, record_to[n] if record_to else ""]
                    for n in range(processes)
                ],
            )

    def bare(self, what: str, recorded: list[str]) -> list[dict[str, Any]]:
        """A floor, in as many processes as there are recordings."""
        with self.database() as url:
            return together(
                self.environment(url), [["bench.bare_child", what, one] for one in recorded]
            )


def together(environment: dict[str, str], modules: list[list[str]]) -> list[dict[str, Any]]:
    """Run the modules at once: started when all are ready; what each of them said in the end."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", *module],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for module in modules
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "ready"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        return [json.loads(child.communicate(timeout=CHILD_S)[0]) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()


def rate_of(said: list[dict[str, Any]]) -> float:
    """Events per second of processes that began together: all they did, by the slowest's clock."""
    return float(sum(one["records"] for one in said) / max(one["seconds"] for one in said))


@contextmanager
def ground(events: int) -> Iterator[Ground]:
    """Services, a topic with so much usage, and a database that is set up on it."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = stack.enter_context(a_kafka()).address
        server = stack.enter_context(a_postgresql()).address
        template = stack.enter_context(new_database(server))
        topic = f"bench-{secrets.token_hex(4)}"
        config = f'log = "kafka://{kafka}"\ntopic = "{topic}"\nsql = "{template}"\n'
        (root / homes.CONFIG).write_text(config)
        with homes.opened_app(root) as app:
            fill(app, events)
        (root / homes.CONFIG).unlink()
        yield Ground(root, kafka, server, template, topic)


def run(events: int) -> dict[str, float]:
    """Events per second, medians of rounds in which all ways take turns; `ratio…` is ours over bare."""
    with ground(events) as made:
        files = {n: [str(made.root / f"{n}-{k}.pickle") for k in range(n)] for n in (1, 2)}
        for processes, record_to in files.items():
            made.fold(processes, record_to)
        ways: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "fold_1_process": lambda: made.fold(1),
            "fold_2_processes": lambda: made.fold(2),
            "bare_consumption": lambda: made.bare("consume", files[1]),
            "bare_decoding": lambda: made.bare("decode", files[1]),
            "bare_transactions": lambda: made.bare("write", files[1]),
            "bare_loop_1_process": lambda: made.bare("loop", files[1]),
            "bare_loop_2_processes": lambda: made.bare("loop", files[2]),
        }
        said: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, work in ways.items():
                said[name].append(work())
    rates = {name: round(median(map(rate_of, runs))) for name, runs in said.items()}
    last = said["fold_1_process"][-1][0]
    stages = micros_of(last["stages"], last["records"], last["seconds"])
    return {
        "events": events,
        **{f"{name}_events_per_s": rate for name, rate in rates.items()},
        "ratio_1_process": round(rates["fold_1_process"] / rates["bare_loop_1_process"], 3),
        "ratio_2_processes": round(rates["fold_2_processes"] / rates["bare_loop_2_processes"], 3),
        **{f"micros an event: {stage}": micros for stage, micros in stages.items()},
        "micros an event: cpu": round(last["cpu_seconds"] / last["records"] * 1_000_000, 2),
    }
