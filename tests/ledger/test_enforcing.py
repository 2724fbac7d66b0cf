"""What SQL answers to the gate's enforcement: epochs by compare and set, snapshots, who was retired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger import test_postgresql_ledger, test_sqlite_ledger
from ledger.folding import LOG, PARTITIONS, FoldedLog, retired, started
from sqlalchemy import Engine, event
from support.events import NOON, USAGE_NANOS, added, bought, capped, opened, removed, usage

from tollkeeper.events.organization import SpendCapSet
from tollkeeper.events.quarantine import QuarantineDiscarded
from tollkeeper.gate.commands import Cap, Incarnation, Snapshot, Spent
from tollkeeper.ledger.enforcing import (
    Emitters,
    EpochRow,
    emitters,
    folded_up_to,
    open_epoch,
    raise_epoch,
    read_epochs,
    retired_since,
    snapshots,
    touched_since,
)
from tollkeeper.ledger.epochs import raise_every_epoch
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.partitioner import partition_for
from tollkeeper.money.periods import Period, period_at
from tollkeeper.outbox.database import reading, writing

ACME, GLOBEX = partition_for("acme", PARTITIONS), partition_for("globex", PARTITIONS)
MICROS = USAGE_NANOS // 1_000
NOW = period_at(NOON)
PREVIOUS, NEXT = period_at(NOW.start_micros - 1), period_at(NOW.end_micros)
SERVER = Incarnation("run-1", "replication-1")
OTHER = Incarnation("run-2", "replication-2")


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlLedger]:
    if request.param == "sqlite":
        ledger = test_sqlite_ledger.open_ledger(tmp_path)
    else:
        ledger = test_postgresql_ledger.open_ledger(request.getfixturevalue("postgresql_url"))
    ledger.begin_generation(NOON, partitions=PARTITIONS, log_identity=LOG)
    yield ledger
    ledger.close()


@pytest.fixture
def log(ledger: SqlLedger) -> FoldedLog:
    return FoldedLog(ledger)


def raised(ledger: SqlLedger, expected: int, tag: str = "0", **fields: Any) -> int | None:
    with writing(ledger.engine) as connection:
        return raise_epoch(
            connection,
            tag,
            **{"expected": expected, "incarnation": SERVER, "now_micros": NOON, **fields},
        )


def opened_epoch(ledger: SqlLedger, epoch: int, tag: str = "0") -> bool:
    with writing(ledger.engine) as connection:
        return open_epoch(connection, tag, epoch)


def epochs(ledger: SqlLedger) -> dict[str, EpochRow]:
    with reading(ledger.engine) as connection:
        return dict(read_epochs(connection))


def shot(ledger: SqlLedger, *holds: str, organization: str = "acme", at: int = NOON) -> Snapshot:
    with reading(ledger.engine) as connection:
        found = snapshots(
            connection, {organization: holds}, now_micros=at, tag_of=lambda _name: "0"
        )[organization]
    assert found is not None
    return found


def test_an_epoch_is_raised_from_the_number_that_was_expected_and_opened_as_that(
    ledger: SqlLedger,
) -> None:
    assert epochs(ledger) == {}
    assert raised(ledger, expected=0) == 1
    assert epochs(ledger) == {"0": EpochRow("0", 1, "recovering", "run-1", "replication-1", NOON)}
    assert opened_epoch(ledger, 1)
    assert raised(ledger, expected=1, incarnation=OTHER, now_micros=NOON + 1) == 2
    assert epochs(ledger) == {
        "0": EpochRow("0", 2, "recovering", "run-2", "replication-2", NOON + 1)
    }


@pytest.mark.parametrize("expected", [0, 1, 3])
def test_an_epoch_that_somebody_else_raised_is_left_alone(ledger: SqlLedger, expected: int) -> None:
    raised(ledger, expected=0)
    raised(ledger, expected=1, incarnation=OTHER)
    before = epochs(ledger)
    assert raised(ledger, expected=expected) is None
    assert epochs(ledger) == before


@pytest.mark.parametrize("epoch", [1, 3])
def test_only_the_epoch_that_is_the_primary_s_is_opened(ledger: SqlLedger, epoch: int) -> None:
    raised(ledger, expected=0)
    raised(ledger, expected=1)
    assert not opened_epoch(ledger, epoch)
    assert epochs(ledger)["0"].phase == "recovering"


@pytest.mark.parametrize(("above", "epoch"), [(0, 2), (1, 2), (2, 3), (41, 42)])
def test_after_sql_was_set_back_the_number_is_above_the_server_s(
    ledger: SqlLedger, above: int, epoch: int
) -> None:
    raised(ledger, expected=0)
    assert raised(ledger, expected=1, above=above) == epoch


def test_a_swap_raises_the_epoch_of_every_primary(ledger: SqlLedger) -> None:
    for tag in ("0", "7"):
        raised(ledger, expected=0, tag=tag)
        opened_epoch(ledger, 1, tag=tag)
    raised(ledger, expected=1, tag="7")
    with writing(ledger.engine) as connection:
        raise_every_epoch(connection, NOON + 5)
    assert {one.tag: (one.epoch, one.phase, one.begun_at) for one in epochs(ledger).values()} == {
        "0": (2, "recovering", NOON + 5),
        "7": (3, "recovering", NOON + 5),
    }


def test_a_snapshot_has_all_that_a_limit_is_checked_against(
    log: FoldedLog, ledger: SqlLedger
) -> None:
    raised(ledger, expected=0)
    default = SpendCapSet(
        organization="acme", version=5, command_id="c", actor="ann", occurred_at=NOON,
        scope="member_default", setting="capped", cap_nanos=2_999,
    )  # fmt: skip
    log.fold(
        opened(),
        bought("acme", 2, 10_000_999),
        added("acme", 3, "bob"),
        added("acme", 4, "eve"),
        default,
        removed("acme", 6, "eve"),
        capped("acme", 7, 5_000_000),
        usage(),
        usage(event_id="e-2", member="bob"),
        usage(event_id="e-3", occurred_at=PREVIOUS.start_micros),
        usage(event_id="e-4", occurred_at=PREVIOUS.start_micros - 1),
    )
    assert shot(ledger) == Snapshot(
        epoch=1,
        phase="recovering",
        offset=11,
        position=12,
        periods=(PREVIOUS, NOW, NEXT),
        funding="prepaid",
        seats="every_member",
        levels=("organization", "member"),
        caps=(
            Cap("organization", "unlimited"),
            Cap("member", 2),
            Cap("organization/acme", 5_000),
        ),
        spent=(
            Spent(PREVIOUS, "organization/acme", MICROS),
            Spent(PREVIOUS, "member/ann", MICROS),
            Spent(NOW, "organization/acme", 2 * MICROS),
            Spent(NOW, "member/ann", MICROS),
            Spent(NOW, "member/bob", MICROS),
        ),
        used_micros=4 * MICROS,
        purchased_micros=10_000,
        members=("ann", "bob"),
    )


def test_a_cap_that_was_taken_away_is_in_no_snapshot(log: FoldedLog, ledger: SqlLedger) -> None:
    inherit = SpendCapSet(
        organization="acme", version=3, command_id="c", actor="ann", occurred_at=NOON,
        scope="organization", setting="inherit",
    )  # fmt: skip
    log.fold(opened(), capped("acme", 2, 10**9), inherit)
    assert shot(ledger).caps == (Cap("organization", "unlimited"), Cap("member", "unlimited"))


@pytest.mark.parametrize(
    ("at", "periods"),
    [
        (NOW.start_micros - 1, (period_at(PREVIOUS.start_micros - 1), PREVIOUS, NOW)),
        (NOW.start_micros, (PREVIOUS, NOW, NEXT)),
        (NOW.end_micros - 1, (PREVIOUS, NOW, NEXT)),
        (NOW.end_micros, (NOW, NEXT, period_at(NEXT.end_micros))),
    ],
)
def test_a_snapshot_has_the_periods_around_the_given_instant(
    log: FoldedLog, ledger: SqlLedger, at: int, periods: tuple[Period, Period, Period]
) -> None:
    log.fold(opened(channel="sales_assisted"), usage())
    found = shot(ledger, at=at)
    assert (found.periods, found.funding) == (periods, "arrears")
    in_sight = {one.start_micros for one in periods}
    assert {one.period for one in found.spent} == ({NOW} if NOW.start_micros in in_sight else set())


def test_only_usage_that_was_folded_where_its_organization_is_settles_a_hold(
    log: FoldedLog, ledger: SqlLedger
) -> None:
    charged, odd, early, stray, held = (f"acme/em-1/{number}/x" for number in range(5))
    log.fold(
        usage(event_id="e-0", hold_id=early),
        opened(),
        usage(hold_id=charged),
        usage(event_id="e-2", model="unpriced", hold_id=odd),
        (1 - ACME, usage(event_id="e-3", hold_id=stray)),
        usage(event_id="e-4", organization="globex", hold_id=held),
        (ACME, QuarantineDiscarded(letter_partition=ACME, letter_offset=4, reason="no",
            command_id="c", actor="operator", occurred_at=NOON)),
    )  # fmt: skip
    found = shot(ledger, charged, odd, early, stray, held)
    assert found.settled == (charged, odd, early)
    assert found.still_open == (stray, held)


def test_a_snapshot_names_the_emitters_that_were_retired_on_its_partition(
    log: FoldedLog, ledger: SqlLedger
) -> None:
    """Those whose holds were asked about, and those of whose retirement Redis may not have heard."""
    holds = [f"acme/{emitter}/1/x" for emitter in ("em-here", "em-there", "em-on")]
    log.fold(
        opened(), started("em-on"), (ACME, retired("em-here")), (1 - ACME, retired("em-there"))
    )
    log.fold((ACME, retired("em-old")), usage())
    assert shot(ledger, *holds).retired == ("em-here", "em-old")
    last = log.folded[ACME]
    log.fold(usage(event_id="e-2"), (ACME, retired("em-new")), applied={ACME: last})
    assert shot(ledger, *holds).retired == ("em-here", "em-new")
    assert shot(ledger).retired == ("em-new",)


def test_an_organization_that_is_not_open_has_no_snapshot(
    log: FoldedLog, ledger: SqlLedger
) -> None:
    log.fold(opened(), usage(event_id="e-2", organization="nobody"))
    with reading(ledger.engine) as connection:
        found = snapshots(
            connection, {"acme": (), "nobody": ()}, now_micros=NOON, tag_of=lambda _name: "0"
        )
    assert found["nobody"] is None and found["acme"] is not None


def test_each_organization_has_the_epoch_of_its_own_primary(
    log: FoldedLog, ledger: SqlLedger
) -> None:
    raised(ledger, expected=0, tag="3")
    opened_epoch(ledger, 1, tag="3")
    log.fold(opened(), opened("globex"))
    with reading(ledger.engine) as connection:
        found = snapshots(
            connection,
            {"acme": (), "globex": ()},
            now_micros=NOON,
            tag_of=lambda name: "3" if name == "globex" else "4",
        )
    shown = {name: (one.epoch, one.phase) for name, one in found.items() if one is not None}
    assert shown == {"globex": (1, "open"), "acme": (0, "recovering")}


def test_a_hundred_organizations_cost_as_many_queries_as_one(
    log: FoldedLog, ledger: SqlLedger
) -> None:
    names = [f"org-{number}" for number in range(100)]
    log.fold(*map(opened, names), *(usage(event_id=one, organization=one) for one in names))
    one, hundred = _queries(ledger.engine, names[:1]), _queries(ledger.engine, names)
    assert one == hundred <= 12


def _queries(engine: Engine, names: list[str]) -> int:
    statements: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    wanted = {name: (f"{name}/em/1/x",) for name in names}
    with reading(engine) as connection:
        found = snapshots(connection, wanted, now_micros=NOON, tag_of=lambda _name: "0")
    event.remove(engine, "before_cursor_execute", note)
    assert all(one is not None and one.spent for one in found.values())
    return len(statements)


def test_organizations_touched_since_an_offset_are_those_of_the_partition(
    log: FoldedLog, ledger: SqlLedger
) -> None:
    log.fold(opened(), opened("globex"), usage())
    with reading(ledger.engine) as connection:
        for offset, names in [(0, ("acme",)), (2, ("acme",)), (3, ())]:
            assert touched_since(connection, 1, ACME, offset) == names
        assert GLOBEX == ACME or touched_since(connection, 1, GLOBEX, 0) == ("globex",)
        assert touched_since(connection, 2, ACME, 0) == ()


def test_emitters_are_listed_over_all_partitions_and_retired_by_partition(
    log: FoldedLog, ledger: SqlLedger
) -> None:
    log.fold(started("em-2"), (0, started("em-1")), (1, retired("em-2")), (0, retired("em-3")))
    with reading(ledger.engine) as connection:
        assert emitters(connection, 1) == Emitters(("em-1",), ("em-2", "em-3"))
        assert emitters(connection, 2) == Emitters((), ())
        for offset, names in [(0, ("em-3",)), (3, ("em-3",)), (4, ())]:
            assert retired_since(connection, 1, 0, offset) == names
        assert retired_since(connection, 1, 1, 0) == ("em-2",)
        assert retired_since(connection, 2, 1, 0) == ()


@pytest.mark.parametrize(("end", "is_folded"), [(1, True), (2, True), (3, False)])
def test_the_fold_is_up_to_an_end_when_no_record_before_it_is_left(
    log: FoldedLog, ledger: SqlLedger, end: int, is_folded: bool
) -> None:
    log.fold(opened())
    with reading(ledger.engine) as connection:
        assert folded_up_to(connection, {ACME: end, 1 - ACME: 1}) == is_folded
        assert not folded_up_to(connection, {ACME: 1, 1 - ACME: 2})
