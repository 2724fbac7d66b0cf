"""A gate with one organization in it, for examples: short words for calls, a clock that the example sets."""

from __future__ import annotations

from itertools import count
from typing import Any, TypeVar

from gate.books import periods_at
from gate.servers import Server, open_gate, renew

from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.commands import Cap, CapSetting, Fold, HeldCall, Request, Snapshot, Spent
from tollkeeper.gate.encoding import Call
from tollkeeper.money.periods import Period

A = TypeVar("A")
BEGIN = 1_793_500_000_000_000  # 2026-11-01T02:26:40Z
MINUTE = 60_000_000
MOST = 2**53
LEASE_MICROS = 400 * 86_400_000_000  # no example but one is about leases
_worlds = count()
UNLIMITED: dict[str, CapSetting] = {"organization": "unlimited", "member": "unlimited"}


class World:
    """Epoch 1 is open; em-1 and em-2 may hold; the organization is unknown until it is warmed."""

    def __init__(self, server: Server) -> None:
        self.server, self.now = server, BEGIN
        self.tag = f"{server.token}-w{next(_worlds)}"
        self.name = f"{self.tag}-acme"
        self.position = 10
        self._offset = 3
        self._ids = 0
        self.set_clock(BEGIN)
        open_gate(server.gate, self.tag, emitters=("em-1", "em-2"), organizations=(self.name,))
        renew(server.gate, self.tag, epoch=1, lease_micros=LEASE_MICROS)

    @property
    def period(self) -> Period:
        """The one of now."""
        return periods_at(self.now)[1]

    def run(self, call: Call[A]) -> A:
        """The function's answer."""
        return self.server.gate.run(call)

    def set_clock(self, micros: int) -> None:
        """What Redis takes for the time."""
        self.now = micros
        self.server.set_clock(micros)

    def new_id(self, emitter: str = "em-1") -> str:
        """An id that is issued now."""
        self._ids += 1
        return f"{self.name}/{emitter}/{self.now // 1000}/{self._ids}"

    def hold(self, micros: int, member: str = "ann", **more: Any) -> a.HoldAnswer:
        """A new hold, or with `hold_id` that one."""
        emitter, epoch = more.get("emitter", "em-1"), more.get("epoch", 1)
        hold_id = more.get("hold_id") or self.new_id(emitter)
        request = Request(micros, member, more.get("surface", "web"), more.get("scopes", ()))
        return self.run(
            encoding.hold(
                self.name, request, hold_id=hold_id, emitter=emitter, epoch=epoch, tag=self.tag
            )
        )

    def held(self, micros: int, member: str = "ann", **more: Any) -> str:
        """The id of a hold that was granted."""
        hold_id = more.pop("hold_id", None) or self.new_id(more.get("emitter", "em-1"))
        answer = self.hold(micros, member, hold_id=hold_id, **more)
        assert isinstance(answer, a.Granted), answer
        return hold_id

    def refused_by(self, micros: int, member: str = "ann", **more: Any) -> list[str]:
        """The names of all reasons; empty when it was granted, and then it was released again."""
        hold_id = self.new_id(more.get("emitter", "em-1"))
        answer = self.hold(micros, member, hold_id=hold_id, **more)
        if isinstance(answer, a.Granted):
            self.release(hold_id)
            return []
        assert isinstance(answer, a.Refused), answer
        return [one.name for one in answer.reasons]

    def extend(self, hold_id: str, micros: int, *, epoch: int = 1) -> a.HoldAnswer:
        """To so much in all."""
        return self.run(encoding.extend(hold_id, micros, epoch=epoch, tag=self.tag))

    def release(self, hold_id: str, *, epoch: int = 1) -> a.ReleaseAnswer:
        """Free it."""
        return self.run(encoding.release(hold_id, epoch=epoch, tag=self.tag))

    def snapshot(self, **changes: Any) -> Snapshot:
        """Caps of 50 and 30, 100 of credits, nothing spent; all that Redis has is said to be open."""
        caps: dict[str, CapSetting] = changes.pop("caps", {"organization": 50, "member": 30})
        spent: dict[str, int] = changes.pop("spent", {})
        open_ids = tuple(one.hold_id for one in self.holds())
        settled = changes.get("settled", ())
        given: dict[str, Any] = {
            "epoch": 1,
            "phase": "open",
            "offset": self._offset,
            "position": self.position,
            "periods": periods_at(self.now),
            "funding": "prepaid",
            "seats": "every_member",
            "levels": ("organization", "member"),
            "used_micros": 0,
            "purchased_micros": 100,
            "members": ("ann", "bob"),
            "still_open": tuple(one for one in open_ids if one not in settled),
        }
        return Snapshot(
            **(given | changes),
            caps=tuple(Cap(scope, cap) for scope, cap in caps.items()),
            spent=tuple(Spent(self.period, scope, micros) for scope, micros in spent.items()),
        )

    def warm(self, **changes: Any) -> a.WarmAnswer:
        """From the snapshot with these changes."""
        return self.run(encoding.warm(self.name, self.snapshot(**changes), tag=self.tag))

    def warmed(self, **changes: Any) -> World:
        """This, with the organization known."""
        answer = self.warm(**changes)
        assert isinstance(answer, a.Warmed), answer
        return self

    def apply(self, *, epoch: int = 1, **changes: Any) -> a.ApplyAnswer:
        """The next fold, or with `previous` and `offset` another."""
        period = changes.pop("period", self.period)
        spent = {self.scope(one): micros for one, micros in changes.pop("spent", {}).items()}
        caps: dict[str, CapSetting] = changes.pop("caps", {})
        self.position += 1
        given = {"previous": self._offset, "offset": self.position - 1, "position": self.position}
        fold = Fold(
            **(given | changes),
            spent=tuple(Spent(period, scope, micros) for scope, micros in spent.items()),
            caps=tuple(Cap(scope, cap) for scope, cap in caps.items()),
        )
        answer = self.run(encoding.apply(self.name, fold, epoch=epoch, tag=self.tag))
        if isinstance(answer, a.Applied):
            self._offset = fold.offset
        return answer

    def scope(self, short: str) -> str:
        """`organization` is this one."""
        return f"organization/{self.name}" if short == "organization" else short

    def reassert(self, *holds: HeldCall, emitter: str = "em-1", epoch: int = 2) -> a.ReassertAnswer:
        """These holds of the emitter."""
        return self.run(
            encoding.reassert(self.name, holds, emitter=emitter, epoch=epoch, tag=self.tag)
        )

    def holds(self) -> tuple[a.OpenHold, ...]:
        """The table."""
        return self.run(encoding.open_holds(self.name))

    def status(self, member: str = "ann") -> a.Status:
        """What Redis has; the organization isn't absent."""
        answer = self.run(encoding.status(self.name, member=member))
        assert isinstance(answer, a.Status), answer
        return answer

    def is_known(self) -> bool:
        """Whether it is."""
        answer = self.run(encoding.status(self.name, member="ann"))
        return isinstance(answer, a.Status) and answer.is_known

    def begin_epoch(self, epoch: int, *, opened: bool = True) -> None:
        """The next one, with the same emitters."""
        self.run(encoding.begin_epoch(epoch, self.server.here, tag=self.tag))
        self.run(encoding.list_emitters(epoch, started=("em-1", "em-2"), tag=self.tag))
        for emitter in ("em-1", "em-2"):
            self.run(encoding.note(epoch, emitter, (self.name,), tag=self.tag))
        if opened:
            for emitter in ("em-1", "em-2"):
                self.run(encoding.answer(epoch, emitter, tag=self.tag))
            assert self.run(encoding.open_epoch(epoch, tag=self.tag)) == a.Done("opened")
            renew(self.server.gate, self.tag, epoch=epoch, lease_micros=LEASE_MICROS)
