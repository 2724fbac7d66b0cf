"""A server killed amid holds: after recovery as much as the cap is held, and not a hold more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from gate.books import Account, Books
from gate.servers import open_gate, renew
from services.finding import skip_or_fail
from services.redis_local import LocalRedis, local_valkey, why_unavailable
from support.waiting import eventually

from tollkeeper.errors import GateUnavailable
from tollkeeper.events.ids import now_micros
from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import HeldCall, Request
from tollkeeper.gate.functions import GateFunctions, connect

CAP, MICROS, HOLDERS = 20_001, 7, 8
EMITTERS = tuple(f"em-{number}" for number in range(HOLDERS))
REQUEST = Request(MICROS, "ann", "web")


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[LocalRedis]:
    """A server of this test's own."""
    if request.param == "redis" and (reason := why_unavailable()):
        skip_or_fail(f"Redis isn't at hand (local: {reason})")
    server = LocalRedis() if request.param == "redis" else local_valkey()
    try:
        server.start()
        yield server
    finally:
        server.close()


class Holders:
    """Emitters that each have in memory what was granted to them, and release nothing."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.held: dict[str, dict[str, HeldCall]] = {emitter: {} for emitter in EMITTERS}
        self._ids = count()

    @property
    def all(self) -> dict[str, HeldCall]:
        """What all of them have."""
        return {hold_id: one for held in [*self.held.values()] for hold_id, one in [*held.items()]}

    def hold_until_told_no(self, epoch: int, *, most: int = CAP) -> None:
        """All at once, until the cap says no or the server is gone, or each has so many."""
        with ThreadPoolExecutor(HOLDERS) as pool:
            [*pool.map(lambda emitter: self._hold(emitter, epoch, most), EMITTERS)]

    def _hold(self, emitter: str, epoch: int, most: int) -> None:
        gate = GateFunctions(connect(self.address))
        for _ in range(most):
            hold_id = f"acme/{emitter}/{now_micros() // 1_000}/{next(self._ids)}"
            call = encoding.hold("acme", REQUEST, hold_id=hold_id, emitter=emitter, epoch=epoch)
            try:
                answer = gate.run(call)
            except GateUnavailable:
                break  # granted or not, it won't be used
            if not isinstance(answer, a.Granted):
                assert isinstance(answer, a.Refused), answer
                break
            self.held[emitter][hold_id] = HeldCall(hold_id, answer.granted_at, MICROS, REQUEST)
        gate.close()


def warm(gate: GateFunctions, epoch: int) -> a.WarmAnswer:
    """From a snapshot that says of each hold that it is open."""
    caps = {"organization": CAP, "member": CAP * 2}
    account = Account(offset=1, position=2, spent={}, caps={**caps}, purchased=CAP * 2)
    held = tuple(one.hold_id for one in gate.run(encoding.open_holds("acme")))
    snapshot = Books("acme", account).snapshot(account, epoch=epoch, now=now_micros(), held=held)
    return gate.run(encoding.warm("acme", snapshot))


def recover(gate: GateFunctions, holders: Holders) -> None:
    """A new epoch, as ENFORCEMENT.md says: re-asserted by all, then opened, then warmed."""
    gate.run(encoding.begin_epoch(2, gate.incarnation()))
    gate.run(encoding.list_emitters(2, started=EMITTERS))
    for emitter, held in holders.held.items():
        gate.run(encoding.note(2, emitter, ("acme",)))
        told = gate.run(encoding.reassert("acme", [*held.values()], emitter=emitter, epoch=2))
        assert told == a.Reasserted(len(held))
        gate.run(encoding.answer(2, emitter))
    assert gate.run(encoding.open_epoch(2)) == a.Done("opened")
    now = gate.run(encoding.read_epoch()).now
    call = encoding.renew(2, gate.incarnation(), asked_at=now, lease_micros=60_000_000)
    assert isinstance(gate.run(call), a.Renewed)


def test_a_kill_amid_holds_loses_none_and_admits_none_too_many(server: LocalRedis) -> None:
    gate = GateFunctions(connect(server.address))
    open_gate(gate, "0", emitters=EMITTERS, organizations=("acme",))
    renew(gate, "0", epoch=1)
    assert warm(gate, 1) == a.Warmed(0, 0)
    holders = Holders(server.address)
    killed_at = CAP // MICROS // 8
    running = threading.Thread(target=holders.hold_until_told_no, args=(1,))
    running.start()
    eventually(lambda: len(holders.all) >= killed_at, what="holds enough")
    server.kill()
    running.join(30)
    assert not running.is_alive()
    assert killed_at <= len(holders.all) < CAP // MICROS, "the kill has to fall amid the holds"

    server.start()
    recover(gate, holders)
    assert isinstance(warm(gate, 2), a.Warmed)
    table = {one.hold_id for one in gate.run(encoding.open_holds("acme"))}
    assert table == set(holders.all), (
        "what nobody has in memory is freed, what somebody has is kept"
    )

    holders.hold_until_told_no(2)
    assert len(holders.all) == CAP // MICROS
    status = gate.run(encoding.status("acme", member="ann"))
    assert isinstance(status, a.Status)
    assert status.limits[0].held_micros == CAP // MICROS * MICROS
    gate.close()
