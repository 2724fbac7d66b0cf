"""The holds of a service that was killed close nobody's gate for ever, with or without traffic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from at_the_cap.installation import QUIET_S, Installation, installation
from at_the_cap.servers import new_server, started
from at_the_cap.service import MEMBERS, MODEL, SURFACE
from support import homes
from support.waiting import eventually

from tollkeeper.gate.sdk import Gate, Refused

pytestmark = pytest.mark.timeout(1_200)  # of which a quiet machine takes few

CAP_MICROS = 1_000
WITHOUT_DRAIN = "consume,relay,keep,warm,tend"


def asked(gate: Gate, organization: str) -> str:
    """`granted` for as much as the cap, which is released again; otherwise the reason."""
    try:
        gate.hold(
            organization=organization,
            member=MEMBERS[1],
            surface=SURFACE,
            model=MODEL,
            max_cost_usd="0.001",
        ).release()
    except Refused as refused:
        return refused.reasons[0].reason
    return "granted"


def retired_for(made: Installation) -> list[str]:
    """Why emitters were retired."""
    listed = homes.run(made.home, "emitters", "list", "--all", "--json")
    return [one["reason"] for one in json.loads(listed.stdout)["emitters"] if one["reason"]]


@pytest.mark.parametrize(
    ("jobs", "reason"),
    [(WITHOUT_DRAIN, "unseen"), (f"{WITHOUT_DRAIN},drain", "taken_over")],
    ids=["its machine is gone", "its spool is found"],
)
def test_a_killed_service_s_holds_are_freed(jobs: str, reason: str, tmp_path: Path) -> None:
    """`quiet` is asked for by nobody meanwhile."""
    server = new_server("redis")
    patience = 3.0 if reason == "unseen" else 900.0
    with (
        started(server),
        installation(tmp_path, server.address, "acme", "quiet", retire_after_s=patience) as made,
    ):
        made.consume("--only", jobs)
        for name in made.organizations:
            made.lift_member_caps(name, CAP_MICROS)
        holder = made.hold_for_ever("0.001")
        with Gate.open(homes.settings_of(made.home)) as gate:
            eventually(lambda: asked(gate, "acme") == "organization_cap", QUIET_S)
            holder.kill()
            eventually(lambda: asked(gate, "acme") == "granted", QUIET_S, what="acme's gate")
            made.wait_until_quiet()
            assert asked(gate, "quiet") == "granted"
        assert reason in retired_for(made)
        made.assert_reconciled()
