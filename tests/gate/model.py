"""The gate of ENFORCEMENT.md in plain Python: what the functions answer, as words, and nothing clever."""

from __future__ import annotations

from types import SimpleNamespace as Record
from typing import Any

from tollkeeper.gate.commands import Fold, HeldCall, Request, Snapshot

HOUR, STEP = 3_600_000, 100  # milliseconds


class No(Exception):
    """An answer other than the one that was hoped for."""


def need(is_so: object, *answer: object) -> None:
    if not is_so:
        raise No(*answer)


def period(shot: Any, instant: int) -> Any:
    return next((p for p in shot.periods if p.start_micros <= instant < p.end_micros), None)


def owner(hold_id: str) -> list[str]:
    return hold_id.split("/")[:2]


def new_organization(name: str) -> Any:
    new = Record(name=name, epoch=-1, known=False, position=0, floor=0, offset=-1, oldest=0)
    new.holds, new.used_ids, new.shot = {}, set(), Record(periods=())
    return new


class Model(Record):
    """One server. Its trust (epoch, phase, lease, emitters, notes) is set by whoever drives it."""

    def __init__(self, now: int) -> None:
        super().__init__(now=now, epoch=0, phase="", lease=0, emitters={}, notes=set(), all={})

    def at(self, name: str, epoch: int) -> Any:
        org = self.all.setdefault(name, new_organization(name))
        need(org.epoch <= epoch, "stale", org.epoch)
        if -1 < org.epoch < epoch:
            self.unknown(org, epoch, 0)
        return org

    def trust(self, epoch: int, phase: str) -> None:
        need(self.epoch == epoch, "untrusted", "epoch", self.epoch)
        need(self.phase == phase, "untrusted", self.phase, self.epoch)

    def listed(self, emitter: str, name: str) -> None:
        standing = self.emitters.get(emitter, "unlisted")
        need(standing not in ("unlisted", "retired"), "emitter", standing)
        need((emitter, name) in self.notes, "emitter", "unnoted")

    def granting(self, name: str, emitter: str, epoch: int) -> None:
        self.trust(epoch, "open")
        need(self.lease > self.now, "untrusted", "lease", self.epoch)
        self.listed(emitter, name)

    def unknown(self, org: Any, epoch: int, position: int) -> tuple[str]:
        org.known, org.epoch = False, max(epoch, org.epoch)
        org.floor = max(position, org.position, org.floor)
        return ("unknown",)

    def granted(self, hold: Any) -> tuple[Any, ...]:
        return ("granted", hold.granted_at, hold.held, self.now, self.lease)

    def limits(self, org: Any, request: Request, when: Any) -> list[tuple[Any, ...]]:
        def scope_of(one: Request, level: str) -> str:
            own = {"organization": org.name, "member": one.member}
            return f"{level}/{(own | dict(scope.split('/') for scope in one.scopes)).get(level)}"

        rows = []
        for level in org.shot.levels:
            scope = scope_of(request, level)
            same = [one for one in org.holds.values() if scope_of(one.request, level) == scope]
            held = sum(one.held for one in same if period(org.shot, one.granted_at) == when)
            cap, spent = org.caps.get(scope, org.caps[level]), org.spent.get((when, scope), 0)
            rows.append((f"{level}_cap", scope, cap, spent, held))
        held = sum(one.held for one in org.holds.values())
        cap = "unlimited" if org.shot.funding == "arrears" else org.purchased
        return [*rows, ("credits", f"organization/{org.name}", cap, org.used, held)]

    def room(self, org: Any, request: Request, more: int, when: Any) -> None:
        limits, member = self.limits(org, request, when), f"member/{request.member}"
        need(more + limits[-1][4] <= 2**53, "invalid", "amount")
        against = [] if request.member in org.members else [("member", member, "", "", "")]
        against += [] if org.shot.seats == "every_member" else [("seat", member, "", "", "")]
        against += [r for r in limits if r[2] != "unlimited" and more + r[3] + r[4] > r[2]]
        need(not against, "refused", self.now, when.end_micros, *sum(against, ()))

    def is_known(self, org: Any) -> bool:
        return bool(org.known and period(org.shot, self.now))

    def need_known(self, org: Any) -> None:
        if not self.is_known(org):
            raise No(*self.unknown(org, org.epoch, 0))

    def hold(self, name: str, request: Request, hold_id: str, emitter: str, epoch: int) -> Any:
        org, now = self.at(name, epoch), self.now / 1000
        self.granting(name, emitter, epoch)
        need(owner(hold_id) == [name, emitter], "hold_id", "foreign")
        if hold_id not in org.holds or org.holds[hold_id].epoch != epoch:
            issued = int(hold_id.split("/")[2])
            need(max(org.oldest, now - HOUR) <= issued <= now + HOUR, "hold_id", "age")
            need(hold_id not in org.used_ids, "hold_id", "used")
            self.need_known(org)
            self.room(org, request, request.amount_micros, period(org.shot, self.now))
            self.put(org, HeldCall(hold_id, self.now, request.amount_micros, request))
            org.oldest = int(now) - HOUR if int(now) - HOUR >= org.oldest + STEP else org.oldest
        need(org.holds[hold_id].request == request, "hold_id", "other_request")
        return self.granted(org.holds[hold_id])

    def extend(self, hold_id: str, held: int, epoch: int) -> Any:
        org = self.at(owner(hold_id)[0], epoch)
        self.granting(org.name, owner(hold_id)[1], epoch)
        hold = org.holds.get(hold_id)
        need(hold and hold.epoch == epoch, "hold_id", "absent")
        if held > hold.held:
            self.need_known(org)
            its, now_in = period(org.shot, hold.granted_at), period(org.shot, self.now)
            need(its and its.end_micros >= now_in.start_micros, "hold_id", "period")
            self.room(org, hold.request, held - hold.held, its)
            hold.held = held
        return self.granted(hold)

    def put(self, org: Any, call: HeldCall) -> None:
        new = Record(epoch=org.epoch, granted_at=call.granted_at, held=call.held_micros)
        org.holds[call.hold_id] = Record(request=call.request, **vars(new))

    def end(self, org: Any, hold_id: str) -> Any:
        org.used_ids.add(hold_id)
        return org.holds.pop(hold_id, Record(held=0)).held

    def release(self, hold_id: str, epoch: int) -> Any:
        return ("released", self.end(self.at(owner(hold_id)[0], epoch), hold_id))

    def make_unknown(self, name: str, position: int, epoch: int) -> Any:
        return self.unknown(self.at(name, epoch), epoch, position)

    def install(self, org: Any, news: Fold | Snapshot) -> None:
        org.spent |= {(one.period, one.scope): one.spent_micros for one in news.spent}
        caps = org.caps | {one.scope: one.cap for one in news.caps}
        org.caps = {scope: cap for scope, cap in caps.items() if cap != "inherit"}
        org.used = org.used if news.used_micros is None else news.used_micros
        org.purchased = org.purchased if news.purchased_micros is None else news.purchased_micros
        org.offset, org.position = news.offset, news.position

    def apply(self, name: str, fold: Fold, epoch: int) -> Any:
        org = self.at(name, epoch)
        if self.is_known(org):
            need(org.offset < fold.offset, "ignored", org.offset)
            if org.offset == fold.previous:
                self.install(org, fold)
                everyone = {*org.members, *fold.members}
                org.members = {one for one in everyone if fold.members.get(one, True)}
                for hold_id in fold.settled:
                    self.end(org, hold_id)
                return ("applied",)
        return self.unknown(org, epoch, fold.position)

    def warm(self, name: str, shot: Snapshot) -> Any:
        org = self.at(name, shot.epoch)
        need(not self.is_known(org) or period(org.shot, self.now) in org.shot.periods[2:], "known")
        self.unknown(org, org.epoch, 0)
        self.trust(shot.epoch, "open")
        need(shot.phase == "open", "not_open")
        need(shot.position >= org.floor, "below_floor", org.floor)
        need(period(shot, self.now), "elsewhere", self.now)
        gone = {one for one in org.holds if owner(one)[1] in shot.retired or one in shot.settled}
        gone |= {one for one, hold in org.holds.items() if hold.epoch != shot.epoch}
        unexamined = org.holds.keys() - gone - set(shot.still_open)
        need(not unexamined, "unexamined", len(unexamined))
        for hold_id in gone:
            self.end(org, hold_id)
        org.epoch, org.known, org.shot, org.members = shot.epoch, True, shot, set(shot.members)
        org.spent, org.caps = {}, {}
        self.install(org, shot)
        self.emitters |= dict.fromkeys(shot.retired, "retired")
        return ("warmed", len(org.holds), len(gone))

    def reassert(self, name: str, holds: list[HeldCall], emitter: str, epoch: int) -> Any:
        org = self.at(name, epoch)
        self.trust(epoch, "recovering")
        self.listed(emitter, name)
        mine = [one for one in holds if owner(one.hold_id) == [name, emitter]]
        need(mine == holds, "hold_id", "foreign")
        self.unknown(org, epoch, 0)
        kept = [one for one in holds if one.hold_id not in org.used_ids]
        for one in kept:
            self.put(org, one)
        return ("reasserted", len(kept))
