"""With 300,000 charges no statement that folds, pages or sums reads through history on PostgreSQL.

The plans are looked at with fresh statistics, with none yet, and with those of
another generation: what a planner knows right after a rebuild.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from on_postgresql.plans import Plans
from sqlalchemy import Connection, Table, text, update
from support import homes

from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.events.codec import encode
from tollkeeper.events.emitters import EmitterStarted
from tollkeeper.ledger.enforcing import retired_since, snapshots
from tollkeeper.ledger.tables import (
    charge,
    consumer_offset,
    credit,
    dead_letter,
    emitter,
    member,
    spend,
    spent,
)
from tollkeeper.log.port import Outgoing
from tollkeeper.metering.usage import Usage
from tollkeeper.money.periods import parse_period
from tollkeeper.organizations.commands import AddMember, BuyCredits, OpenOrganization, VoidCredits
from tollkeeper.outbox.database import reading, writing
from tollkeeper.outbox.store import count_waiting, oldest_waiting
from tollkeeper.outbox.tables import decided_event
from tollkeeper.reports.balance import balance
from tollkeeper.reports.charges import ChargeFilter, charges
from tollkeeper.reports.invoice import invoice_draft
from tollkeeper.reports.letters import (
    LetterFilter,
    find_letters,
    open_letters_by_cause,
    open_letters_of,
)
from tollkeeper.reports.organizations import find_organization
from tollkeeper.reports.spend import spend_of
from tollkeeper.reports.tracing import trace_event
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

ENDING_AT = 1_793_880_000_000_000
CHARGES, OTHERS = 300_000, 30_000
GROWN = (
    "charge", "spend", "spent", "dead_letter", "decided_event", "member", "credit", "emitter"
)  # fmt: skip
MOST_ROWS = 3_000
"""A tenth of the smallest of these tables; a batch or a page touches some hundreds of rows."""
OTHER = 7
"""A generation that isn't live."""


def load() -> list[Usage]:
    usages = list(synthetic(SyntheticLoad(seed=2, events=400, ending_at=ENDING_AT)))
    unpriced = [
        msgspec.structs.replace(one, model="unheard-of", event_id=f"{one.event_id}-x")
        for one in usages[:20]
    ]
    return usages + unpriced


def organization_named(name: str) -> list[object]:
    return [
        OpenOrganization(organization=name, plan="enterprise_self_serve", owner="o"),
        AddMember(organization=name, member="m", role="member"),
        BuyCredits(organization=name, credit_nanos=10**12),
    ]


def grow(connection: Connection, generation: int) -> None:
    """Rows as another few hundred organizations would have left them, by copying one of each table."""
    many = "'h-' || n % 300"
    _copies(
        connection, charge, CHARGES, generation,
        organization=many, event_id="'e-' || n", hold_id="'hold-' || n",
    )  # fmt: skip
    _copies(connection, spent, OTHERS, generation, organization=many, member="'m-' || n")
    _copies(
        connection, emitter, OTHERS, generation,
        log_partition="n % 8", emitter="'em-' || n", retired_offset="n % 10",
    )  # fmt: skip
    _copies(connection, spend, OTHERS, generation, organization=many, member="'m-' || n")
    _copies(connection, member, OTHERS, generation, organization=many, member="'m-' || n")
    _copies(connection, credit, OTHERS, generation, organization=many, purchase_id="'p-' || n")
    _copies(
        connection, dead_letter, OTHERS, generation,
        organization=many, event_id="'e-' || n", log_partition="n % 8", log_offset="n + 100000",
        status="'charged'", hold_id="'hold-' || n",
    )  # fmt: skip


def _copies(
    connection: Connection, table: Table, count: int, generation: int, **changed: str
) -> None:
    values = {column.name: f"t.{column.name}" for column in table.columns} | changed
    values |= {"generation": str(generation)} if "generation" in table.c else {}
    connection.execute(
        text(
            f"INSERT INTO {table.name} ({', '.join(values)}) SELECT {', '.join(values.values())} "
            f"FROM (SELECT * FROM {table.name} LIMIT 1) AS t, generate_series(1, {count}) AS n"
        )
    )


Grown = Callable[[str], App]


@pytest.fixture
def grown(postgresql_url: str, tmp_path: Path) -> Iterator[Grown]:
    """The app on such a ledger, the planner knowing more or less about it."""
    app = App(
        load_settings({"TOLLKEEPER_HOME": str(tmp_path / "home"), "TOLLKEEPER_SQL": postgresql_url})
    )

    def made(statistics: str) -> App:
        app.set_up()
        for number in range(1, 4):
            homes.handle(app, *organization_named(f"org-{number:03d}"))  # type: ignore[arg-type]  # commands of every kind
        homes.emit(app, load())
        started = encode(EmitterStarted(emitter="first", occurred_at=ENDING_AT))
        partitions = range(app.log.partition_count)
        app.log.append([Outgoing(partition, None, started) for partition in partitions])
        homes.fold(app)
        with writing(app.engine) as connection:
            for table in GROWN:
                connection.execute(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
            _copies(connection, decided_event, OTHERS, 1, stream="'organization/h-' || n")
            if statistics == "of another generation":
                grow(connection, OTHER)
        if statistics == "of another generation":
            _analyze(app)
        with writing(app.engine) as connection:
            grow(connection, 1)
        if statistics == "fresh":
            _analyze(app)
        return app

    yield made
    app.close()


def _analyze(app: App) -> None:
    with writing(app.engine) as connection:
        connection.execute(text("ANALYZE"))


@pytest.mark.parametrize(
    "statistics",
    [
        "fresh",
        pytest.param("none", marks=pytest.mark.soak),
        pytest.param("of another generation", marks=pytest.mark.soak),
    ],
)
def test_no_statement_reads_through_history(grown: Grown, statistics: str) -> None:
    app = grown(statistics)
    plans = Plans(app.engine)
    fold_and_command(app)
    assert plans.walking(GROWN, MOST_ROWS) == []
    report(app)
    enforce(app)
    assert plans.walking(GROWN, MOST_ROWS) == []
    assert len(plans.noted) > 200
    assert_it_would_be_seen(app, plans)


def fold_and_command(app: App) -> None:
    """New events, repeated ones, letters and their like; commands, the relay, and what is sampled."""
    void = VoidCredits(organization="org-001", purchase_id="purchase-3", reason="by mistake")
    homes.handle(app, *organization_named("org-009"), void)  # type: ignore[arg-type]  # commands of every kind
    again = [msgspec.structs.replace(one, event_id=f"{one.event_id}-2") for one in load()]
    homes.emit(app, again)
    homes.fold(app)
    for _ in range(8):  # a prepared statement's plan may change after some uses
        homes.emit(app, load()[:50])
        homes.fold(app)


def report(app: App) -> None:
    """Each question that is asked in a page, a command or once a minute."""
    period = parse_period("2026-11")
    for _ in range(7):
        with reading(app.engine) as connection:
            spend_of(connection, app.log, "org-001", period=period, by="member", now=app.clock())
            balance(connection, app.log, "org-001", now=app.clock())
            find_organization(connection, "org-001")
            invoice_draft(connection, app.log, "org-001", period=period, now=app.clock())
            charges(connection, "org-001", ChargeFilter(), limit=5, after_event_id="a")
            find_letters(connection, LetterFilter(), after=(3, 2), limit=50)
            find_letters(connection, LetterFilter(cause="unpriced"))
            open_letters_by_cause(connection)
            open_letters_of(connection, "org-001")
            count_waiting(connection)
            oldest_waiting(connection)
            trace_event(connection, app.log, "org-001", "e-1", is_spooled=lambda _n, _id: False)


def enforce(app: App) -> None:
    """What the gate's enforcement asks again and again."""
    names = ("org-001", "org-002", "h-7", "nobody")
    wanted = {name: tuple(f"{name}/em-{n}/{n}/x" for n in range(20)) for name in names}
    with writing(app.engine) as connection:
        table = consumer_offset
        connection.execute(update(table).values(applied_offset=table.c.next_offset))
    for _ in range(7):
        with reading(app.engine) as connection:
            found = snapshots(connection, wanted, now_micros=ENDING_AT, tag_of=lambda _name: "0")
            assert [found[name] is None for name in names] == [False, False, True, True]
            retired_since(connection, 1, 3, 9)


def assert_it_would_be_seen(app: App, plans: Plans) -> None:
    with reading(app.engine) as connection:
        connection.execute(text("SELECT count(*) FROM charge WHERE member = 'm'"))
    assert plans.walking(GROWN, MOST_ROWS) != []
