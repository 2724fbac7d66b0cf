"""Who follows the fold is told of every committed round, and of nothing that may not have happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from unittest.mock import patch

import pytest
from support import homes

from tollkeeper.app.wiring import App
from tollkeeper.errors import StoreUnavailable
from tollkeeper.ledger.effects import Effects
from tollkeeper.ledger.port import Position
from tollkeeper.ledger.store import SqlLedger, SqlTransaction
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Outgoing
from tollkeeper.organizations.commands import AddMember, OpenOrganization
from tollkeeper.pipeline.loop import Pipeline
from tollkeeper.pipeline.settings import PipelineSettings
from tollkeeper.replay.folding import fold_up_to

MOST_STEPS = 200
SETTINGS = PipelineSettings(max_records=3, linger_s=0.0, poll_timeout_s=0.01)


class Following:
    """Notes what it is told; `has` is how far it says that it has everything."""

    def __init__(self, *, is_following: bool = True) -> None:
        self.is_following = is_following
        self.adoptions: list[tuple[int, Mapping[int, Position]]] = []
        self.told: list[Effects] = []
        self.has: dict[int, int] = {}

    def adopted(self, generation: int, positions: Mapping[int, Position]) -> None:
        self.adoptions.append((generation, dict(positions)))

    def folded(self, effects: Effects) -> None:
        self.told.append(effects)
        self.has |= effects.positions

    def applied(self) -> Mapping[int, int]:
        return dict(self.has)

    def offsets_of(self, name: str) -> list[tuple[int, int]]:
        return [
            (one.fold.previous, one.fold.offset)
            for effects in self.told
            for one in effects.organizations
            if one.organization == name
        ]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with homes.opened_app(tmp_path / "home") as opened:
        yield opened


@contextmanager
def pipeline(app: App, follower: Following) -> Iterator[Pipeline]:
    made = Pipeline(app.log, app.ledger, monotonic=monotonic, settings=SETTINGS, follower=follower)
    try:
        yield made
    finally:
        made.close()


def catch_up(made: Pipeline, app: App) -> None:
    ends = app.log.end_offsets()
    for _ in range(MOST_STEPS):
        if dict(made.owned) == ends:
            return
        made.step()
    raise AssertionError(f"the fold stands at {dict(made.owned)}, the log ends at {ends}")


def members(app: App, *names: str) -> None:
    homes.handle(app, *(AddMember(organization="acme", member=one, role="member") for one in names))


def open_acme(app: App) -> int:
    homes.handle(
        app, OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="ann")
    )
    return partition_for("acme", app.log.partition_count)


def test_each_round_is_told_once_in_order_and_how_far_it_went_is_written_with_the_next(
    app: App,
) -> None:
    partition = open_acme(app)
    follower = Following()
    with pipeline(app, follower) as made:
        catch_up(made, app)
        members(app, "bob", "eve", "kim", "lea")
        catch_up(made, app)
        place = app.ledger.live_positions()[1][partition]
    offsets = follower.offsets_of("acme")
    assert offsets[0][0] == -1
    assert [previous for previous, _ in offsets[1:]] == [offset for _, offset in offsets[:-1]]
    assert len(offsets) >= 3
    before_last, last = [
        one.positions[partition] for one in follower.told if partition in one.positions
    ][-2:]
    assert (place.next_offset, place.applied_offset) == (last, before_last)
    # Who leaves in order writes the rest.
    assert app.ledger.live_positions()[1][partition].applied_offset == last


def test_who_takes_over_is_told_from_where_nobody_may_have_been_told(app: App) -> None:
    partition = open_acme(app)
    first, second = Following(), Following()
    with pipeline(app, first) as made:
        catch_up(made, app)
        assert first.adoptions[-1][1][partition].applied_offset is None
        told = first.has[partition]
        members(app, "bob")
        catch_up(made, app)
        # Had it died here, this is what the next one would begin with.
        assert app.ledger.live_positions()[1][partition].applied_offset == told
    with pipeline(app, second) as made:
        catch_up(made, app)
    generation, positions = second.adoptions[-1]
    assert (generation, positions[partition].applied_offset) == (1, first.has[partition])
    assert set(positions) == set(range(app.log.partition_count))
    assert second.told == []


def test_a_lost_offset_race_tells_nothing_and_adopts_anew(app: App) -> None:
    partition = open_acme(app)
    follower = Following()
    with pipeline(app, follower) as made:
        catch_up(made, app)
        rounds, adoptions = len(follower.told), len(follower.adoptions)
        members(app, "bob")
        fold_up_to(app.log, app.ledger, 1, app.log.end_offsets(), progress=lambda _records: None)
        catch_up(made, app)
    assert len(follower.told) == rounds
    assert len(follower.adoptions) == adoptions + 1
    place = follower.adoptions[-1][1][partition]
    assert place.applied_offset is not None and place.applied_offset < place.next_offset


def test_a_commit_whose_answer_got_lost_is_not_told_but_adopted_anew(app: App) -> None:
    open_acme(app)
    follower = Following()
    with pipeline(app, follower) as made:
        catch_up(made, app)
        rounds, adoptions = len(follower.told), len(follower.adoptions)
        members(app, "bob")
        with (
            patch.object(SqlLedger, "transaction", _answer_gets_lost),
            pytest.raises(StoreUnavailable),
        ):
            catch_up(made, app)
        catch_up(made, app)
    assert len(follower.told) == rounds
    assert len(follower.adoptions) == adoptions + 1


_transaction = SqlLedger.transaction


@contextmanager
def _answer_gets_lost(ledger: SqlLedger) -> Iterator[SqlTransaction]:
    with _transaction(ledger) as transaction:
        yield transaction
    raise StoreUnavailable("the connection broke in the commit")


def test_a_halted_partition_is_adopted_with_the_others(app: App) -> None:
    """What was folded of it before may still have to be told."""
    partition = open_acme(app)
    homes.fold(app)
    app.log.append([Outgoing(partition, None, b"\x00\x00\x00\xff\xffnobody knows this schema")])
    follower = Following()
    with pipeline(app, follower) as made:
        for _ in range(MOST_STEPS):
            if made.halted:
                break
            made.step()
    assert set(made.halted) == {partition}
    assert partition in follower.adoptions[-1][1]


def test_with_nobody_following_no_effects_are_made_and_no_epoch_is_read(app: App) -> None:
    open_acme(app)
    follower = Following(is_following=False)
    with (
        patch.object(SqlTransaction, "epochs", side_effect=AssertionError),
        pipeline(app, follower) as made,
    ):
        catch_up(made, app)
    assert (follower.told, len(follower.adoptions)) == ([], 1)
