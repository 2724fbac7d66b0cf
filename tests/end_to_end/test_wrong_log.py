"""A database that is shown another log: nothing is brought there, whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import homes
from support.stores import Store

from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.errors import LogDiverged
from tollkeeper.organizations.commands import BuyCredits, CommandContext, OpenOrganization
from tollkeeper.outbox.database import writing
from tollkeeper.outbox.tables import decided_event

BUY = BuyCredits(organization="acme", credit_nanos=10**9)


@pytest.fixture
def wrong(store: Store, tmp_path: Path) -> Iterator[App]:
    """The app with the database of one installation and the log of another, which has its own prices."""
    right = store.new(tmp_path / "right")
    with homes.opened_app(right) as app:
        homes.handle(
            app, OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="ann")
        )
        sql = app.settings.sql
        with writing(app.engine) as connection:  # as if the relay hadn't come to it
            connection.execute(decided_event.update().values(log_offset=None))
    with homes.opened_app(tmp_path / "other"):
        pass
    settings = {"TOLLKEEPER_HOME": str(tmp_path / "other"), "TOLLKEEPER_SQL": sql}
    app = App(load_settings(settings))
    yield app
    app.close()


def test_set_up_commands_and_relay_refuse_and_append_nothing(wrong: App) -> None:
    ends = wrong.log.end_offsets()
    assert sum(ends.values()) > 0
    with pytest.raises(LogDiverged, match="TOLLKEEPER_TOPIC"):
        wrong.set_up()
    with pytest.raises(LogDiverged, match="belongs to the log"):
        wrong.organizations.handle(BUY, CommandContext(actor="ann", command_id="order-1"))
    with pytest.raises(LogDiverged, match="belongs to the log"):
        wrong.relay.run_once()
    assert wrong.log.end_offsets() == ends
