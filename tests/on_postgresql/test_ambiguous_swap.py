"""A swap whose commit isn't heard of: it happened or not, and either way one whole ledger is live."""

from __future__ import annotations

from typing import Any

import pytest
from on_kafka.installation import load
from on_postgresql.conftest import Install, behind
from services.postgresql_proxy import Fault, PostgresProxy
from services.tcp_proxy import Direction
from sqlalchemy import select
from support import homes

from tollkeeper.errors import StoreUnavailable
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import generation
from tollkeeper.outbox.database import reading
from tollkeeper.replay import verify as verifying
from tollkeeper.replay.verify import rebuild


@pytest.mark.parametrize(("direction", "live_after"), [("request", 1), ("response", 2)])
def test_a_swap_that_nobody_heard_of(
    install: Install,
    proxy: PostgresProxy,
    sql_url: str,
    monkeypatch: pytest.MonkeyPatch,
    direction: Direction,
    live_after: int,
) -> None:
    installation = install()
    installation.set_up()
    usages = list(load(71, 300))
    homes.emit(installation.app, usages)
    installation.fold()
    move_pointer = verifying._move_pointer

    def move_and_arm(*given: Any) -> None:
        move_pointer(*given)
        proxy.arm(Fault("COMMIT of LOCK TABLE generation", direction, 0.0))

    monkeypatch.setattr(verifying, "_move_pointer", move_and_arm)
    app = installation.opened(TOLLKEEPER_SQL=behind(proxy, sql_url))
    with pytest.raises(StoreUnavailable, match=r"refused|broke"):
        rebuild(app.log, app.ledger, swap=True, now=app.clock(), progress=lambda _records: None)
    monkeypatch.undo()
    with reading(installation.app.engine) as connection:
        assert live_generation(connection) == live_after
    installation.assert_charged(usages)
    with reading(installation.app.engine) as connection:
        rest = select(generation.c.generation).where(generation.c.status != "dropped")
        assert connection.execute(rest).scalars().all() == [live_after]
