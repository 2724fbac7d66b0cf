"""One run: a seed's weather over a whole installation, then quiet, then the balance.

python -m simulation 1000             as many seeds
python -m simulation --seed 4711      one, with its trace
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from simulation.books import charged_in, totals_in
from simulation.logs import Topic
from simulation.processes import World
from simulation.scheduler import BEGIN, MICROS_PER_S, Scheduler
from simulation.servers import Server, Servers
from simulation.template import ORGANIZATIONS, Template
from simulation.truth import Truth, Violation
from simulation.weather import Installation, Weather

from tollkeeper.gate import encoding
from tollkeeper.gate.library import Library
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.metering.spool import emitter_directories
from tollkeeper.money.periods import period_at
from tollkeeper.outbox.database import reading
from tollkeeper.replay.verify import verify

WEATHER_MICROS = 3 * MICROS_PER_S
MOST_STEPS = 8_000
MOST_STEPS_AT_FIRST = 4_000
CALLS_AT_FIRST = 3
QUIET_STEPS = 6_000
LOOKS_EVERY = 25
REPLAYED_EVERY = 8
"""A replay takes as long as all the rest."""
WALL_BEFORE_END_MICROS = (600 * MICROS_PER_S, 2 * MICROS_PER_S, MICROS_PER_S // 5)
"""How long before a period's end a run begins."""


class Failure(AssertionError):
    """What a seed has found, with its trace."""

    def __init__(self, seed: int, what: str, trace: list[str]) -> None:
        super().__init__(seed, what, trace)  # as it is made again in another process
        self.seed = seed
        self.what = what
        self.trace = trace

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.what}"


class Run:
    """One seed."""

    def __init__(
        self, seed: int, template: Template, address: str, folder: Path, library: Library
    ) -> None:
        self.seed = seed
        self.scheduler = Scheduler(seed)
        random = self.scheduler.random
        end = period_at(BEGIN).end_micros
        self.scheduler.wall_ahead_micros = end - random.choice(WALL_BEFORE_END_MICROS) - BEGIN
        self.truth = Truth()
        topic = Topic(self.scheduler)
        topic.partitions = [list(records) for records in template.records]
        topic.heard = self.truth.logged
        self.servers = Servers(self.scheduler, address, library)
        self.servers.primary.skew_micros = random.choice((0, 0, -MICROS_PER_S, MICROS_PER_S))
        self.world = World(self.scheduler, topic, self.servers, self.truth, folder)
        template.copy_to(self.world.database)
        self.engine = self.world.open_engine()
        self._watched = sqlite3.connect(self.world.database)
        self._changes = -1
        self.installation = Installation(self.world, template.again())

    def play(self) -> None:
        """All of it. Failure: an invariant doesn't hold, or the code under test broke."""
        try:
            self._look_at_sql()
            self.installation.begin()
            self._get_going()
            self.servers.is_faulty = self.world.topic.is_faulty = True
            weather = Weather(self.installation)
            until = self.scheduler.now + WEATHER_MICROS
            for _ in range(MOST_STEPS):
                weather.change()
                self._step()
                if self.scheduler.now >= until:
                    break
            self.installation.calm_down()
            self._settle()
            self._balance()
        except BaseException as what:
            found = f"{type(what).__name__}: {what}"
            raise Failure(self.seed, found, list(self.scheduler.trace)) from what
        finally:
            self.close()

    def close(self) -> None:
        """Nothing is left."""
        for process in self.installation.processes():
            process.kill()
        self._watched.close()
        self.engine.dispose()
        self.servers.close()

    def _step(self) -> None:
        self.scheduler.step()
        self._look_at_sql()
        touched, self.servers.touched = self.servers.touched, set()
        for number, name in sorted(touched):
            self._check(self.servers.all[number], name)

    def _check(self, server: Server, name: str) -> None:
        self.truth.check_copy(server, name, self.servers.copy_of(server, name))

    def _look_at_sql(self) -> None:
        (changes,) = self._watched.execute("PRAGMA data_version").fetchone()
        if changes == self._changes:
            return
        self._changes = changes
        with reading(self.engine) as connection:
            totals = totals_in(connection, live_generation(connection))
        for name, (offset, fields) in totals.items():
            known = self.truth.history[name].setdefault(offset, fields)
            if known != fields:
                raise Violation(f"{name} changed in SQL, but its offset stays {offset}")

    def _get_going(self) -> None:
        """Until the first calls are made: three, or fewer that left no room for more."""
        for _ in range(MOST_STEPS_AT_FIRST):
            self._step()
            if len(self.truth.calls) >= CALLS_AT_FIRST:
                return
        if not self.truth.calls:
            raise Violation("no call was ever made")

    def _settle(self) -> None:
        """Until nothing is under way any more."""
        for number in range(QUIET_STEPS):
            self._step()
            if number % LOOKS_EVERY == 0 and not self._unsettled():
                return
        raise Violation(f"it doesn't come to rest: {self._unsettled()}")

    def _unsettled(self) -> str:
        if any(service.emitter.stats().spooled_records for service in self.installation.services):
            return "usage in a spool"
        living = {service.gate.core.session.emitter for service in self.installation.services}
        spools = {path.name for path in emitter_directories(self.world.spool)}
        if dead := spools - living:
            return f"spools of dead emitters: {dead}"
        if self._is_folding():
            return "records that aren't folded"
        if closed := self._closed():
            return closed
        if holds := self._holds():
            return f"holds: {holds}"
        return self._behind()

    def _is_folding(self) -> bool:
        reached = SqlLedger(self.engine).live_positions()[1]
        ends = self.world.topic.ends()
        return any(reached[one].next_offset != end for one, end in ends.items())

    def _holds(self) -> list[str]:
        primary = self.servers.primary
        found = [self.servers.ask(primary, encoding.open_holds(name)) for name in ORGANIZATIONS]
        return [one.hold_id for holds in found for one in holds]  # type: ignore[attr-defined]  # as decoded

    def _behind(self) -> str:
        """An organization of which Redis knows less than SQL."""
        with reading(self.engine) as connection:
            totals = totals_in(connection, live_generation(connection))
        for name in ORGANIZATIONS:
            copy = self.servers.copy_of(self.servers.primary, name)
            if copy is None or copy.offset != totals[name][0]:
                at = copy and copy.offset
                return f"{name} is at {at}, in SQL at {totals[name][0]}"
        return ""

    def _closed(self) -> str:
        """An organization that can't be known again."""
        outcomes: dict[str, str] = {}
        service = self.installation.services[0]
        for name in ORGANIZATIONS:
            service.process.start("probe", _noting(service.probe, name, outcomes))
        for _ in range(QUIET_STEPS):
            if len(outcomes) == len(ORGANIZATIONS):
                break
            self._step()
        stuck = [
            name for name in ORGANIZATIONS if "unavailable" in outcomes.get(name, "unavailable")
        ]
        return f"closed: {stuck}" if stuck else ""

    def _balance(self) -> None:
        with reading(self.engine) as connection:
            charged = charged_in(connection, live_generation(connection))
        priced = self.truth.reported.keys() - self.truth.quarantined
        lost = (self.truth.accepted & priced) - charged
        invented = charged - priced
        if lost or invented:
            raise Violation(f"lost {sorted(lost)}, charged for nothing {sorted(invented)}")
        for name in ORGANIZATIONS:
            self._check(self.servers.primary, name)
        if self.seed % REPLAYED_EVERY:
            return
        log = self.installation.consumers[0].log
        report = verify(
            log, SqlLedger(self.engine), now=self.scheduler.wall, progress=lambda _: None
        )
        if not report.agrees:
            raise Violation(f"the replay differs: {report}")


def _noting(probe: Callable[[str], str], name: str, outcomes: dict[str, str]) -> Callable[[], None]:
    def note() -> None:
        outcomes[name] = probe(name)

    return note
