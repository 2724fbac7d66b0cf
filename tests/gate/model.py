"""The gate of ENFORCEMENT.md in plain Python: what the functions answer, as words, and nothing clever."""

from __future__ import annotations

from types import SimpleNamespace as Record
from typing import Any

from tollkeeper.gate.commands import Fold, HeldCall, Request, Snapshot

HOUR_MILLIS = 3_600_000


class No(Exception):
    """An answer other than the one that was hoped for."""


def need(is_so: object, *answer: object) -> None:
    if not is_so:
        raise No(*answer)


def period(shot: Any, instant: int) -> Any:
    found = [one for one in shot.periods if one.start_micros <= instant < one.end_micros]
    return found[0] if found else None


def new_organization(name: str) -> Any:
    shot = Record(periods=())
    state = Record(name=name, epoch=-1, known=False, offset=-1, position=0, floor=0, shot=shot)
    state.holds, state.used_ids = {}, set()
    return state


class Model:
    """One server. Its trust (epoch, phase, lease, emitters, notes) is set by whoever drives it."""

    def __init__(self, now: int) -> None:
        self.now, self.epoch, self.phase, self.lease = now, 0, "", 0
        self.emitters: dict[str, str] = {}
        self.notes: set[tuple[str, str]] = set()
        self.all: dict[str, Any] = {}

    def at(self, name: str, epoch: int) -> Any:
        org = self.all.setdefault(name, new_organization(name))
        need(org.epoch <= epoch, "stale", org.epoch)
        if -1 < org.epoch < epoch:
            self.unknown(org, epoch, 0)
        return org

    def trust(self, epoch: int, phase: str, otherwise: str) -> None:
        need(self.epoch == epoch, "untrusted", "epoch", self.epoch)
        need(self.phase == phase, "untrusted", otherwise, self.epoch)

    def listed(self, emitter: str, name: str) -> None:
        standing = self.emitters.get(emitter, "unlisted")
        need(standing not in ("unlisted", "retired"), "emitter", standing)
        need((emitter, name) in self.notes, "emitter", "unnoted")

    def granting(self, name: str, emitter: str, epoch: int) -> None:
        self.trust(epoch, "open", "recovering")
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
        for name, scope, cap, spent, held in limits:
            if cap != "unlimited" and more + spent + held > cap:
                against.append((name, scope, cap, spent, held))
        need(not against, "refused", self.now, when.end_micros, *sum(against, ()))

    def need_known(self, org: Any) -> None:
        if not (org.known and period(org.shot, self.now)):
            raise No(*(("unknown",) if org.epoch < 0 else self.unknown(org, org.epoch, 0)))

    def hold(self, name: str, request: Request, hold_id: str, emitter: str, epoch: int) -> Any:
        org, parts, now = self.at(name, epoch), hold_id.split("/"), self.now // 1000
        self.granting(name, emitter, epoch)
        need(parts[:2] == [name, emitter], "hold_id", "foreign")
        if hold_id not in org.holds or org.holds[hold_id].epoch != epoch:
            need(abs(int(parts[2]) - now) <= HOUR_MILLIS, "hold_id", "age")
            need(hold_id not in org.used_ids, "hold_id", "used")
            self.need_known(org)
            amount = request.amount_micros
            self.room(org, request, amount, period(org.shot, self.now))
            made = Record(epoch=epoch, granted_at=self.now, held=amount, request=request)
            org.holds[hold_id] = made
        need(org.holds[hold_id].request == request, "hold_id", "other_request")
        return self.granted(org.holds[hold_id])

    def extend(self, hold_id: str, held: int, epoch: int) -> Any:
        org = self.at(hold_id.split("/")[0], epoch)
        self.granting(org.name, hold_id.split("/")[1], epoch)
        hold = org.holds.get(hold_id)
        need(hold and hold.epoch == epoch, "hold_id", "absent")
        if held > hold.held:
            self.need_known(org)
            periods, now_in = [None, *org.shot.periods], period(org.shot, self.now)
            its = period(org.shot, hold.granted_at)
            need(its and periods.index(its) >= periods.index(now_in) - 1, "hold_id", "period")
            self.room(org, hold.request, held - hold.held, its)
            hold.held = held
        return self.granted(hold)

    def end(self, org: Any, hold_id: str) -> int:
        org.used_ids.add(hold_id)
        hold = org.holds.pop(hold_id, None)
        return hold.held if hold else 0

    def release(self, hold_id: str, epoch: int) -> Any:
        return ("released", self.end(self.at(hold_id.split("/")[0], epoch), hold_id))

    def make_unknown(self, name: str, position: int, epoch: int) -> Any:
        return self.unknown(self.at(name, epoch), epoch, position)

    def install(self, org: Any, news: Fold | Snapshot) -> None:
        in_copy = [one for one in news.spent if one.period in org.shot.periods]
        org.spent |= {(one.period, one.scope): one.spent_micros for one in in_copy}
        caps = org.caps | {one.scope: one.cap for one in news.caps}
        org.caps = {scope: cap for scope, cap in caps.items() if cap != "inherit"}
        org.used = org.used if news.used_micros is None else news.used_micros
        org.purchased = org.purchased if news.purchased_micros is None else news.purchased_micros
        org.offset, org.position = news.offset, news.position

    def apply(self, name: str, fold: Fold, epoch: int) -> Any:
        org = self.at(name, epoch)
        if org.known and period(org.shot, self.now):
            need(org.offset < fold.offset, "ignored", org.offset)
            if org.offset == fold.previous and not self.cuts_a_period(org, fold):
                self.install(org, fold)
                org.members |= {one for one, is_member in fold.members.items() if is_member}
                org.members -= {one for one, is_member in fold.members.items() if not is_member}
                for hold_id in fold.settled:
                    self.end(org, hold_id)
                return ("applied",)
        return self.unknown(org, epoch, fold.position)

    def cuts_a_period(self, org: Any, fold: Fold) -> bool:
        first, last = org.shot.periods[0].start_micros, org.shot.periods[-1].end_micros
        all_of = [one.period for one in fold.spent if one.period not in org.shot.periods]
        return any(one.end_micros > first and one.start_micros < last for one in all_of)

    def warm(self, name: str, shot: Snapshot) -> Any:
        org = self.at(name, shot.epoch)
        need(not (org.known and period(org.shot, self.now)), "known")
        if org.epoch > -1:
            self.unknown(org, shot.epoch, 0)
        self.trust(shot.epoch, "open", "recovering")
        need(shot.phase == "open", "not_open")
        need(shot.position >= org.floor, "below_floor", org.floor)
        need(period(shot, self.now), "elsewhere", self.now)
        retired = [one for one in org.holds if one.split("/")[1] in shot.retired]
        older = [one for one, hold in org.holds.items() if hold.epoch != shot.epoch]
        gone = {*retired, *older, *shot.settled} & org.holds.keys()
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
        self.trust(epoch, "recovering", "open")
        self.listed(emitter, name)
        need(
            all(one.hold_id.split("/")[:2] == [name, emitter] for one in holds),
            "hold_id",
            "foreign",
        )
        if org.epoch < 0:
            self.unknown(org, epoch, 0)
        kept = [one for one in holds if one.hold_id not in org.used_ids]
        for one in kept:
            made = Record(epoch=epoch, granted_at=one.granted_at, held=one.held_micros)
            org.holds[one.hold_id] = Record(**vars(made), request=one.request)
        return ("reasserted", len(kept))
