"""Given a log, when it is folded, then who is told what, exactly once (RULES R26)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from ledger.telling import MICRO, NEXT_PERIOD, PERIOD, Organization, Telling, fold, told
from ledger.test_sqlite_ledger import open_ledger
from sqlalchemy import delete
from support.events import NOON

from tollkeeper import failpoints
from tollkeeper.ledger.notification_tables import notification
from tollkeeper.ledger.store import SqlLedger

REACHED, LOW, OUT = "cap.threshold_reached", "credits.low", "credits.out"
STOPPED, RESUMED = "usage.stopped", "usage.resumed"
ALL = "organization/acme"
ANN = "member/ann"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    ledger = open_ledger(tmp_path)
    ledger.begin_generation(NOON, partitions=1, log_identity="log-0")  # the live one, unused
    yield ledger
    ledger.close()


@pytest.fixture
def telling(ledger: SqlLedger) -> Telling:
    return Telling(ledger)


@pytest.fixture
def acme(telling: Telling) -> Organization:
    acme = Organization()
    telling.take(acme.opened("sales_assisted"))
    return acme


@pytest.fixture
def shop(telling: Telling) -> Organization:
    """Self-serve: it has credits."""
    shop = Organization("shop")
    telling.take(shop.opened())
    return shop


@pytest.mark.parametrize("percent", [75, 90, 100])
@pytest.mark.parametrize(("scope", "member"), [(ALL, None), (ANN, "ann")])
def test_r26_a_threshold_is_told_once_it_is_reached(
    telling: Telling, acme: Organization, percent: int, scope: str, member: str | None
) -> None:
    """Just below to the nano-dollar, exactly at, just above."""
    telling.take(acme.cap(100, member), acme.thresholds(percent))
    assert telling.take(acme.usage(percent - 1, nanos=999)) == []
    assert telling.take(acme.usage(nanos=1)) == [(REACHED, scope, percent)]
    assert telling.take(acme.usage(nanos=1)) == []


def test_r26_each_threshold_that_one_charge_reaches_is_told(
    telling: Telling, acme: Organization
) -> None:
    telling.take(acme.cap(100))
    assert telling.take(acme.usage(95)) == [(REACHED, ALL, 75), (REACHED, ALL, 90)]
    assert telling.take(acme.usage(5)) == [(REACHED, ALL, 100)]


def test_r26_without_a_cap_or_with_an_unlimited_one_nothing_is_told(
    telling: Telling, acme: Organization
) -> None:
    assert telling.take(acme.usage(10**6)) == []
    telling.take(acme.default_cap("unlimited"), acme.cap("unlimited"))
    assert telling.take(acme.usage(10**6)) == []


def test_r26_a_members_own_cap_counts_and_the_default_for_the_others(
    telling: Telling, acme: Organization
) -> None:
    telling.take(acme.default_cap(10), acme.cap(100, "ann"), acme.thresholds(100))
    assert telling.take(acme.usage(10), acme.usage(10, "bob")) == [(REACHED, "member/bob", 100)]
    telling.take(acme.cap("inherit", "ann"))
    assert [row["scope"] for row in told(telling.ledger)] == ["member/bob", ANN]


def test_r26_a_raised_cap_arms_again(telling: Telling, acme: Organization) -> None:
    telling.take(acme.cap(100))
    assert len(telling.take(acme.usage(100))) == 3
    assert telling.take(acme.cap(1_000)) == []
    assert telling.take(acme.usage(649)) == []
    assert telling.take(acme.usage(1)) == [(REACHED, ALL, 75)]


def test_r26_thresholds_that_another_cap_has_behind_it_are_told_with_it(
    telling: Telling, acme: Organization
) -> None:
    telling.take(acme.cap(100), acme.usage(70))
    assert telling.take(acme.cap(80)) == [(REACHED, ALL, 75)]
    assert telling.take(acme.cap(70)) == [(REACHED, ALL, percent) for percent in (75, 90, 100)]
    assert telling.take(acme.cap(71)) == [(REACHED, ALL, percent) for percent in (75, 90)]


def test_r26_the_same_cap_set_again_tells_nothing_again(
    telling: Telling, acme: Organization
) -> None:
    telling.take(acme.cap(100), acme.usage(80))
    assert telling.take(acme.cap(100)) == []
    assert telling.take(acme.usage(5)) == []
    assert telling.take(acme.usage(5)) == [(REACHED, ALL, 90)]


def test_r26_a_lower_default_is_told_to_everybody_who_is_beyond_it(
    telling: Telling, acme: Organization
) -> None:
    telling.take(acme.cap(100, "cleo"), acme.thresholds(100))
    telling.take(*(acme.usage(50, member) for member in ("ann", "bob", "cleo")))
    telling.take(acme.usage(1, "dan"))
    assert telling.take(acme.default_cap(50)) == [
        (REACHED, ANN, 100),
        (REACHED, "member/bob", 100),
    ]


def test_r26_a_cap_of_zero_is_reached_by_the_first_charge(
    telling: Telling, acme: Organization
) -> None:
    assert telling.take(acme.cap(0)) == []
    assert len(telling.take(acme.usage(nanos=1))) == 3
    assert telling.take(acme.usage(1)) == []


def test_r26_periods_are_told_of_apart(telling: Telling, acme: Organization) -> None:
    telling.take(acme.cap(100), acme.thresholds(100), acme.usage(100))
    acme.now = NEXT_PERIOD
    assert telling.take(acme.usage(99), at=NEXT_PERIOD) == []
    assert telling.take(acme.usage(1), at=NEXT_PERIOD) == [(REACHED, ALL, 100)]
    starts = {row["period_start"] for row in told(telling.ledger)}
    assert starts == {PERIOD.start_micros, PERIOD.end_micros}


def test_r26_owners_choose_the_thresholds(telling: Telling, acme: Organization) -> None:
    telling.take(acme.cap(100), acme.thresholds(10, 20))
    assert telling.take(acme.usage(15)) == [(REACHED, ALL, 10)]
    telling.take(acme.thresholds())
    assert telling.take(acme.usage(100)) == []


def test_r26_owners_admins_and_the_member_concerned_are_told(
    telling: Telling, acme: Organization
) -> None:
    telling.take(acme.added("ada", "admin"), acme.added("otto", "owner"), acme.added("max"))
    telling.take(acme.cap(10, "max"), acme.thresholds(50, 100), acme.cap(20))
    telling.take(acme.usage(5, "max"))
    (row,) = told(telling.ledger)
    assert msgspec.json.decode(row["recipients"]) == ["ada", "ann", "max", "otto"]
    telling.take(acme.removed("otto"), acme.usage(5, "max"), acme.role("ada", "member"))
    rows = told(telling.ledger)[1:]
    assert [(row["member"], msgspec.json.decode(row["recipients"])) for row in rows] == [
        ("max", ["ada", "ann", "max"]),
        (None, ["ada", "ann"]),
    ]


def test_r26_a_notification_says_what_it_is_about(telling: Telling, acme: Organization) -> None:
    telling.take(acme.cap(100), acme.thresholds(75))
    telling.take(acme.usage(80))
    (row,) = told(telling.ledger)
    assert row["notification_id"].startswith("ntf_")
    assert (row["limit_name"], row["version"]) == ("organization_cap", 2)
    assert (row["cap_nanos"], row["spent_nanos"]) == (100 * MICRO, 80 * MICRO)
    assert (row["occurred_at"], row["log_offset"]) == (NOON, 4)


def test_r26_credits_are_low_below_a_tenth_of_the_last_purchase(
    telling: Telling, shop: Organization
) -> None:
    telling.take(shop.bought(1_000), shop.bought(100))
    assert telling.take(shop.usage(1_090)) == []
    assert telling.take(shop.usage(nanos=1)) == [(LOW, "organization/shop", 10)]
    assert telling.take(shop.usage(9, nanos=998)) == []
    assert telling.take(shop.usage(nanos=1)) == [(OUT, "organization/shop", None)]
    assert telling.take(shop.usage(5)) == []


def test_r26_bought_credits_arm_again(telling: Telling, shop: Organization) -> None:
    scope = "organization/shop"
    telling.take(shop.bought(100))
    assert telling.take(shop.usage(105)) == [(LOW, scope, 10), (OUT, scope, None)]
    assert telling.take(shop.bought(5)) == [(LOW, scope, 10), (OUT, scope, None)]
    assert telling.take(shop.bought(10)) == []
    assert telling.take(shop.usage(10)) == [(LOW, scope, 10), (OUT, scope, None)]


def test_r26_a_voided_purchase_may_leave_credits_low_or_out(
    telling: Telling, shop: Organization
) -> None:
    scope = "organization/shop"
    small, large = shop.bought(10), shop.bought(1_000)
    telling.take(small, large, shop.usage(5))
    assert telling.take(shop.voided(large)) == []
    assert telling.take(shop.usage(4)) == []
    assert telling.take(shop.usage(nanos=1)) == [(LOW, scope, 10)]
    assert telling.take(shop.voided(small)) == [(OUT, scope, None)]


@pytest.mark.parametrize("low", [0, 50])
def test_r26_owners_choose_what_low_is(telling: Telling, shop: Organization, low: int) -> None:
    telling.take(shop.bought(100), shop.thresholds(low=low))
    assert telling.take(shop.usage(60)) == ([(LOW, "organization/shop", 50)] if low else [])


def test_r22_who_is_billed_in_arrears_hears_nothing_of_credits(
    telling: Telling, acme: Organization
) -> None:
    assert telling.take(acme.usage(1_000)) == []


def test_r21_before_the_first_purchase_credits_are_not_told_to_be_out(
    telling: Telling, shop: Organization
) -> None:
    assert telling.take(shop.usage(5)) == []


def test_r26_usage_that_stops_is_told_once_for_all_emitters(
    telling: Telling, acme: Organization
) -> None:
    telling.take(acme.cap(100), acme.usage(50))
    assert telling.take(acme.reached("organization_cap", 100)) == [(STOPPED, ALL, None)]
    assert telling.take(acme.reached("organization_cap", 100, "bob")) == []
    assert telling.take(acme.reached("organization_cap", 100)) == []


@pytest.mark.parametrize("cap", [99, 101])
def test_r26_a_report_about_another_cap_than_the_one_in_force_is_late(
    telling: Telling, acme: Organization, cap: int
) -> None:
    telling.take(acme.cap(100))
    assert telling.take(acme.reached("organization_cap", cap)) == []
    assert telling.take(acme.reached("member_cap", 100)) == []
    assert telling.take(acme.reached("credits", 100)) == []


def test_r26_a_stop_of_a_period_that_is_over_is_late(telling: Telling, acme: Organization) -> None:
    telling.take(acme.cap(100))
    report = acme.reached("organization_cap", 100)
    assert telling.take(report, at=NEXT_PERIOD) == []
    acme.now = NEXT_PERIOD
    report = acme.reached("organization_cap", 100)
    assert telling.take(report, at=NEXT_PERIOD) == [(STOPPED, ALL, None)]


@pytest.mark.parametrize(("cap", "resumes"), [(119, False), (120, False), (121, True)])
def test_r23_usage_resumes_when_the_cap_is_raised_beyond_what_is_spent(
    telling: Telling, acme: Organization, cap: int, resumes: bool
) -> None:
    telling.take(acme.cap(100), acme.usage(120), acme.reached("organization_cap", 100))
    news = telling.take(acme.cap(cap))
    assert ((RESUMED, ALL, None) in news) is resumes
    rows = [row for row in told(telling.ledger) if row["kind"] == RESUMED]
    assert [row["cause"] for row in rows] == ["cap_raised"] * resumes


def test_r23_usage_resumes_when_the_cap_goes(telling: Telling, acme: Organization) -> None:
    telling.take(acme.default_cap(10), acme.usage(10), acme.reached("member_cap", 10))
    assert telling.take(acme.cap("unlimited")) == []
    assert telling.take(acme.cap("unlimited", "ann")) == [(RESUMED, ANN, None)]
    assert telling.take(acme.cap(10, "ann"), acme.reached("member_cap", 10))[-1:] == [
        (STOPPED, ANN, None)
    ]


def test_r26_each_stop_and_each_way_back_is_told(telling: Telling, acme: Organization) -> None:
    telling.take(acme.thresholds(), acme.cap(10))
    seen = []
    for cap in (20, 10, 20):
        seen += telling.take(acme.reached("organization_cap", 30 - cap))
        seen += telling.take(acme.cap(cap))
    assert seen == [
        (STOPPED, ALL, None),
        (RESUMED, ALL, None),
        (STOPPED, ALL, None),
        (STOPPED, ALL, None),
        (RESUMED, ALL, None),
    ]


def test_r21_usage_resumes_when_credits_are_bought_beyond_the_debt(
    telling: Telling, shop: Organization
) -> None:
    telling.take(shop.bought(100), shop.usage(110))
    stopped = (STOPPED, "organization/shop", None)
    assert telling.take(shop.reached("credits", 100)) == [stopped]
    assert RESUMED not in [kind for kind, _, _ in telling.take(shop.bought(10))]
    assert (RESUMED, "organization/shop", None) in telling.take(shop.bought(1))
    assert telling.take(shop.reached("credits", 100)) == []
    assert telling.take(shop.reached("credits", 111)) == [stopped]


def test_r22_the_first_record_of_a_later_period_lifts_caps_and_not_credits(
    telling: Telling, shop: Organization
) -> None:
    scope = "organization/shop"
    telling.take(shop.bought(100), shop.thresholds(), shop.cap(50), shop.cap(20, "ann"))
    telling.take(shop.reached("organization_cap", 50), shop.reached("member_cap", 20))
    telling.take(shop.reached("credits", 100))
    assert telling.take(shop.usage(1, "bob")) == []
    shop.now = NEXT_PERIOD
    assert telling.take(shop.usage(1, "bob"), shop.usage(1), at=NEXT_PERIOD) == [
        (RESUMED, ANN, None),
        (RESUMED, scope, None),
    ]
    assert telling.take(shop.usage(1), at=NEXT_PERIOD) == []
    assert {row["cause"] for row in told(telling.ledger) if row["kind"] == RESUMED} == {
        "new_period"
    }


def test_r22_a_fact_of_a_later_period_lifts_caps_too(telling: Telling, acme: Organization) -> None:
    telling.take(acme.cap(50), acme.reached("organization_cap", 50))
    acme.now = NEXT_PERIOD
    assert telling.take(acme.added("bob"), at=NEXT_PERIOD) == [(RESUMED, ALL, None)]


@pytest.mark.parametrize("place", ["pipeline.after_charges", "pipeline.after_fold"])
def test_a_fold_that_dies_tells_nothing_and_the_next_one_all_of_it(
    telling: Telling, acme: Organization, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    telling.take(acme.cap(100))
    monkeypatch.setitem(failpoints._armed, place, ("enospc", 1))
    with pytest.raises(OSError):
        telling.take(acme.usage(80))
    monkeypatch.setattr(failpoints, "_armed", {})
    assert told(telling.ledger) == []
    fold(telling.ledger, telling.generation, telling.records[-1:], is_live=True)
    assert telling.news() == [(REACHED, ALL, 75)]


def replay(telling: Telling) -> None:
    generation = telling.ledger.begin_generation(NOON, partitions=1, log_identity="log-1")
    assert fold(telling.ledger, generation, telling.records, is_live=False).notifications == 0


def test_a_replay_tells_nothing_again(telling: Telling, acme: Organization) -> None:
    telling.take(acme.cap(100), acme.usage(80))
    before = told(telling.ledger)
    replay(telling)
    assert told(telling.ledger) == before


def test_a_replay_doesnt_tell_what_live_never_told(telling: Telling, acme: Organization) -> None:
    """As when the code that found it is newer than what live folded with."""
    telling.take(acme.cap(100), acme.usage(80))
    with telling.ledger.engine.begin() as connection:
        connection.execute(delete(notification))
    replay(telling)
    assert told(telling.ledger) == []


def test_a_live_fold_of_the_same_log_tells_nothing_twice(
    telling: Telling, acme: Organization
) -> None:
    telling.take(acme.cap(100), acme.usage(80), acme.reached("organization_cap", 100))
    before = told(telling.ledger)
    again = telling.ledger.begin_generation(NOON, partitions=1, log_identity="log-1")
    counts = fold(telling.ledger, again, telling.records, is_live=True)
    assert counts.notifications == 0
    assert told(telling.ledger) == before


def test_reports_about_nobody_change_nothing(telling: Telling) -> None:
    ghost = Organization("ghost")
    assert telling.take(ghost.reached("organization_cap", 100)) == []
