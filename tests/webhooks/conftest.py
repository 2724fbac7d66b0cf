"""A ledger on either database, and a receiver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.events import NOON
from webhooks.receiver import Receiver, receiving

from tollkeeper.ledger.migrate import migrate
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.outbox.database import open_engine


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlLedger]:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    ledger = SqlLedger(open_engine(url))
    migrate(ledger.engine)
    ledger.begin_generation(NOON, partitions=1, log_identity="log-0")
    yield ledger
    ledger.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found
