"""The composition root: which adapter stands behind which port. The only place that knows them all."""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING

from sqlalchemy import Engine, select

from tollkeeper.app.enforcing import Enforcing, LateFollower
from tollkeeper.app.settings import Settings
from tollkeeper.enforcement.observing import Observer as GateObserver
from tollkeeper.enforcement.observing import Unobserved
from tollkeeper.errors import StoreUnavailable
from tollkeeper.events.ids import now_micros
from tollkeeper.ledger.barrier import CommandBarrier, check_log, records_behind
from tollkeeper.ledger.migrate import is_current, migrate
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.ledger.tables import generation
from tollkeeper.log.kafka_topic import ensure_topic
from tollkeeper.log.opening import open_log
from tollkeeper.log.port import Log
from tollkeeper.metering.emitter import Emitter
from tollkeeper.operations.policies import PolicyCommands
from tollkeeper.operations.prices import PriceCommands
from tollkeeper.operations.quarantine import QuarantineCommands
from tollkeeper.organizations.service import OrganizationCommands
from tollkeeper.outbox.database import alone, open_engine, reading
from tollkeeper.outbox.deciding import CommandDesk, Outcome, Pending
from tollkeeper.outbox.relay import Relay
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.observing import Observer
from tollkeeper.pipeline.settings import GROUP, PipelineSettings
from tollkeeper.reports.letters import letter_status

if TYPE_CHECKING:  # most commands do without redis-py's import, and without an HTTP client's
    from tollkeeper.enforcement.bundle import Enforcement
    from tollkeeper.gate.functions import GateFunctions
    from tollkeeper.webhooks.delivering import Deliverer
    from tollkeeper.webhooks.sending import HttpSender

SWITCH_INTERVAL_S = 0.002
"""How soon the thread that folds goes on once the database has answered, while another one decodes. It
is ten times a batch: Python's 5 ms would cost as much as the reading ahead gains, and below 1 ms two
threads that are both at work hinder each other."""

SETUP_LOCK = 0x746F6C6C_73657475
"""The advisory lock under which a shared database is set up."""


class App:
    """Everything that one process needs, each part opened when it is first asked for."""

    def __init__(self, settings: Settings, clock: Callable[[], int] = now_micros) -> None:
        self.settings = settings
        self.clock = clock
        self.gate_observer: GateObserver = Unobserved()
        """Who hears of enforcement; set it before that is opened."""
        self._pipeline: Pipeline | None = None

    @cached_property
    def log(self) -> Log:
        """The log."""
        return open_log(self.settings, clock=self.clock)

    @cached_property
    def engine(self) -> Engine:
        """The database of write side and ledger."""
        return open_engine(self.settings.sql)

    @cached_property
    def ledger(self) -> SqlLedger:
        """The ledger on that database."""
        return SqlLedger(self.engine)

    @cached_property
    def enforcing(self) -> Enforcing:
        """The service's side of the gate, from when there is one."""
        return Enforcing(self.settings.redis, self._enforcement)

    @cached_property
    def desk(self) -> CommandDesk:
        """Where commands are decided."""
        return CommandDesk(
            self.engine,
            self.log,
            behind=CommandBarrier(self.engine, self.log, GROUP),
            check_log=self._check_log,
            clock=self.clock,
        )

    @property
    def organizations(self) -> OrganizationCommands:
        """Commands on organizations."""
        return OrganizationCommands(self.desk)

    @property
    def prices(self) -> PriceCommands:
        """Commands on prices."""
        return PriceCommands(self.desk)

    @property
    def quarantine(self) -> QuarantineCommands:
        """Commands on dead letters."""
        return QuarantineCommands(self.desk, letter_status)

    @property
    def relay(self) -> Relay:
        """Brings decided events to the log."""
        return Relay(self.engine, self.log, check_log=self._check_log)

    @property
    def policies(self) -> PolicyCommands:
        """Commands on the gate's default policy."""
        return PolicyCommands(self.desk)

    @cached_property
    def webhook_sender(self) -> HttpSender:
        """Sends to endpoints."""
        from tollkeeper.webhooks.sending import HttpSender

        return HttpSender(self.settings.webhook_allow)

    @cached_property
    def deliverer(self) -> Deliverer:
        """Brings notifications to endpoints."""
        from tollkeeper.webhooks.delivering import Deliverer

        return Deliverer(self.engine, self.webhook_sender)

    def emitter(self) -> Emitter:
        """A new emitter on this home's spool; close it."""
        return Emitter(partial(open_log, self.settings), self.settings.spool_dir)

    def pipeline(
        self, observer: Observer | None = None, settings: PipelineSettings | None = None
    ) -> Pipeline:
        """A new member of the consumer group, the only one of this app; close it."""
        if self.ledger.is_server:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._pipeline = Pipeline(
            self.log,
            self.ledger,
            monotonic=time.monotonic,
            settings=settings,
            observer=observer,
            follower=LateFollower(self.enforcing, self.ledger.live_positions),
        )
        return self._pipeline

    def _enforcement(self, functions: GateFunctions) -> Enforcement:
        from tollkeeper.enforcement.bundle import Enforcement
        from tollkeeper.enforcement.means import Means

        return Enforcement(
            Means(
                engine=self.engine,
                log=self.log,
                functions=functions,
                clock=self.clock,
                monotonic=time.monotonic,
                settings=self.settings.enforcement,
                observer=self.gate_observer,
            )
        )

    def leave_group(self) -> None:
        """Give the partitions to others when the thread that folds hangs. The process must end then."""
        if self._pipeline is not None:
            self._pipeline.leave()

    def set_up(self) -> list[Outcome]:
        """Make and verify all that this installation needs, Kafka's topic among it; idempotent.

        Two processes may do it at once: one of them waits. Raises LogDiverged when the database was
        set up on another log.
        """
        if self.settings.kafka is not None:
            ensure_topic(self.settings.kafka)
        with self._setup_lock(), alone(self.engine, SETUP_LOCK):
            outcomes = self._set_up_database()
            self._check_log()
        self._set_up_gate()
        return outcomes

    def _set_up_gate(self) -> None:
        """Load the functions into a Redis of its own; the embedded one gets them when it is started.

        Raises GateUnavailable when it is away or too old for functions.
        """
        if self.settings.redis.is_embedded:
            return
        from tollkeeper.gate.encoding import read_epoch

        functions = self.enforcing.started().means.functions
        functions.load()
        for tag in functions.tags():
            functions.run(read_epoch(tag=tag))

    def ensure_ready(self) -> list[Outcome]:
        """Make what an embedded home lacks; nothing when it is all there.

        What is shared, a topic or a database, is never made by accident. Raises StoreUnavailable when
        the database isn't set up.
        """
        if self.settings.is_sql_embedded:
            with self._setup_lock():
                return self._set_up_database()
        self.check_database()
        return []

    def check_database(self) -> None:
        """Raises StoreUnavailable when the database doesn't have the tables of this release."""
        if not is_current(self.engine):
            raise StoreUnavailable(
                "the database has no tables of this release: run `tollkeeper setup`"
            )

    def _check_log(self) -> None:
        check_log(self.engine, self.log)

    def _set_up_database(self) -> list[Outcome]:
        if not is_current(self.engine):
            migrate(self.engine)
        with reading(self.engine) as connection:
            has_generation = connection.execute(select(generation.c.generation)).first()
        if has_generation is None:
            self.ledger.begin_generation(
                self.clock(),
                partitions=self.log.partition_count,
                log_identity=self.log.identity,
            )
        if any(
            records_behind(self.engine, self.log, GROUP, p) for p in range(self.log.partition_count)
        ):
            return []  # SQL was restored: what was published is still to be folded
        return self.prices.ensure_built_in()

    def close(self) -> None:
        """Give everything back; an embedded gate lives on."""
        if "enforcing" in self.__dict__:
            self.enforcing.close()
        if "engine" in self.__dict__:
            self.engine.dispose()
        if "log" in self.__dict__:
            self.log.close()

    @contextmanager
    def _setup_lock(self) -> Iterator[None]:
        home = self.settings.home
        try:
            home.mkdir(parents=True, exist_ok=True)
            lock = (home / "setup.lock").open("a")
        except OSError as error:
            raise StoreUnavailable(
                f"TOLLKEEPER_HOME {home} can't be written: {error.strerror}; name another folder"
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def still_pending(outcomes: list[Outcome]) -> bool:
    """Whether some of these commands wait for the log."""
    return any(isinstance(outcome, Pending) for outcome in outcomes)
