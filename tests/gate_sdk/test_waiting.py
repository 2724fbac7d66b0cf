"""What a hold waits for, how long, and what it answers then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gate.servers import Server
from gate_sdk.conftest import DeskMaker
from gate_sdk.desk import Desk, booked

from tollkeeper.errors import Misuse, TollkeeperError
from tollkeeper.gate import encoding
from tollkeeper.gate.sdk import GateSettings, Refused

MILLI = 0.001


def test_an_unknown_organization_is_asked_for_again_and_again_until_it_is_warm(
    make_desk: DeskMaker,
) -> None:
    desk = make_desk()
    desk.publish_prices()
    desk.tick()
    desk.fold_emitters()
    desk.tick()
    assert desk.world.run(encoding.asked_to_warm(tag=desk.world.tag)) == ()

    def warm_at_the_fourth() -> None:
        asked = desk.world.run(encoding.asked_to_warm(tag=desk.world.tag))
        assert asked == (desk.world.name,), "the hold asks for it"
        if len(desk.pauses) == 4:
            desk.world.warmed()

    desk.while_waiting = warm_at_the_fourth
    with desk.hold() as hold:
        assert desk.pauses == [2 * MILLI, 4 * MILLI, 8 * MILLI, 16 * MILLI]
        assert desk.in_redis() == [hold.hold_id]
        assert desk.line.names() == ["note", *["hold"] * 5]
        assert len({call.arguments[3] for call in desk.line.calls if call.function == "hold"}) == 1


def test_an_organization_that_nobody_warms_is_unavailable_after_the_wait(
    make_desk: DeskMaker,
) -> None:
    desk = make_desk(GateSettings(warm_wait_s=1.0))
    desk.publish_prices()
    desk.tick()
    desk.fold_emitters()
    desk.tick()
    with pytest.raises(Refused, match="isn't warm") as refused:
        desk.hold()
    [reason] = refused.value.reasons
    assert (reason.reason, reason.requested_nanos) == ("unavailable", 10_000)
    assert "try again in a second" in reason.next_step
    assert sum(desk.pauses) == pytest.approx(1.0)
    assert max(desk.pauses) == 50 * MILLI
    assert (desk.in_redis(), booked(desk)) == ([], {})


def test_the_first_hold_waits_until_the_start_is_logged_folded_and_listed(
    make_desk: DeskMaker,
) -> None:
    desk = make_desk()
    desk.publish_prices()
    desk.world.warmed()

    def fold_after_three_seconds() -> None:
        if sum(desk.pauses) > 3:
            desk.fold_emitters()

    desk.while_waiting = fold_after_three_seconds
    with desk.hold():
        assert 3 < sum(desk.pauses) < 3.2


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        (lambda desk: None, "start is logged, and not yet folded"),
        (lambda desk: desk.fold_emitters(), "no prices"),
    ],
    ids=["not listed", "no prices"],
)
def test_a_start_that_never_comes_to_an_end_is_unavailable(
    make_desk: DeskMaker, trouble: Callable[[Desk], None], cause: str
) -> None:
    desk = make_desk(GateSettings(start_wait_s=10.0))
    desk.world.warmed()
    desk.tick()
    trouble(desk)
    with pytest.raises(Refused, match=cause) as refused:
        desk.hold()
    assert "try again in a second" in refused.value.reasons[0].next_step
    assert sum(desk.pauses) <= 10.001
    if "prices" not in cause:
        assert sum(desk.pauses) == pytest.approx(10.0)


def test_a_service_can_wait_for_its_gate_at_its_start(make_desk: DeskMaker) -> None:
    desk = make_desk()
    desk.publish_prices()
    assert not desk.gate.wait_until_ready(1.0)
    assert sum(desk.pauses) == pytest.approx(1.0, abs=0.051)
    assert desk.gate.stats().trouble == "this emitter's start is logged, and not yet folded"
    desk.while_waiting = desk.fold_emitters
    assert desk.gate.wait_until_ready(1.0)
    assert desk.gate.stats().trouble is None


def test_the_time_for_the_start_counts_from_the_first_hold(make_desk: DeskMaker) -> None:
    desk = make_desk(GateSettings(start_wait_s=10.0))
    desk.publish_prices()
    desk.world.warmed()
    desk.pass_by(3_600)

    def fold_after_nine_seconds() -> None:
        if sum(desk.pauses) > 9:
            desk.fold_emitters()

    desk.while_waiting = fold_after_nine_seconds
    desk.hold().release()


def test_a_redis_that_is_away_is_unavailable_without_a_wait(desk: Desk) -> None:
    desk.line.is_cut = True
    desk.pass_by(1.9)
    desk.tick()
    with pytest.raises(Refused) as tried:
        desk.hold()  # the last answer is fresh: it is tried
    assert desk.gate.stats().trouble is None
    desk.pass_by(0.1)
    desk.tick()
    assert desk.gate.stats().trouble is not None
    desk.pauses.clear()
    desk.pass_by(30)
    with pytest.raises(Refused, match="got lost") as refused:
        desk.hold()
    assert refused.value.is_unavailable
    for one in (tried, refused):
        assert "start Redis or set TOLLKEEPER_REDIS" in one.value.reasons[0].next_step
    assert desk.pauses == []
    desk.line.is_cut = False
    desk.tick()
    desk.hold().release()


def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    desk.line.is_cut = True
    for _ in range(3):
        desk.tick()
    desk.line.is_cut = False
    for _ in range(3):
        desk.tick()
    said = [str(one.getMessage()).partition(" ")[0] for one in caplog.records]
    assert [one for one in said if one.startswith("gate_away")] == [
        "gate_away",
        "gate_away_no_more",
    ]
    assert desk.gate.stats().ticks_failed == 3


def test_a_trouble_that_has_had_its_time_keeps_nobody_waiting_any_more(desk: Desk) -> None:
    desk.world.begin_epoch(2, opened=False)
    desk.tick()
    desk.pass_by(0.4)
    with pytest.raises(Refused, match="not yet folded"):
        desk.hold()
    assert sum(desk.pauses) == pytest.approx(0.6)
    desk.pauses.clear()
    with pytest.raises(Refused):
        desk.hold()
    assert desk.pauses == []


def test_without_a_spool_nothing_is_held_since_its_usage_could_not_be_reported(
    server: Server, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    spool.write_text("not a folder")
    desk = Desk(server, spool)
    desk.world.warmed()
    for _ in range(2):
        with pytest.raises(Refused, match="usage couldn't be reported"):
            desk.hold()
    spool.unlink()
    desk.publish_prices()
    desk.tick()
    desk.fold_emitters()
    desk.tick()
    desk.hold().release()
    desk.emitter.abandon()


def test_an_upkeep_that_broke_grants_nothing_until_a_whole_round_succeeds(desk: Desk) -> None:
    """A newer release may publish what this one can't read."""
    desk.world.run(encoding.publish(1, "prices", 7, ("AAAAAAAA",), tag=desk.world.tag))
    for _ in range(2):
        with pytest.raises(TollkeeperError):
            desk.gate.core.tick()
        with pytest.raises(Refused, match="upkeep broke"):
            desk.hold()
    desk.publish_prices(version=8)
    desk.gate.core.tick()
    desk.hold().release()


def test_an_upkeep_that_broke_stops_everything_and_says_so(desk: Desk) -> None:
    desk.emitter.abandon()
    with pytest.raises(Misuse):
        desk.gate.core.tick()
    with pytest.raises(Refused, match="upkeep broke: the emitter is closed"):
        desk.hold()
