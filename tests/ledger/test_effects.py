"""What the gate is told of a round: absolute totals in its own units, offsets that chain, settled holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger.folding import LOG, PARTITIONS, FoldedLog, retired, started
from ledger.gate_copy import Copy, apply_all, copy_of
from ledger.test_sqlite_ledger import open_ledger
from sqlalchemy import delete
from support.events import (
    MODEL,
    NOON,
    USAGE_NANOS,
    added,
    bought,
    capped,
    opened,
    prices,
    removed,
    usage,
    voided,
)

from tollkeeper.events.codec import Event
from tollkeeper.events.gate import LimitReached
from tollkeeper.events.organization import SpendCapSet
from tollkeeper.events.prices import PriceRow
from tollkeeper.events.quarantine import QuarantineDiscarded, QuarantineReleased
from tollkeeper.gate.commands import BEFORE_FIRST, Cap, Fold, Spent
from tollkeeper.ledger.batch import prepare, rounds
from tollkeeper.ledger.effects import Effects
from tollkeeper.ledger.enforcing import snapshots
from tollkeeper.ledger.store import SqlLedger
from tollkeeper.log.partitioner import partition_for
from tollkeeper.money.periods import period_at
from tollkeeper.outbox.database import reading
from tollkeeper.outbox.tables import decided_event

ACME = partition_for("acme", PARTITIONS)
MICROS = USAGE_NANOS // 1_000
UNPRICED = "claude-unpriced"
SECONDLY_PRICED = "claude-later"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[FoldedLog]:
    ledger = open_ledger(tmp_path)
    ledger.begin_generation(NOON, partitions=PARTITIONS, log_identity=LOG)
    yield FoldedLog(ledger)
    ledger.close()


def only(told: list[Effects]) -> Fold:
    """The one fold of one organization that was told of."""
    (effects,) = told
    (one,) = effects.organizations
    assert (one.organization, one.partition) == ("acme", ACME)
    return one.fold


def letter(place: int) -> dict[str, Any]:
    said = {"command_id": f"c-{place}", "actor": "operator", "occurred_at": NOON}
    return {"letter_partition": ACME, "letter_offset": place, **said}


def spent(micros: int, scope: str, at: int = NOON) -> Spent:
    return Spent(period_at(at), scope, micros)


def cap(version: int, scope: str, setting: str, **fields: object) -> SpendCapSet:
    return SpendCapSet(
        organization="acme", version=version, command_id=f"c-{version}", actor="operator",
        occurred_at=NOON, scope=scope, setting=setting, **fields,  # type: ignore[arg-type]  # as said
    )  # fmt: skip


def test_usage_raises_the_totals_of_its_member_and_organization_and_settles_its_hold(
    log: FoldedLog,
) -> None:
    first = only(log.fold(opened(), usage(hold_id="h-1")))
    assert first == Fold(
        previous=BEFORE_FIRST,
        offset=2,
        position=3,
        spent=(spent(MICROS, "organization/acme"), spent(MICROS, "member/ann")),
        used_micros=MICROS,
        members={"ann": True},
        settled=("h-1",),
    )
    second = only(log.fold(usage(event_id="e-2", member="bob")))
    assert second == Fold(
        previous=2,
        offset=3,
        position=4,
        spent=(spent(2 * MICROS, "organization/acme"), spent(MICROS, "member/bob")),
        used_micros=2 * MICROS,
    )


def test_totals_are_of_the_period_in_which_the_hold_was_granted(log: FoldedLog) -> None:
    last_month = period_at(NOON).start_micros - 1
    fold = only(log.fold(opened(), usage(), usage(event_id="e-2", occurred_at=last_month)))
    assert fold.spent == (
        spent(MICROS, "organization/acme", last_month),
        spent(MICROS, "member/ann", last_month),
        spent(MICROS, "organization/acme"),
        spent(MICROS, "member/ann"),
    )


@pytest.mark.parametrize(("nanos", "micros"), [(999, 1), (1_000, 1), (1_001, 2)])
def test_what_is_spent_is_rounded_up_to_the_micro_dollar(
    log: FoldedLog, nanos: int, micros: int
) -> None:
    row = PriceRow(model="m", input_picos=1_000)
    log.append(prices(publication_id="p-2", prices=(row,)))
    fold = only(log.fold(opened(), usage(model="m", input_tokens=nanos, output_tokens=0)))
    assert {one.spent_micros for one in fold.spent} == {fold.used_micros} == {micros}


@pytest.mark.parametrize(
    ("nanos", "micros"), [(999_999, 999), (1_000_000, 1_000), (1_000_001, 1_000)]
)
def test_credits_and_caps_are_rounded_down_to_the_micro_dollar(
    log: FoldedLog, nanos: int, micros: int
) -> None:
    fold = only(log.fold(opened(), bought("acme", 2, nanos), capped("acme", 3, nanos)))
    assert fold.purchased_micros == micros
    assert fold.caps == (Cap("organization/acme", micros),)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (cap(2, "organization", "capped", cap_nanos=5_000), Cap("organization/acme", 5)),
        (cap(2, "organization", "unlimited"), Cap("organization/acme", "unlimited")),
        (cap(2, "organization", "inherit"), Cap("organization/acme", "inherit")),
        (cap(2, "member_default", "capped", cap_nanos=5_000), Cap("member", 5)),
        (cap(2, "member_default", "unlimited"), Cap("member", "unlimited")),
        (cap(2, "member_default", "inherit"), Cap("member", "unlimited")),
        (cap(2, "member", "capped", member="b/c", cap_nanos=0), Cap("member/b/c", 0)),
        (cap(2, "member", "unlimited", member="bob"), Cap("member/bob", "unlimited")),
        (cap(2, "member", "inherit", member="bob"), Cap("member/bob", "inherit")),
    ],
)  # fmt: skip
def test_r19_r20_each_cap_is_told_as_the_gate_keeps_it(
    log: FoldedLog, event: SpendCapSet, told: Cap
) -> None:
    log.fold(opened())
    assert only(log.fold(event)).caps == (told,)


def test_sales_assisted_usage_uses_no_credits(log: FoldedLog) -> None:
    fold = only(log.fold(opened(channel="sales_assisted"), usage()))
    assert (fold.used_micros, len(fold.spent)) == (None, 2)


def test_a_voided_purchase_and_a_member_that_left_are_told(log: FoldedLog) -> None:
    log.fold(opened(), bought("acme", 2), added("acme", 3, "bob"))
    fold = only(log.fold(voided("acme", 4, "purchase-2"), removed("acme", 5, "bob")))
    assert (fold.purchased_micros, fold.members) == (0, {"bob": False})


@pytest.mark.parametrize(
    "quarantined",
    [
        pytest.param(usage(event_id="e-2", model=UNPRICED, hold_id="h-2"), id="unpriced"),
        pytest.param(usage(input_tokens=7, hold_id="h-2"), id="a conflict"),
        pytest.param(usage(event_id="e-2", occurred_at=NOON + 10**12, hold_id="h-2"), id="too early"),
    ],
)  # fmt: skip
def test_quarantined_usage_moves_the_offset_and_settles_its_hold(
    log: FoldedLog, quarantined: Event
) -> None:
    log.fold(opened(), usage())
    assert only(log.fold(quarantined)) == Fold(previous=2, offset=3, position=4, settled=("h-2",))


def test_quarantined_usage_that_comes_again_moves_the_offset_as_well(log: FoldedLog) -> None:
    again = usage(model=UNPRICED, hold_id="h-1")
    log.fold(opened(), again)
    assert only(log.fold(again)) == Fold(previous=2, offset=3, position=4, settled=("h-1",))
    log.fold((ACME, QuarantineDiscarded(reason="no", **letter(2))))
    assert only(log.fold(again)) == Fold(previous=3, offset=5, position=6, settled=("h-1",))


def test_a_duplicate_moves_the_offset_and_changes_no_total(log: FoldedLog) -> None:
    again = usage(hold_id="h-1")
    log.fold(opened(), again)
    assert only(log.fold(again)) == Fold(previous=2, offset=3, position=4, settled=("h-1",))


def test_usage_on_another_partition_than_its_organization_s_touches_it_not(log: FoldedLog) -> None:
    log.fold(opened())
    stray = usage(hold_id="h-1")
    (effects,) = log.fold((1 - ACME, stray))
    assert effects.organizations == ()
    log.fold(
        (1 - ACME, QuarantineDiscarded(reason="no", **{**letter(1), "letter_partition": 1 - ACME}))
    )
    (effects,) = log.fold((1 - ACME, stray))
    assert effects.organizations == ()


def test_usage_released_from_quarantine_raises_the_totals_then(log: FoldedLog) -> None:
    """Its hold was settled when it was quarantined; the money is spent outside the gate's promise."""
    log.fold(opened(), usage(model=SECONDLY_PRICED, hold_id="h-1"))
    row = PriceRow(model=SECONDLY_PRICED, input_picos=1_000_000, output_picos=0)
    log.fold(prices(publication_id="p-2", prices=(row,)))
    fold = only(log.fold((ACME, QuarantineReleased(**letter(2)))))
    assert (fold.previous, fold.offset, fold.used_micros) == (2, 4, 1_000)
    assert fold.settled == ("h-1",)


def test_a_release_in_vain_tells_the_gate_nothing(log: FoldedLog) -> None:
    log.fold(opened(), usage(model=UNPRICED, hold_id="h-1"), usage(), usage(input_tokens=7))
    for place in (2, 4):
        (effects,) = log.fold((ACME, QuarantineReleased(**letter(place))))
        assert (effects.organizations, effects.positions) == ((), {ACME: log.folded[ACME]})


def test_a_report_that_usage_stopped_moves_the_offset_and_changes_no_limit(log: FoldedLog) -> None:
    log.fold(opened())
    reached = LimitReached(
        organization="acme", limit="organization_cap", scope="organization/acme",
        period_start=period_at(NOON).start_micros, cap_micros=1, spent_micros=1, held_micros=0,
        requested_micros=1, member="ann", emitter="em-1", occurred_at=NOON,
    )  # fmt: skip
    assert only(log.fold(reached)) == Fold(previous=1, offset=2, position=3)


def test_a_hold_that_is_told_twice_in_a_round_is_settled_once(log: FoldedLog) -> None:
    one, other = usage(hold_id="h-1"), usage(event_id="e-2", hold_id="h-1")
    assert only(log.fold(opened(), one, one, other)).settled == ("h-1",)


def test_emitters_are_told_once_where_each_partition_reaches_them(log: FoldedLog) -> None:
    (effects,) = log.fold(started(), started())
    assert (effects.started, effects.retired) == (("em-1",), {})
    (effects,) = log.fold(started())
    assert (effects.started, effects.retired) == ((), {})
    (effects,) = log.fold((1, retired()), (1, retired()), (1, started("em-2")))
    assert (effects.started, effects.retired) == (("em-2",), {1: ("em-1",)})
    (effects,) = log.fold((0, retired()), (1, retired()), (0, retired("em-3")))
    assert (effects.started, effects.retired) == ((), {0: ("em-1", "em-3")})
    (effects,) = log.fold((0, started("em-3")))
    assert (effects.started, effects.retired) == ((), {})


def test_a_round_without_followers_makes_no_effects(log: FoldedLog) -> None:
    (taken,) = rounds(prepare(log.records[ACME], log.folded))
    assert log.fold_round(taken).effects is None


NAMES = ("acme", "globex", "initech")
HOLDS = tuple(f"acme/em-1/{number}/x" for number in range(3))
facts = st.one_of(
    st.builds(
        usage,
        event_id=st.sampled_from([f"e-{n}" for n in range(8)]),
        organization=st.sampled_from(NAMES),
        member=st.sampled_from(["ann", "bob"]),
        model=st.sampled_from([MODEL, MODEL, UNPRICED, SECONDLY_PRICED]),
        input_tokens=st.sampled_from([1_000, 2_000, 333]),
        hold_id=st.none() | st.sampled_from(HOLDS),
        occurred_at=st.sampled_from([NOON, NOON - 10**12 * 2]),
    ),
    st.builds(opened, st.sampled_from(NAMES)),
    st.builds(added, st.sampled_from(NAMES), st.integers(2, 4), st.just("bob")),
    st.builds(removed, st.sampled_from(NAMES), st.integers(2, 5), st.just("bob")),
    st.builds(bought, st.sampled_from(NAMES), st.integers(2, 4), st.integers(1, 5_000)),
    st.builds(capped, st.sampled_from(NAMES), st.integers(2, 4), st.integers(0, 5_000)),
)
late_prices = prices(
    publication_id="p-2", prices=(PriceRow(model=SECONDLY_PRICED, input_picos=777, output_picos=1),)
)
decisions = st.builds(
    lambda kind, partition, place: (partition, kind(place, partition)),
    st.sampled_from(
        [
            lambda place, partition: QuarantineReleased(
                **letter(place) | {"letter_partition": partition}
            ),
            lambda place, partition: QuarantineDiscarded(
                reason="no", **letter(place) | {"letter_partition": partition}
            ),
        ]
    ),
    st.integers(0, PARTITIONS - 1),
    st.integers(1, 12),
)
histories = st.lists(st.one_of(facts, facts, facts, decisions, st.just(late_prices)), max_size=40)


@pytest.fixture(scope="module")
def reused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLedger]:
    ledger = open_ledger(Path(tmp_path_factory.mktemp("effects")))
    yield ledger
    ledger.close()


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories, sizes=st.lists(st.integers(1, 7), min_size=1))
def test_effects_taken_one_after_the_other_are_what_a_snapshot_shows_however_batches_are_cut(
    reused: SqlLedger, history: list[Event | tuple[int, Event]], sizes: list[int]
) -> None:
    """And each chains to the one before: no move of an organization goes untold."""
    log = FoldedLog(reused, begin_live(reused))
    log.append(opened("acme"), opened("globex"), *history)
    copies: dict[str, Copy] = {}
    for number in range(1_000):
        if log.is_folded:
            break
        apply_all(copies, log.fold(most=sizes[number % len(sizes)]))
    with reading(reused.engine) as connection:
        found = snapshots(
            connection, dict.fromkeys(NAMES, HOLDS), now_micros=NOON, tag_of=lambda _: "0"
        )
    shown = {name: copy_of(one) for name, one in found.items() if one is not None}
    if "initech" in shown:
        # Of usage from before it was open nobody had to be told: nothing can be held there.
        assert copies["initech"].settled <= shown["initech"].settled
        copies["initech"].settled = shown["initech"].settled
    assert copies == shown


def begin_live(ledger: SqlLedger) -> int:
    """A generation of its own for each example, as the only one, and nothing left of the last one's log."""
    number = ledger.begin_generation(NOON, partitions=PARTITIONS, log_identity=LOG)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE generation SET status = 'retired' WHERE status = 'live'")
        connection.exec_driver_sql(
            f"UPDATE generation SET status = 'live' WHERE generation = {number:d}"
        )
        connection.execute(delete(decided_event))
    return number
