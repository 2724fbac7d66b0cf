"""What telling the gate costs the fold: the same held usage folded with `apply` and without, in turn.

On Kafka, PostgreSQL and Redis. Every usage event has a hold that Redis granted, and every organization
is warm, so that each round installs its totals and settles its holds.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from bench.bench_pipeline import ORGANIZATIONS, open_organizations, put_on_log, usage_of
from bench.bench_services import PARTITIONS, Ground, rate_of, together
from bench.gate_ground import OWNER, epoch_of, own_redis
from bench.stages import micros_of
from redis import Redis
from services.databases import new_database
from services.redis_local import LocalRedis
from services.sharing import a_kafka, a_postgresql
from support import homes

from tollkeeper.app.wiring import App
from tollkeeper.enforcement.bundle import Enforcement
from tollkeeper.events.ids import new_emitter_id, now_micros
from tollkeeper.gate import encoding
from tollkeeper.gate.answers import Done, Granted, Status
from tollkeeper.gate.commands import Request
from tollkeeper.gate.functions import GateFunctions, connect
from tollkeeper.gate.keys import SINGLE
from tollkeeper.metering.usage import Usage
from tollkeeper.organizations.commands import BuyCredits, CommandContext

PLENTY = 1_000_000 * 1_000_000_000
HELD_MICROS = 1_000
AT_ONCE = 500
ROUNDS = 5
STEPS = 1_000
WORKED_ON = 1
"""The Redis database of a run, filled anew from database 0 before each."""


def run(events: int) -> dict[str, float]:
    """Events per second of one process, medians of rounds in turn; `ratio…` is with over without.

    The ratio is the median of each round's own: between rounds a shared machine changes its pace.
    """
    with _ground(events) as (made, server):
        said: dict[str, list[list[dict[str, Any]]]] = {"without": [], "with": []}
        for _ in range(ROUNDS):
            said["without"].append(made.fold(1))
            said["with"].append(_fold_and_tell(made, server))
    rates = {name: round(median(map(rate_of, runs))) for name, runs in said.items()}
    ratios = [
        rate_of(told) / rate_of(untold)
        for told, untold in zip(said["with"], said["without"], strict=True)
    ]
    last = said["with"][-1][0]
    stages = micros_of(last["stages"], last["records"], last["seconds"])
    return {
        "events": events,
        "fold_without_apply_events_per_s": rates["without"],
        "fold_with_apply_events_per_s": rates["with"],
        "ratio_with_apply": round(median(ratios), 3),
        **{f"micros an event: {stage}": micros for stage, micros in stages.items()},
    }


def _fold_and_tell(made: Ground, server: LocalRedis) -> list[dict[str, Any]]:
    """Ours with a gate that has all holds, and has none of them afterwards."""
    with Redis.from_url(server.address) as everything:
        with Redis.from_url(f"{server.address}/{WORKED_ON}") as worked_on:
            worked_on.flushdb()
        for key in everything.scan_iter(count=1_000):
            assert everything.copy(key, key, WORKED_ON)
    url = f"{server.address}/{WORKED_ON}"
    with made.database() as sql:
        environment = {**made.environment(sql), "TOLLKEEPER_REDIS": url}
        group = f"bench-{secrets.token_hex(4)}"
        said = together(environment, [["bench.folding_child", group, str(PARTITIONS), ""]])
    functions = GateFunctions(connect(url))
    for name in _names():
        found = functions.run(encoding.status(name, member=OWNER))
        assert isinstance(found, Status) and found.is_known, f"{name} missed a round"
        assert all(one.held_micros == 0 for one in found.limits), f"{name} has open holds"
    functions.close()
    return said


@contextmanager
def _ground(events: int) -> Iterator[tuple[Ground, LocalRedis]]:
    """A topic with held usage, a database that has folded only who there is, a gate that has the holds."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = stack.enter_context(a_kafka()).address
        postgresql = stack.enter_context(a_postgresql()).address
        template = stack.enter_context(new_database(postgresql))
        server = own_redis()
        stack.callback(server.close)
        server.start()
        topic = f"bench-{secrets.token_hex(4)}"
        settings = {"log": f"kafka://{kafka}", "topic": topic, "sql": template}
        settings["redis"] = server.address
        lines = [f'{name} = "{value}"\n' for name, value in settings.items()]
        (root / homes.CONFIG).write_text("".join(lines))
        with homes.opened_app(root) as app:
            _open_and_warm(app)
            put_on_log(app, _held(app.enforcing.started(), events))
        (root / homes.CONFIG).unlink()
        yield Ground(root, kafka, postgresql, template, topic), server


def _open_and_warm(app: App) -> None:
    """The load's organizations, with credits for all of it, folded and known to a gate that is open."""
    open_organizations(app)
    for name in _names():
        context = CommandContext(actor="operator", command_id=f"bench-{name}")
        app.organizations.handle(BuyCredits(organization=name, credit_nanos=PLENTY), context)
    enforcement = app.enforcing.started()
    for _ in range(STEPS):
        homes.fold(app)
        if all(one.state == "open" for one in enforcement.keep()) and enforcement.applier.tick():
            break
    homes.fold(app)
    assert enforcement.warmer(SINGLE).warm(_names(), now=now_micros()) == ORGANIZATIONS


def _held(enforcement: Enforcement, events: int) -> Iterator[Usage]:
    """Synthetic usage of these days, each event under a hold of its own that is granted here."""
    functions, emitter = enforcement.means.functions, new_emitter_id()
    epoch = epoch_of(functions)
    assert isinstance(functions.run(encoding.list_emitters(epoch, started=[emitter])), Done)
    assert isinstance(functions.run(encoding.note(epoch, emitter, _names())), Done)
    request = Request(HELD_MICROS, OWNER, "web")
    waiting: list[Usage] = []
    usages = usage_of(events, ending_at=now_micros())
    for number, usage in enumerate(usages, start=1):
        hold_id = f"{usage.organization}/{emitter}/{now_micros() // 1_000}/{number:x}"
        waiting.append(msgspec.structs.replace(usage, hold_id=hold_id))
        if len(waiting) < AT_ONCE and number < events:
            continue
        enforcement.keep()  # the lease
        calls = [
            encoding.hold(
                one.organization, request, hold_id=str(one.hold_id), emitter=emitter, epoch=epoch
            )
            for one in waiting
        ]
        assert all(isinstance(one, Granted) for one in functions.run_many(calls))
        yield from waiting
        waiting = []


def _names() -> list[str]:
    return [f"org-{number:03d}" for number in range(1, ORGANIZATIONS + 1)]
