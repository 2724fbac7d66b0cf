"""A database that was restored or lost under a log that stayed: nothing is decided twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from outbox.buying import OPEN, bought, buy, on_log
from support import homes
from support.stores import Store, lose_database, restore_database

from tollkeeper.app.wiring import App
from tollkeeper.errors import StoreUnavailable
from tollkeeper.events.refusal import Refusal
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    Command,
    CommandContext,
    RemoveMember,
    SetCap,
    SetRole,
    TransferOwnership,
    VoidCredits,
)
from tollkeeper.outbox.deciding import Done, Outcome


@pytest.fixture
def app(either_store: Store, tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(either_store.new(tmp_path / "home")) as opened:
        homes.handle(opened, OPEN)
        yield opened


@pytest.mark.parametrize("is_folded", [True, False])
def test_after_a_restore_commands_wait_until_the_fold_has_caught_up(
    app: App, either_store: Store, tmp_path: Path, is_folded: bool
) -> None:
    """Also when what the backup lacks was never folded, so that no group's commit tells of it."""
    homes.fold(app)
    app.close()  # brings the WAL back into the file
    home = app.settings.home
    old = either_store.copied(home, tmp_path / "old")
    with homes.opened_app(home) as later:
        buy(later, "after-the-backup")
        if is_folded:
            homes.fold(later)
    restore_database(home, old)
    with homes.opened_app(home) as restored:
        with pytest.raises(StoreUnavailable, match="set back to an older state"):
            buy(restored, "too-early")
        assert bought(restored) == 5
        again = buy(restored, "after-the-backup")
        assert isinstance(again, Done)
        assert again.is_repeated
        assert isinstance(buy(restored, "now"), Done)
        assert bought(restored) == 10


def test_a_database_lost_before_anything_was_folded_sells_nothing_twice(app: App) -> None:
    buy(app, "k")
    home = lose_database(app)
    with homes.opened_app(home) as rebuilt:
        with pytest.raises(StoreUnavailable, match="set back to an older state"):
            homes.handle(rebuilt, OPEN)
        assert homes.fold(rebuilt).counts.dead_letters == 0  # no price was published again
        assert isinstance(buy(rebuilt, "k"), Done)
        assert [event.version for event in on_log(rebuilt)] == [1, 2]
        assert bought(rebuilt) == 5


def test_usage_that_waits_for_the_fold_keeps_no_command_waiting(app: App) -> None:
    homes.fold(app)
    homes.emit(app, [Usage(organization="acme", member="pia", surface="web", model="m")] * 3)
    assert isinstance(buy(app, "k"), Done)
    assert isinstance(buy(app, "k-2"), Done)


KEPT: list[tuple[str, Command]] = [
    ("add", AddMember(organization="acme", member="max")),
    ("role", SetRole(organization="acme", member="max", role="owner")),
    ("hand over", TransferOwnership(organization="acme", member="max")),
    ("buy", BuyCredits(organization="acme", credit_nanos=5)),
    ("void", VoidCredits(organization="acme", purchase_id="purchase-5", reason="wrong")),
    ("cap", SetCap(organization="acme", scope="organization", setting="capped", cap_nanos=0)),
    ("remove", RemoveMember(organization="acme", member="pia")),
]


def test_every_key_from_before_a_lost_database_gives_its_first_answer_again(app: App) -> None:
    """The remembered answers are gone: the events themselves tell."""

    def ask(app: App, command: Command, key: str, **fields: Any) -> Outcome:
        context = CommandContext(**{"actor": "operator", "command_id": key, **fields})
        return app.organizations.handle(command, context)

    first = {what: ask(app, command, f"k:{what[:3]}") for what, command in KEPT}
    homes.fold(app)
    home = app.settings.home
    lose_database(app)
    with homes.opened_app(home) as rebuilt:
        homes.fold(rebuilt)
        for what, command in KEPT:
            again, was = ask(rebuilt, command, f"k:{what[:3]}"), first[what]
            assert isinstance(was, Done)
            assert isinstance(again, Done)
            assert again.is_repeated
            assert json.loads(json.dumps(again.answer)) == json.loads(json.dumps(was.answer))
        for fields in ({"actor": "max"}, {"reference": "invoice 7"}):
            other = ask(rebuilt, KEPT[3][1], "k:buy", **fields)
            assert isinstance(other, Refusal)
            assert other.reasons[0].reason == "idempotency_key"
        assert bought(rebuilt) == 0
        assert [event.version for event in on_log(rebuilt)] == list(range(1, 9))


def test_a_key_from_before_a_lost_database_refuses_other_content(app: App) -> None:
    buy(app, "k")
    homes.fold(app)
    home = app.settings.home
    lose_database(app)
    with homes.opened_app(home) as rebuilt:
        homes.fold(rebuilt)
        other = buy(rebuilt, "k", 6)
        assert isinstance(other, Refusal)
        assert other.reasons[0].reason == "idempotency_key"
        assert bought(rebuilt) == 5
