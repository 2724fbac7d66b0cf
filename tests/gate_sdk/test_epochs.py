"""New epochs, recoveries and retirements, as a process with open holds lives through them."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from gate.servers import Server, renew
from gate.world import LEASE_MICROS
from gate_sdk.conftest import DeskMaker
from gate_sdk.desk import Desk, booked
from gate_sdk.test_life_of_a_hold import usage
from redis import Redis

from tollkeeper.errors import GateUnavailable
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.functions import GateFunctions
from tollkeeper.gate.library import assemble
from tollkeeper.gate.sdk import Refused


def begin_epoch(desk: Desk, epoch: int) -> None:
    """Another incarnation is trusted, which lists the same emitters and knows nothing else."""
    desk.world.begin_epoch(epoch, opened=False)
    desk.fold_emitters(epoch)


def end_recovery(desk: Desk, epoch: int) -> a.Done | a.Waiting | a.Untrusted:
    """The other emitters answer; the epoch opens if ours has."""
    for emitter in ("em-1", "em-2"):
        desk.world.run(encoding.answer(epoch, emitter, tag=desk.world.tag))
    opened = desk.world.run(encoding.open_epoch(epoch, tag=desk.world.tag))
    if isinstance(opened, a.Done):
        renew(desk.world.server.gate, desk.world.tag, epoch=epoch, lease_micros=LEASE_MICROS)
        desk.publish_prices(epoch)
    return opened


def held_in(desk: Desk, epoch: int) -> dict[str, int]:
    """What is held in this epoch, by id."""
    return {one.hold_id: one.held_micros for one in desk.world.holds() if one.epoch == epoch}


def test_a_server_that_nobody_keeps_is_asked_over_new_connections_once_a_tick(desk: Desk) -> None:
    """The address may lead to its successor by now, and the old one ends no connection."""
    desk.tick()
    assert desk.line.reconnects == 0
    desk.pass_by(LEASE_MICROS / 1_000_000)
    for _ in range(3):
        desk.tick()
    assert desk.line.reconnects == 1
    desk.pass_by(desk.gate.settings.tick_s)
    desk.tick()
    assert desk.line.reconnects == 2
    renew(desk.world.server.gate, desk.world.tag, epoch=1, lease_micros=LEASE_MICROS)
    desk.pass_by(desk.gate.settings.tick_s)
    desk.tick()
    assert desk.line.reconnects == 2


def test_a_server_that_does_not_answer_is_asked_over_new_connections(desk: Desk) -> None:
    """As one that became a replica: it takes no writes, and keeps its connections."""
    desk.line.is_cut = True
    desk.tick()
    assert desk.line.reconnects == 1


def test_all_open_holds_are_reasserted_and_only_then_is_the_recovery_answered(desk: Desk) -> None:
    first, second, settled, released = (desk.hold(max_cost_usd=f"0.00000{n}") for n in (1, 2, 3, 4))
    second.extend(max_cost_usd="0.000005")
    settled.settle(usage(desk))
    released.release()
    begin_epoch(desk, 2)
    assert end_recovery(desk, 2) == a.Waiting((desk.me,))
    desk.line.calls.clear()
    desk.tick()
    assert desk.line.names() == ["note", "reassert", "answer"]
    assert held_in(desk, 2) == {first.hold_id: 1, second.hold_id: 5}
    assert end_recovery(desk, 2) == a.Done("opened")
    desk.tick()
    desk.world.warmed(epoch=2)
    assert held_in(desk, 2) == {first.hold_id: 1, second.hold_id: 5}
    first.settle(usage(desk))
    second.release()
    desk.hold().release()


def test_a_recovery_waits_for_usage_that_is_spooled_and_not_on_the_log(desk: Desk) -> None:
    """Its hold is in no memory any more, and its charge in no snapshot."""
    still_open, settled = desk.hold(max_cost_usd="0.000002"), desk.hold(max_cost_usd="0.000003")
    begin_epoch(desk, 2)
    settled.settle(usage(desk))
    desk.gate.core.tick()
    assert held_in(desk, 2) == {still_open.hold_id: 2}
    assert end_recovery(desk, 2) == a.Waiting((desk.me,))
    while desk.emitter.send_step():
        continue
    still_open.settle(usage(desk))  # spooled later: its hold was re-asserted
    desk.gate.core.tick()
    assert end_recovery(desk, 2) == a.Done("opened")


def test_a_process_without_holds_answers_too(desk: Desk) -> None:
    begin_epoch(desk, 2)
    desk.line.calls.clear()
    desk.tick()
    assert desk.line.names() == ["answer"]
    assert end_recovery(desk, 2) == a.Done("opened")


@pytest.mark.parametrize("lost", ["note", "reassert", "answer"])
@pytest.mark.parametrize("when", ["lose_before", "lose_after"])
def test_a_recovery_that_is_interrupted_is_answered_by_the_next_round(
    desk: Desk, lost: str, when: str
) -> None:
    hold = desk.hold()
    begin_epoch(desk, 2)
    getattr(desk.line, when)[lost] = 1
    desk.tick()
    if (lost, when) != ("answer", "lose_after"):
        assert end_recovery(desk, 2) == a.Waiting((desk.me,))
        desk.tick()
    assert held_in(desk, 2) == {hold.hold_id: 10}
    assert end_recovery(desk, 2) == a.Done("opened")
    hold.release()


def test_a_grant_on_its_way_while_the_epoch_changes_is_not_taken(desk: Desk) -> None:
    """It would be missing among those that were re-asserted."""
    desk.hold().release()

    def change_epoch() -> None:
        desk.line.on_answer.clear()
        begin_epoch(desk, 2)
        desk.tick()
        end_recovery(desk, 2)
        desk.tick()
        desk.world.warmed(epoch=2)

    desk.line.on_answer["hold"] = change_epoch
    hold = desk.hold(max_cost_usd="0.00003")
    assert held_in(desk, 2) == {hold.hold_id: 30}
    assert desk.gate.stats().late_grants == 1
    hold.release()


def test_usage_on_its_way_to_the_spool_is_reasserted_until_it_is_durable(desk: Desk) -> None:
    hold = desk.hold()
    desk.disk_fails = True
    with pytest.raises(Exception, match="disk"):
        hold.settle(usage(desk))
    begin_epoch(desk, 2)
    desk.tick()
    assert held_in(desk, 2) == {hold.hold_id: 10}


def test_a_release_that_is_owed_is_made_in_the_next_epoch(desk: Desk) -> None:
    hold = desk.hold()
    desk.line.is_cut = True
    hold.release()
    desk.line.is_cut = False
    begin_epoch(desk, 2)
    desk.tick()
    assert (held_in(desk, 2), booked(desk)) == ({}, {})


def test_holds_are_refused_while_the_gate_recovers_and_granted_when_it_has(desk: Desk) -> None:
    begin_epoch(desk, 2)
    desk.tick()
    with pytest.raises(Refused, match="is recovering") as refused:
        desk.hold()
    assert refused.value.is_unavailable
    assert "emitters list" in refused.value.reasons[0].next_step

    def recover() -> None:
        desk.while_waiting = lambda: None
        end_recovery(desk, 2)
        desk.world.warmed(epoch=2)

    desk.while_waiting = recover
    desk.gate.core.session.primary(desk.world.tag).troubled_since = desk.monotonic_s
    desk.hold().release()


def test_a_lease_that_nobody_renews_is_unavailable(make_desk: DeskMaker) -> None:
    desk = make_desk().ready()
    desk.world.set_clock(desk.world.now + LEASE_MICROS)
    desk.tick()
    with pytest.raises(Refused, match="renews the lease") as refused:
        desk.hold()
    assert "start tollkeeper run" in refused.value.reasons[0].next_step


def test_a_retired_process_begins_anew_and_its_late_usage_keeps_its_hold_s_id(desk: Desk) -> None:
    hold, retired = desk.hold(), desk.me
    desk.retire(retired)
    desk.tick()
    desk.tick()
    assert desk.me != retired
    assert desk.gate.stats().began_anew == 1
    desk.fold_emitters()
    desk.tick()
    with desk.hold() as after:
        assert after.hold_id is not None
        assert f"/{desk.me}/" in after.hold_id
    assert desk.gate.core.session.is_in_use(retired)
    hold.settle(usage(desk))
    assert not desk.gate.core.session.is_in_use(retired)
    [event] = desk.usages()
    assert (event.hold_id, event.emitter) == (hold.hold_id, desk.me)


def test_a_process_learns_of_its_retirement_from_its_next_hold(desk: Desk) -> None:
    desk.hold().release()
    retired = desk.me
    desk.retire(retired)
    desk.while_waiting = desk.fold_emitters
    with desk.hold() as hold:
        assert hold.hold_id is not None
        assert f"/{retired}/" not in hold.hold_id


def test_retired_holds_are_neither_reasserted_nor_extended(desk: Desk) -> None:
    hold = desk.hold()
    desk.retire(desk.me)
    desk.tick()
    desk.tick()
    desk.fold_emitters()
    with pytest.raises(Refused, match="retired"):
        hold.extend(max_cost_usd="0.00002")
    begin_epoch(desk, 2)
    desk.line.calls.clear()
    desk.tick()
    assert desk.line.names() == ["answer"]
    hold.settle(usage(desk))


def test_an_emitter_that_was_replaced_still_answers_for_its_holds(desk: Desk) -> None:
    """After a disk failure the process has another emitter; the one before isn't retired, nor unseen."""
    hold, before = desk.hold(), desk.me
    desk.disk_fails = True
    with pytest.raises(Exception, match="disk"):
        desk.hold().settle(usage(desk))
    desk.disk_fails = False
    desk.tick()
    desk.tick()
    assert desk.me != before
    desk.fold_emitters()
    begin_epoch(desk, 2)
    desk.line.calls.clear()
    desk.tick()
    assert end_recovery(desk, 2) == a.Done("opened")
    assert held_in(desk, 2) == {hold.hold_id: 10}
    hold.settle(usage(desk))
    desk.fold_emitters(2)
    assert "EmitterRetired" in {type(one).__name__ for one in desk.logged()}


def test_holds_are_answered_for_while_the_process_has_no_emitter(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was retired at one primary, or its disk fails: those before it may have holds elsewhere."""
    hold = desk.hold()
    session = desk.gate.core.session
    session.recorder.begin_anew(desk.me)
    session.emitter = None
    begin_epoch(desk, 2)
    monkeypatch.setattr(session.recorder, "identity", Future)
    desk.tick()
    assert session.emitter is None
    assert held_in(desk, 2) == {hold.hold_id: 10}
    monkeypatch.undo()
    desk.tick()
    desk.tick()
    hold.settle(usage(desk))


def test_notes_that_redis_lost_are_made_again(desk: Desk) -> None:
    desk.hold().release()
    noted = f"tollkeeper-primary:{{{desk.world.tag}}}:noted:{desk.me}"
    assert desk.world.server.client.delete(noted) == 1
    desk.line.calls.clear()
    desk.hold().release()
    assert desk.line.names() == ["hold", "note", "hold", "release"]


def test_a_server_without_an_epoch_is_unavailable(desk: Desk) -> None:
    desk.world.server.client.delete(f"tollkeeper-primary:{{{desk.world.tag}}}:epoch")
    with pytest.raises(Refused) as refused:
        desk.hold()
    assert refused.value.is_unavailable
    desk.tick()
    assert desk.gate.stats().trouble == "no consumer has begun an epoch"


def test_the_version_that_decides_is_asked_and_one_of_another_layout_is_not(desk: Desk) -> None:
    key = f"tollkeeper-primary:{{{desk.world.tag}}}:epoch"
    desk.tick()
    assert desk.line.library == desk.world.server.library.name
    trust: Any = desk.world.server.client.hget(key, "trust")
    other = trust.replace(desk.line.library.encode(), b"tollkeeper_2_000000000000")
    desk.world.server.client.hset(key, "trust", other)
    with pytest.raises(Refused):
        desk.hold()
    assert desk.gate.stats().trouble == "version tollkeeper_2_000000000000 decides: upgrade this"


def test_functions_of_another_version_are_called_by_its_name(server: Server) -> None:
    """An upgrade of the consumers must not stop the services that aren't upgraded yet."""
    other = assemble(server.source + "\n-- newer\n")
    newer = GateFunctions(Redis.from_url(server.address), other)
    newer.load()
    older = GateFunctions(Redis.from_url(server.address), server.library)
    assert older.follow(other.name)
    assert older.library == other.name
    assert isinstance(older.run(encoding.read_epoch(tag="nowhere")), a.NoEpoch)
    assert not older.follow("tollkeeper_2_000000000000")
    assert older.library == other.name
    server.client.function_delete(other.name)
    with pytest.raises(GateUnavailable, match="not found"):
        older.run(encoding.read_epoch(tag="nowhere"))
    older.close()
    newer.close()
