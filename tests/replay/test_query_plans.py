"""No query that folds or pages may read the history: SQLite's planner left to itself once did.

Without statistics the planner guesses that a generation has ten rows, so it prefers walking through all
of it to looking up keys. These tests look at the plan of each statement as it was really run.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, event
from support import homes

from tollkeeper.app.wiring import App
from tollkeeper.ledger.enforcing import snapshots
from tollkeeper.metering.usage import Usage
from tollkeeper.money.periods import parse_period
from tollkeeper.organizations.commands import AddMember, BuyCredits, OpenOrganization, VoidCredits
from tollkeeper.outbox.database import reading
from tollkeeper.reports.charges import ChargeFilter, charges
from tollkeeper.reports.invoice import invoice_draft
from tollkeeper.reports.letters import LetterFilter, find_letters
from tollkeeper.reports.spend import spend_of
from tollkeeper.reports.tracing import trace_event
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

ENDING_AT = 1_793_880_000_000_000
GROWING = (
    "organization",
    "member",
    "cap",
    "credit",
    "charge",
    "spend",
    "spent",
    "emitter",
    "dead_letter",
    "decided_event",
)
"""Tables whose rows grow with history or customers; the others have some rows a partition."""
_ACCESS = re.compile(
    r"^(SCAN|SEARCH) (\w+)(?: USING (?:COVERING )?(?:INDEX (\w+)|PRIMARY KEY))?(.*)$"
)
_ALIASES = {"t": None, "c": "charge"}


class Plans:
    """The plan of every statement that one engine runs, noted as it runs."""

    def __init__(self, engine: Engine) -> None:
        self.accesses: dict[str, list[str]] = {}
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(
        self,
        connection: Any,
        _cursor: Any,
        statement: str,
        parameters: Any,
        _context: Any,
        many: bool,
    ) -> None:
        if not statement.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
            return
        driver: sqlite3.Connection = connection.connection.driver_connection
        values = parameters[0] if many else parameters
        rows = driver.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
        self.accesses[statement] = [row[3] for row in rows]

    def walking(self) -> list[str]:
        """Accesses of a growing table by less than two columns of a key, with their statements."""
        return [
            f"{access} in {statement}"
            for statement, accesses in self.accesses.items()
            for access in accesses
            if self._walks(statement, access)
        ]

    def _walks(self, statement: str, access: str) -> bool:
        found = _ACCESS.match(access)
        if found is None:
            return False
        how, name, index, rest = found.groups()
        table = re.search(rf"(?:FROM|JOIN) (\w+) AS {name}\b", statement)
        if (table[1] if table else name) not in GROWING or index == "decided_event_waiting":
            return False
        if index in ("dead_letter_open", "dead_letter_discarded"):
            return False  # few at a time, whatever history there is
        is_of_one = any(f"({key}=?" in rest for key in ("stream", "organization"))
        return how == "SCAN" or (rest.count("?") < 2 and not is_of_one)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(tmp_path / "home") as opened:
        yield opened


def load() -> list[Usage]:
    usages = list(synthetic(SyntheticLoad(seed=2, events=400, ending_at=ENDING_AT)))
    unpriced = [
        msgspec.structs.replace(one, model="unheard-of", event_id=f"{one.event_id}-x")
        for one in usages[:20]
    ]
    return usages + unpriced


def opening(name: str) -> list[Any]:
    return [
        OpenOrganization(organization=name, plan="enterprise_self_serve", owner="o"),
        AddMember(organization=name, member="m", role="member"),
        BuyCredits(organization=name, credit_nanos=10**12),
        VoidCredits(organization=name, purchase_id="purchase-3", reason="by mistake"),
    ]


def test_folding_looks_up_keys_and_never_walks_through_history(app: App) -> None:
    plans = Plans(app.engine)
    for number in range(1, 4):
        homes.handle(app, *opening(f"org-{number:03d}"))
    for _ in range(2):  # the second time each event is a duplicate, each letter a repeated one
        homes.emit(app, load())
        homes.fold(app)
    assert plans.walking() == []


def test_warming_looks_up_keys_and_never_walks_through_history(app: App) -> None:
    homes.handle(app, *opening("org-001"))
    homes.emit(app, load())
    homes.fold(app)
    plans = Plans(app.engine)
    with reading(app.engine) as connection:
        wanted = {"org-001": ("org-001/em-1/1/x",), "nobody": ()}
        found = snapshots(connection, wanted, now_micros=app.clock(), tag_of=lambda _name: "0")
        assert found["org-001"] is not None
    assert plans.walking() == []
    assert len(plans.accesses) > 8


def test_reports_read_one_organization_or_page_and_never_all_history(app: App) -> None:
    homes.handle(app, *opening("org-001"))
    homes.emit(app, load())
    homes.fold(app)
    plans = Plans(app.engine)
    period = parse_period("2026-11")
    with reading(app.engine) as connection:
        spend_of(connection, app.log, "org-001", period=period, by="member", now=app.clock())
        invoice_draft(connection, app.log, "org-001", period=period, now=app.clock())
        charges(connection, "org-001", ChargeFilter(), limit=5, after_event_id="a")
        find_letters(connection, LetterFilter(), after=(3, 2), limit=5)
        trace_event(connection, app.log, "org-001", "e-1", is_spooled=lambda _name, _id: False)
    assert plans.walking() == []
