"""Real hours of usage, reported twice, through the whole path: every figure equals an independent sum.

The sum is made of the calls themselves, by `support.expected`, with a price list of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from support import expected, homes
from support.expected import expected_nanos, expected_parts
from support.traces import AZURE, MOONCAKE, find_trace

from tollkeeper.app.wiring import App
from tollkeeper.metering.usage import Usage
from tollkeeper.money.instants import parse_instant
from tollkeeper.money.periods import parse_period
from tollkeeper.organizations.commands import BuyCredits, OpenOrganization
from tollkeeper.outbox.database import reading
from tollkeeper.replay.verify import ReplayReport, verify
from tollkeeper.reports.balance import balance
from tollkeeper.reports.invoice import invoice_draft
from tollkeeper.reports.spend import Breakdown, spend_of
from tollkeeper.workloads.reading import WorkloadFormat, read_workload
from tollkeeper.workloads.synthetic import SyntheticLoad, synthetic

ENDING_AT = parse_instant("2026-11-20T23:00:00Z")
PERIOD = parse_period("2026-11")
ORGANIZATIONS = ("org-001", "org-002", "org-003")
CREDIT_NANOS = 10**12
SYNTHETIC = "synthetic"
TRACES: dict[str, tuple[str, WorkloadFormat, int]] = {
    "azure": (AZURE, "azure", 19_366),
    "mooncake": (MOONCAKE, "mooncake", 12_031),
}


def calls_of(workload: str) -> list[Usage]:
    """The workload's calls; every line of a trace must be one."""
    if workload == SYNTHETIC:
        load = SyntheticLoad(seed=3, events=8_000, days=14, ending_at=ENDING_AT)
        return list(synthetic(load))
    name, trace_format, count = TRACES[workload]
    path = find_trace(name)
    if path is None:
        pytest.skip(
            f"{name} isn't at hand (set TOLLKEEPER_TRACES): the synthetic workload stands in"
        )
    with path.open("rb") as file:
        calls = list(read_workload(file, trace_format, ending_at=ENDING_AT))
    usages = [one for one in calls if isinstance(one, Usage)]
    assert len(usages) == len(calls) == count
    return usages


@pytest.fixture(scope="module", params=[*TRACES, SYNTHETIC])
def folded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[App, list[Usage]]]:
    """Every call of the workload, reported twice and folded."""
    calls = calls_of(request.param)
    with homes.opened_app(tmp_path_factory.mktemp("home")) as app:
        for name in ORGANIZATIONS:
            homes.handle(
                app,
                OpenOrganization(organization=name, plan="enterprise_self_serve", owner="owner"),
                BuyCredits(organization=name, credit_nanos=CREDIT_NANOS),
            )
        homes.emit(app, calls)
        homes.emit(app, calls)
        found = homes.fold(app)
        assert (found.counts.charged, found.counts.duplicates) == (len(calls), len(calls))
        assert found.counts.dead_letters == 0
        yield app, calls


def test_r31_every_total_is_the_independent_sum_to_the_nano(
    folded: tuple[App, list[Usage]],
) -> None:
    app, calls = folded
    expected: Counter[str] = Counter()
    for call in calls:
        expected[call.organization] += expected_nanos(call)
    assert sum(expected.values()) > 0
    with reading(app.engine) as connection:
        for name in ORGANIZATIONS:
            spent = spend_of(connection, app.log, name, period=PERIOD, by=None, now=app.clock())
            left = balance(connection, app.log, name, now=app.clock())
            draft = invoice_draft(connection, app.log, name, period=PERIOD, now=app.clock())
            assert spent.total_nanos == expected[name]
            assert left.used_nanos == expected[name]
            assert left.balance_nanos == CREDIT_NANOS - expected[name]
            assert draft.total_nanos == expected[name]
            assert spent.freshness.lag_events == 0


@pytest.mark.parametrize("by", get_args(Breakdown))
def test_r31_every_breakdown_adds_up_to_the_total(
    folded: tuple[App, list[Usage]], by: Breakdown
) -> None:
    app, calls = folded
    keyed: dict[str, Counter[str]] = defaultdict(Counter)
    for call in calls:
        keyed[call.organization].update(expected_keys(call, by))
    with reading(app.engine) as connection:
        for name in ORGANIZATIONS:
            found = spend_of(connection, app.log, name, period=PERIOD, by=by, now=app.clock())
            assert sum(row.charge_nanos for row in found.rows) == found.total_nanos
            shown = {row.key: row.charge_nanos for row in found.rows}
            assert shown == {key: nanos for key, nanos in keyed[name].items() if nanos}


def expected_keys(call: Usage, by: Breakdown) -> dict[str, int]:
    """Under which keys of a breakdown the call's cost stands."""
    if by == "token_type":
        return expected_parts(call)
    if by == "day":
        assert isinstance(call.occurred_at, int)
        moment = datetime.fromtimestamp(call.occurred_at // 1_000_000, UTC)
        return {moment.date().isoformat(): expected_nanos(call)}
    return {getattr(call, by): expected_nanos(call)}


def test_a_replay_of_it_all_finds_nothing(folded: tuple[App, list[Usage]]) -> None:
    app, calls = folded
    report = replayed(app)
    assert report.agrees
    assert report.charged_events == len(calls)
    assert report.charged_nanos == sum(map(expected_nanos, calls))


def test_a_charge_changed_by_hand_is_named_with_its_organization(
    folded: tuple[App, list[Usage]],
) -> None:
    app, calls = folded
    victim = calls[len(calls) // 2]
    change = (
        "UPDATE charge SET charge_nanos = charge_nanos + ? WHERE organization = ? AND event_id = ?"
    )
    key = (victim.organization, victim.event_id)
    with app.engine.begin() as connection:
        connection.exec_driver_sql(change, (1, *key))
    report = replayed(app)
    assert not report.agrees
    assert [one.organization for one in report.differences] == [victim.organization]
    assert report.differences[0].table == "charge"
    assert report.differences[0].key["event_id"] == victim.event_id
    assert report.differences[0].column == "charge_nanos"
    with app.engine.begin() as connection:
        connection.exec_driver_sql(change, (-1, *key))
    assert replayed(app).agrees


def replayed(app: App) -> ReplayReport:
    return verify(app.log, app.ledger, now=app.clock(), progress=lambda _records: None)


def test_the_price_list_of_this_test_is_no_copy_of_the_built_in_one() -> None:
    """It would prove nothing if it read the same file."""
    imports = Path(expected.__file__).read_text(encoding="utf-8").split("PRICES = ")[0]
    assert "import" in imports
    assert "rating" not in imports
