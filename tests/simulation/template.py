"""What every run begins with: two organizations with members, caps and credits, folded once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from shutil import copyfile
from typing import Any

from simulation.logs import PARTITIONS, SimulatedLog, Topic
from simulation.scheduler import BEGIN, Process, Scheduler
from support.events import BEGINNING, prices

from tollkeeper.events.codec import Event, encode
from tollkeeper.events.organization import (
    CreditsPurchased,
    MemberAdded,
    OrganizationEvent,
    OrganizationOpened,
    SpendCapSet,
)
from tollkeeper.events.prices import PriceRow
from tollkeeper.ledger.migrate import migrate
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import LogRecord, Outgoing
from tollkeeper.outbox.database import open_engine
from tollkeeper.pipeline.loop import Pipeline

MODEL = "model-of-a-micro-dollar-a-token"
MEMBERS = ("ann", "bob")
NANOS = 1_000


def _name_on(partition: int) -> str:
    return next(name for n in count() if partition_for(name := f"org-{n}", PARTITIONS) == partition)


PREPAID, ARREARS = _name_on(0), _name_on(1)
ORGANIZATIONS = (PREPAID, ARREARS)


class Decisions:
    """What owners decide: each organization's events, in their order."""

    def __init__(self, versions: dict[str, int]) -> None:
        self.versions = versions

    def fact(self, kind: type[Any], name: str, **fields: Any) -> Any:
        """The organization's next event."""
        version = self.versions[name] = self.versions.get(name, 0) + 1
        return kind(
            organization=name,
            version=version,
            command_id=f"c-{version}",
            actor="operator",
            occurred_at=BEGINNING,
            **fields,
        )


class Template:
    """The database and the log as they are before anything happens; copied for every run."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "template.sqlite"
        scheduler = Scheduler(0)
        topic = Topic(scheduler)
        decisions = Decisions({})
        self.versions = decisions.versions
        for event in _beginning(decisions.fact):
            for partition in _partitions_of(event):
                topic.put(Outgoing(partition, _key(event), encode(event)))
        self.records: list[list[LogRecord]] = topic.partitions
        self._fold(topic, Process(scheduler, "template"))

    def again(self) -> Decisions:
        """Whoever decides on, from here."""
        return Decisions(dict(self.versions))

    def copy_to(self, path: Path) -> None:
        """A database of a run's own."""
        copyfile(self.database, path)

    def _fold(self, topic: Topic, process: Process) -> None:
        engine = open_engine(f"sqlite:///{self.database}")
        migrate(engine)
        ledger = SqlLedger(engine)
        log = SimulatedLog(topic, process)
        ledger.begin_generation(BEGIN, partitions=PARTITIONS, log_identity=log.identity)
        pipeline = Pipeline(log, ledger, monotonic=process.monotonic)
        topic.owners = dict.fromkeys(range(PARTITIONS), pipeline._consumer)  # type: ignore[arg-type]  # it is of a simulated log
        while pipeline.owned != topic.ends():
            pipeline.step()
        pipeline.close()
        engine.dispose()
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it into the one file


def _beginning(fact: Any) -> list[Event]:
    row = PriceRow(
        model=MODEL,
        input_picos=1_000_000,
        output_picos=1_000_000,
        cache_read_picos=1_000_000,
        cache_write_5m_picos=1_000_000,
        cache_write_1h_picos=1_000_000,
    )
    events: list[Event] = [prices(prices=(row,))]
    for name, plan, channel in (
        (PREPAID, "enterprise_self_serve", "self_serve"),
        (ARREARS, "enterprise_sales_assisted", "sales_assisted"),
    ):
        opened = {"plan": plan, "channel": channel, "primary_owner": MEMBERS[0]}
        events.append(fact(OrganizationOpened, name, **opened))
        for member in MEMBERS[1:]:
            events.append(fact(MemberAdded, name, member=member, role="member"))
        events.append(capped(fact, name, 60))
        events.append(capped(fact, name, 40, scope="member_default"))
    events.append(bought(fact, PREPAID, 100))
    return events


def capped(
    fact: Any, name: str, micros: int, *, scope: str = "organization", member: str | None = None
) -> OrganizationEvent:
    """A cap was set."""
    event: OrganizationEvent = fact(
        SpendCapSet, name, scope=scope, setting="capped", member=member, cap_nanos=micros * NANOS
    )
    return event


def bought(fact: Any, name: str, micros: int) -> OrganizationEvent:
    """Credits were bought."""
    event: OrganizationEvent = fact(
        CreditsPurchased, name, purchase_id=f"p-{fact.__self__.versions[name]}",
        credit_nanos=micros * NANOS,
    )  # fmt: skip
    return event


def _partitions_of(event: Event) -> tuple[int, ...]:
    name = getattr(event, "organization", None)
    return tuple(range(PARTITIONS)) if name is None else (partition_for(name, PARTITIONS),)


def _key(event: Event) -> bytes | None:
    name = getattr(event, "organization", None)
    return None if name is None else name.encode()
