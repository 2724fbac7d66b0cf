"""A ledger on either database, and a receiver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger.test_sqlite_ledger import open_ledger
from support.events import NOON
from webhooks.receiver import Receiver, receiving

from tollkeeper.ledger.store import SqlLedger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    ledger = open_ledger(tmp_path)
    ledger.begin_generation(NOON, partitions=1, log_identity="log-0")
    yield ledger
    ledger.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found
