"""What an operator at 3 a.m. wants to know first: what is wrong, and the next step."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tollkeeper.app.examining import Books, Facts, Reached, Spool
from tollkeeper.app.gate_looking import GateFacts, PrimaryNow
from tollkeeper.app.settings import Settings
from tollkeeper.money.amounts import nanos_to_usd
from tollkeeper.outbox.database import shown_url

CATCH_UP = "tollkeeper consume --until-caught-up"
MIB = 1024 * 1024


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    is_fine: bool
    detail: str
    next_step: str = ""

    def as_document(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "what": self.what,
            "ok": self.is_fine,
            "detail": self.detail,
            "next_step": self.next_step or None,
        }


def diagnose(settings: Settings, facts: Facts) -> list[Finding]:
    """Every finding, with a next step where something needs somebody."""
    return [
        Finding("home", True, str(settings.home)),
        *(_reached(one, settings, facts) for one in facts.services),
        *_of_partitions(facts),
        *([] if facts.gate is None else findings_of_gate(facts.gate, settings)),
        *([] if facts.books is None else _of_books(facts.books)),
        *_of_spool(facts.spool),
    ]


def _reached(one: Reached, settings: Settings, facts: Facts) -> Finding:
    what = {"sql": "ledger"}.get(one.service, one.service)
    if one.error is not None:
        return Finding(what, False, one.error, _SERVICE_STEPS[one.service])
    took = f"answers in {one.latency_ms:g} ms"
    match one.service:
        case "log":
            where = settings.kafka.shown if settings.kafka else "embedded"
            detail = f"{where}, {settings.partitions} partitions, {facts.log_identity}, {took}"
        case "sql":
            generation = facts.books.generation if facts.books else None
            detail = f"{shown_url(settings.sql)}, generation {generation}, {took}"
        case "redis":
            detail = f"{settings.redis.shown}, {took}"
        case _:
            owners = len({one.owner for one in facts.partitions if one.owner})
            detail = f"{owners} consumers own partitions, {took}"
    return Finding(what, True, detail)


_SERVICE_STEPS = {
    "log": "start the log, or set TOLLKEEPER_LOG right; tollkeeper setup makes its topic",
    "sql": "start the database, or set TOLLKEEPER_SQL right; tollkeeper setup makes its tables",
    "redis": "start Redis, or set TOLLKEEPER_REDIS right; until then the gate lets nobody through",
    "group": "wait until Kafka's group coordinator answers; nothing is lost meanwhile",
}


def _of_partitions(facts: Facts) -> Iterator[Finding]:
    partitions = facts.partitions
    halted = [one for one in partitions if one.halted is not None]
    if halted:
        more = f" (and {len(halted) - 1} partitions more)" if halted[1:] else ""
        detail = f"{halted[0].halted}{more}"
        yield Finding("halted", False, detail, _halt_step(detail))
    lag = sum(max(0, one.lag or 0) for one in partitions if one.halted is None)
    yield _waiting("lag", lag, "records wait to be folded", CATCH_UP)
    ownerless = [one.partition for one in partitions if one.lag and one.owner is None]
    is_group_known = any(one.service == "group" and one.error is None for one in facts.services)
    if ownerless and is_group_known:
        named = ", ".join(map(str, ownerless))
        yield Finding("owners", False, f"nobody folds partitions {named}", "tollkeeper run")


def _halt_step(cause: str) -> str:
    if "schema id" in cause:
        return "install the newer release where consumers run, then start them again"
    if "is missing" in cause:
        return "ask who runs the log for the missing records; see the runbook"
    return (
        "put the log back that belongs to this ledger; or move ledger.sqlite away and run "
        f"{CATCH_UP}"
    )


def findings_of_gate(gate: GateFacts, settings: Settings) -> Iterator[Finding]:
    """Whether it can grant, and would forget nothing."""
    if not gate.is_running:
        yield Finding("gate", True, "embedded; the first hold starts it")
        return
    if settings.redis.is_embedded and not settings.is_alone:
        detail = "the embedded gate is known to this home alone, and log or ledger are shared"
        yield Finding("gate", False, detail, "set TOLLKEEPER_REDIS on every machine")
    for one in gate.primaries:
        state = f"primary {one.primary}: epoch {one.epoch} is {one.phase}"
        lease = f"leased for {one.lease_s:.1f} s" if one.lease_s > 0 else "not leased"
        known = f"{one.emitters} emitters, {one.asked} organizations wait to be warmed"
        # Without a server each command keeps the gate while it asks.
        is_idle = settings.is_alone and one.lease_s <= 0
        if is_idle:
            known += "; commands keep it while they ask, product services need `tollkeeper run`"
        is_fine = is_idle or one.grants
        step = "" if is_fine else _gate_step(one)
        yield Finding("gate", is_fine, f"{state}, {lease}, {known}", step)
    for tag, policy in gate.eviction.items():
        if policy != "noeviction":
            detail = f"primary {tag} may forget holds when its memory is full: {policy}"
            step = "set maxmemory-policy noeviction; give the gate a Redis of its own"
            yield Finding("eviction", False, detail, step)


def _gate_step(one: PrimaryNow) -> str:
    if one.lease_s <= 0:
        return "tollkeeper run"
    return (
        "wait for emitters to answer and for the fold; tollkeeper emitters list shows who owes it"
    )


def _of_books(books: Books) -> Iterator[Finding]:
    yield _waiting("outbox", books.pending, "decided events wait for the log", "tollkeeper run")
    count = sum(one.count for one in books.letters)
    causes = ", ".join(f"{one.count} {one.cause}" for one in books.letters)
    detail = f"are open: {causes}" if causes else "are open"
    yield _waiting("dead letters", count, detail, "tollkeeper dead-letters list")
    if books.overspent:
        worst = books.overspent[0]
        excess = f"{worst.whose} by {nanos_to_usd(worst.excess_nanos)} USD"
        detail = f"{len(books.overspent)} limits are below what was spent, most of all {excess}"
        step = f"tollkeeper status {worst.organization} --members; see the runbook"
        yield Finding("overspent", True, detail, step)  # charged all the same (R18)
    for endpoint in books.disabled:
        found = f"{endpoint.endpoint_id} is disabled: {endpoint.status_reason}"
        step = (
            f"tollkeeper webhook enable {endpoint.endpoint_id}, once it answers; or webhook remove"
        )
        yield Finding("webhook", False, found, step)


def _of_spool(spool: Spool) -> Iterator[Finding]:
    where = f"usages wait for the log, in {spool.bytes / MIB:.1f} MiB of {spool.emitters} emitters"
    yield _waiting("spool", spool.records, where, CATCH_UP)
    if spool.damaged:
        yield Finding(
            "damaged",
            False,
            f"{spool.damaged} unreadable stretches of spools were set aside",
            "look at the notes in spool/damaged; keep the files",
        )


def _waiting(what: str, count: int, detail: str, next_step: str) -> Finding:
    return Finding(what, count == 0, f"{count} {detail}", next_step if count else "")
