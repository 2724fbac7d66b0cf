"""A whole Tollkeeper on a Kafka broker, in and out of this process, with what it must have charged.

Where the ledger is comes as a SQLAlchemy URL, so that every test can run on another database.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

from msgspec.structs import replace
from sqlalchemy import func, select
from support import homes
from support.expected import expected_nanos
from support.waiting import eventually

from tollkeeper.app.jobs import CaughtUp
from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.ledger.generations import live_generation, positions
from tollkeeper.ledger.rows import Letter
from tollkeeper.ledger.tables import charge
from tollkeeper.log.partitioner import partition_for
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import OpenOrganization
from tollkeeper.outbox.database import reading
from tollkeeper.replay.verify import verify
from tollkeeper.reports.letters import LetterFilter, find_letters
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

PARTITIONS = 6
CAUGHT_UP_S = 60.0
LOAD_EVENTS = 100_000  # more than any test waits for
ENDING_AT = 1_793_880_000_000_000  # 2026-11-05: no test depends on the time of day


def organization_of(partition: int) -> str:
    """The organization of a test that stands on this partition."""
    return next(name for name in (f"org-{n:03d}" for n in range(1_000)) if _home(name) == partition)


def load(seed: int, events: int, first: int | None = None) -> Iterator[Usage]:
    """Seeded usage, spread evenly over the partitions; another seed gives other events.

    `first` takes no more than that many of them: a load of fewer events would have other ones.
    """
    names = [organization_of(partition) for partition in range(PARTITIONS)]
    made = synthetic(SyntheticLoad(seed=seed, events=events, days=14, ending_at=ENDING_AT))
    return (
        replace(one, organization=names[n % PARTITIONS])
        for n, one in enumerate(islice(made, first))
    )


class Service:
    """A product service in a process of its own; `accepted` is what it said that it had accepted."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path, seed: int) -> None:
        self.process = process
        self._said = said
        self._seed = seed

    @property
    def accepted(self) -> list[Usage]:
        """What it was told to be accepted. Of a killed process: perhaps a group more was."""
        lines = self._said.read_text().split("\n")[:-1]
        return list(load(self._seed, LOAD_EVENTS, int(lines[-1]) if lines else 0))

    def stop(self, timeout_s: float = 150.0) -> list[Usage]:
        """Let it end in order, with everything on the log; answers what it had accepted."""
        self.process.terminate()
        assert self.process.wait(timeout_s) == 0
        return self.accepted


class Installation:
    """One home, one topic, one database.

    `address` is the broker's, or a proxy's before it; None for the embedded log.
    """

    def __init__(
        self, home: Path, address: str | None, sql_url: str, *, session_timeout_s: float = 2.0
    ) -> None:
        self.home = home
        self._stack = ExitStack()
        self._settings = {
            "TOLLKEEPER_HOME": str(home),
            "TOLLKEEPER_PARTITIONS": str(PARTITIONS),
            "TOLLKEEPER_SQL": sql_url,
            "TOLLKEEPER_SESSION_TIMEOUT_S": str(session_timeout_s),
        }
        if address is not None:
            self._settings["TOLLKEEPER_LOG"] = f"kafka://{address}"
            self._settings["TOLLKEEPER_TOPIC"] = f"test-{secrets.token_hex(4)}"
        self.app = self.opened()

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._settings["TOLLKEEPER_TOPIC"]

    def opened(self, **changes: str) -> App:
        """Another app on this installation, with some settings changed; closed with it."""
        app = App(load_settings({**self._settings, **changes}))
        self._stack.callback(app.close)
        return app

    def set_up(self) -> None:
        """Make the topic, publish the prices, open an organization on every partition."""
        self.app.set_up()
        names = [organization_of(partition) for partition in range(PARTITIONS)]
        for name in names:
            homes.handle(
                self.app,
                OpenOrganization(organization=name, plan="enterprise_self_serve", owner="o"),
            )

    def environment(self, failpoints: str = "", **changes: str) -> dict[str, str]:
        """For a child process on this installation."""
        return {**homes.environment(self.home, failpoints), **self._settings, **changes}

    @contextmanager
    def process(
        self, command: list[str], environment: Mapping[str, str], output: Path
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A child process, killed at the end; its errors are kept in the home's `children.log`."""
        with (self.home / "children.log").open("ab") as errors, output.open("ab") as said:
            child = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=errors
            )
        try:
            yield child
        finally:
            child.kill()
            child.wait()

    def consumer(self, failpoints: str = "", **changes: str) -> subprocess.Popen[bytes]:
        """A process that folds, killed when the installation is closed."""
        return self.job("consume", failpoints, **changes)

    def job(self, name: str, failpoints: str = "", **changes: str) -> subprocess.Popen[bytes]:
        """A process with one background job, killed when the installation is closed."""
        return self._stack.enter_context(
            self.process(
                homes.command("run", "--only", name),
                self.environment(failpoints, **changes),
                self.home / "children.log",
            )
        )

    def service(self, seed: int, per_second: int, **changes: str) -> Service:
        """A product service of its own process that emits `load(seed, …)` until it is stopped."""
        program = "from on_kafka.child_emitter import main; main()"
        command = [*homes.command()[:2], program, str(seed), str(LOAD_EVENTS), str(per_second)]
        environment = self.environment(**changes)
        environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).parents[1])
        said = self.home / f"accepted-{seed}"
        child = self._stack.enter_context(self.process(command, environment, said))
        return Service(child, said, seed)

    def close(self) -> None:
        """End every process and connection."""
        self._stack.close()

    def next_offsets(self) -> dict[int, int]:
        """How far each partition is folded."""
        with reading(self.app.engine) as connection:
            found = positions(connection, live_generation(connection))
        return {partition: position.next_offset for partition, position in found.items()}

    def wait_until_folded(self, timeout_s: float = CAUGHT_UP_S) -> None:
        """Until everything that is on the log now is folded; a relay may be writing behind it."""
        ends = self.app.log.end_offsets()

        def is_folded() -> bool:
            reached = self.next_offsets()
            return all(reached[partition] >= end for partition, end in ends.items())

        eventually(is_folded, timeout_s, what=f"the fold reaches {ends}")

    def fold(self) -> CaughtUp:
        """Fold up to the log's end, in this process."""
        return homes.fold(self.app)

    def letters(self) -> list[Letter]:
        """The open dead letters."""
        with reading(self.app.engine) as connection:
            return find_letters(connection, LetterFilter())

    def charged(self) -> dict[str, tuple[int, int]]:
        """How many events were charged, and the sum in nano-USD, of each organization."""
        with reading(self.app.engine) as connection:
            rows = connection.execute(
                select(
                    charge.c.organization,
                    func.count(),
                    func.sum(charge.c.charge_nanos),
                )
                .where(charge.c.generation == live_generation(connection))
                .group_by(charge.c.organization)
            )
            return {name: (int(count), int(nanos)) for name, count, nanos in rows}

    def charged_ids(self) -> list[str]:
        """The id of every charge."""
        with reading(self.app.engine) as connection:
            rows = connection.execute(
                select(charge.c.event_id).where(charge.c.generation == live_generation(connection))
            )
            return [event_id for (event_id,) in rows]

    def assert_charged(self, usages: Iterable[Usage]) -> None:
        """Exactly these were charged, each once, to the nano-dollar, and a replay finds the same."""
        expected, found = sums(usages), self.charged()
        assert found == expected, f"charged {found}, expected {expected}"
        assert self.letters() == []
        self.assert_replays()

    def assert_replays(self) -> None:
        """A replay of the whole log finds what the live fold has."""
        report = verify(
            self.app.log, self.app.ledger, now=self.app.clock(), progress=lambda _records: None
        )
        assert report.agrees, [one.describe() for one in report.differences]


def sums(usages: Iterable[Usage]) -> dict[str, tuple[int, int]]:
    """The independent sum: events and nano-USD of each organization."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for usage in usages:
        entry = found[usage.organization]
        entry[0] += 1
        entry[1] += expected_nanos(usage)
    return {name: (count, nanos) for name, (count, nanos) in found.items()}


def _home(name: str) -> int:
    return partition_for(name, PARTITIONS)
