"""A network that breaks in the middle of a statement: nothing lost or doubled, and the way back alone."""

from __future__ import annotations

from random import Random

import pytest
from on_postgresql.conftest import Install
from on_postgresql.traffic import SEED, WHEN_CONNECTING, Traffic
from services.postgresql_proxy import Fault, PostgresProxy
from services.tcp_proxy import Action, Direction

SOAK = [pytest.mark.soak, pytest.mark.timeout(900)]
CUT_RECOVERED_S = 15.0
SHARES = (0.0, 0.5, 1.0)
"""Before the first byte, in the middle, and after the last one: done, but nobody hears of it."""
FOLD = "WITH RECURSIVE tried"
"""What a fold's transaction begins with."""
COMMAND = "SELECT command.content_hash"
RELAY = "UPDATE decided_event"
COMMITS = tuple(f"COMMIT of {first}" for first in (FOLD, COMMAND, RELAY))
COPIES = ("COPY charge", "rows of COPY charge", "end of COPY charge")
OTHERS = (
    *WHEN_CONNECTING,
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    FOLD,
    "UPDATE consumer_offset",
    "CREATE TEMPORARY TABLE",
    "end of COPY staged_organization",
    "INSERT INTO spend",
    "INSERT INTO decided_event",
    "INSERT INTO command",
)


def faults(statements: tuple[str, ...], action: Action = "cut") -> list[Fault]:
    """One at every stage of each: request and response, in every share."""
    directions: tuple[Direction, ...] = ("request", "response")
    return [
        Fault(statement, direction, share, action)
        for statement in statements
        for direction in directions
        for share in SHARES
        if not (statement.startswith("rows of") and direction == "response")  # there is none
    ]


def _some() -> list[Fault]:
    """Each commit done and not heard of, the fold's cut on the way and in between; each of COPY."""
    return [
        *(Fault(commit, "response", 0.0) for commit in COMMITS),
        Fault(COMMITS[0], "request", 1.0),
        Fault(COMMITS[0], "request", 0.5),
        Fault(COPIES[0], "response", 0.5),
        Fault(COPIES[2], "request", 1.0),
        Fault(COPIES[1], "request", 0.5),
    ]


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(_some(), id="some"),
        pytest.param(faults((*COMMITS, *COPIES)), marks=SOAK, id="every commit and copy"),
        pytest.param(faults(OTHERS), marks=SOAK, id="all others"),
    ],
)
def test_connections_cut_at_every_stage_lose_and_double_nothing(
    install: Install, proxy: PostgresProxy, sql_url: str, plan: list[Fault]
) -> None:
    plan = [Fault(one.statement, one.direction, one.share, one.action) for one in plan]
    Random(SEED).shuffle(plan)
    traffic = Traffic(install, proxy, sql_url)
    with traffic.buyer.buying():
        for fault in plan:
            traffic.strike(fault, CUT_RECOVERED_S)
    traffic.finish()
