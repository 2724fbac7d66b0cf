"""A home in which every projection table has rows, and what the tests of replays ask of it."""

from __future__ import annotations

from sqlalchemy import select
from support import homes

from tollkeeper.app.wiring import App
from tollkeeper.events.codec import encode
from tollkeeper.events.emitters import EmitterRetired, EmitterStarted
from tollkeeper.events.gate import CallAdmitted, LimitReached
from tollkeeper.ledger.columns import NOT_FOLDED
from tollkeeper.ledger.generations import live_generation
from tollkeeper.ledger.tables import PROJECTIONS
from tollkeeper.log.partitioner import partition_for
from tollkeeper.log.port import Outgoing
from tollkeeper.metering.usage import Usage
from tollkeeper.money.periods import period_at
from tollkeeper.operations.policies import DefaultPolicy, PolicyCommands
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    OpenOrganization,
    RemoveMember,
    SetCap,
    SetGatePolicy,
    SetThresholds,
    VoidCredits,
)
from tollkeeper.outbox.database import reading
from tollkeeper.replay.verify import ReplayReport, verify
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

ENDING_AT = 1_793_880_000_000_000
EVENTS = 400


def load(events: int = EVENTS, seed: int = 5) -> list[Usage]:
    return list(synthetic(SyntheticLoad(seed=seed, events=events, ending_at=ENDING_AT)))


def fill(app: App) -> None:
    retired = EmitterRetired(
        emitter="em-1", actor="operator", reason="operator", occurred_at=ENDING_AT
    )
    for event in (EmitterStarted(emitter="em-1", occurred_at=ENDING_AT), retired):
        partitions = range(app.log.partition_count)
        app.log.append([Outgoing(partition, None, encode(event)) for partition in partitions])
    for number in range(1, 4):
        name = f"org-{number:03d}"
        homes.handle(
            app,
            OpenOrganization(organization=name, plan="enterprise_self_serve", owner="owner"),
            BuyCredits(organization=name, credit_nanos=10**12),
            AddMember(organization=name, member="gone", role="member"),
            RemoveMember(organization=name, member="gone"),
            SetCap(organization=name, scope="organization", setting="capped", cap_nanos=10**12),
        )
    homes.handle(
        app, VoidCredits(organization="org-002", purchase_id="purchase-2", reason="by mistake")
    )
    homes.handle(
        app,
        SetThresholds(organization="org-001", cap_percents=(1, 50)),
        SetGatePolicy(
            organization="org-001", policy="open", ceiling_nanos=1, until=ENDING_AT + 10**15
        ),
    )
    PolicyCommands(app.desk).set_default(
        DefaultPolicy(policy="observe"), actor="operator", command_id="default"
    )
    report_from_the_gate(app, "org-001")
    homes.emit(app, load())
    homes.emit(
        app,
        [
            Usage(
                organization="org-001",
                member="m",
                surface="web",
                model="unpriced",
                input_tokens=5,
                occurred_at=ENDING_AT,
            )
        ],
    )
    homes.fold(app)


def report_from_the_gate(app: App, organization: str) -> None:
    """A refusal at the organization's cap, and a call that was let through all the same."""
    stopped = LimitReached(
        organization=organization,
        limit="organization_cap",
        scope=f"organization/{organization}",
        period_start=period_at(app.clock()).start_micros,
        cap_micros=10**9,
        spent_micros=10**9,
        held_micros=0,
        requested_micros=1,
        member="m",
        emitter="em-1",
        occurred_at=app.clock(),
    )
    admitted = CallAdmitted(
        event_id="admitted-1",
        organization=organization,
        member="m",
        policy="observe",
        cause="organization_cap",
        amount_micros=1,
        emitter="em-1",
        occurred_at=app.clock(),
    )
    partition = partition_for(organization, app.log.partition_count)
    key = organization.encode()
    app.log.append([Outgoing(partition, key, encode(event)) for event in (stopped, admitted)])


def replayed(app: App) -> ReplayReport:
    return verify(app.log, app.ledger, now=app.clock(), progress=lambda _records: None)


def tables(app: App) -> dict[str, list[tuple[object, ...]]]:
    """All that the log makes of the live generation."""
    with reading(app.engine) as connection:
        live = live_generation(connection)
        return {
            table.name: [
                tuple(
                    value
                    for column, value in zip(table.columns, row, strict=True)
                    if column.name != "generation" and NOT_FOLDED not in column.info
                )
                for row in connection.execute(
                    select(table)
                    .where(table.c.generation == live)
                    .order_by(*table.primary_key.columns)
                )
            ]
            for table in PROJECTIONS
        }
