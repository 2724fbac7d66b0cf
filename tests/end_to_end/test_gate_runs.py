"""The gate as processes on an embedded home: `tollkeeper run`, a product service, the command line beside."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import homes
from support.homes import KILLED, end_gate, environment, opened_app, run, start
from support.waiting import eventually

from tollkeeper.gate.sdk import Gate, GateSettings, Hold, Refused, metered
from tollkeeper.organizations.commands import BuyCredits, OpenOrganization, SetCap

USD = 10**9
CALL: dict[str, Any] = {
    "organization": "acme",
    "member": "ann",
    "surface": "web",
    "model": "claude-sonnet-5-5",
}
PATIENT = GateSettings(warm_wait_s=20.0, start_wait_s=60.0)
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-sonnet-5-5",
    "usage": {"input_tokens": 1_000_000, "output_tokens": 300_000},
}
ANSWER_NANOS = 2 * USD + 3 * USD


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """acme has 100 USD of credits and a cap of 50, ann one of 30; its gate is ended afterwards."""
    home = tmp_path / "home"
    with opened_app(home) as app:
        homes.handle(
            app,
            OpenOrganization(organization="acme", plan="enterprise_self_serve", owner="ann"),
            BuyCredits(organization="acme", credit_nanos=100 * USD),
            SetCap(organization="acme", scope="organization", setting="capped", cap_nanos=50 * USD),
            SetCap(
                organization="acme",
                scope="member",
                setting="capped",
                member="ann",
                cap_nanos=30 * USD,
            ),
        )
    yield home
    end_gate(home)


@contextmanager
def running(home: Path) -> Iterator[None]:
    """`tollkeeper run` meanwhile; it has to end in order."""
    child = start(home, "run")
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=30)
    assert child.returncode == 0, err


@contextmanager
def gate_at(home: Path) -> Iterator[Gate]:
    """A product service's gate."""
    with Gate.open(environment(home), settings=PATIENT) as gate:
        yield gate


def held(gate: Gate, usd: str) -> Hold:
    return gate.hold(**CALL, max_cost_usd=usd)


def refused(gate: Gate, usd: str) -> list[str]:
    """Every reason."""
    with pytest.raises(Refused) as refusal:
        held(gate, usd)
    return [one.reason for one in refusal.value.reasons]


def asked(home: Path, *arguments: str, code: int = 0) -> Any:
    """A command's document."""
    ended = run(home, *arguments, "--json")
    assert ended.returncode == code, ended
    return json.loads(ended.stdout)


def kill_redis(home: Path) -> None:
    os.kill(int((home / "gate" / "valkey.pid").read_text()), signal.SIGKILL)


def test_a_service_holds_spends_and_is_stopped_while_others_keep_the_gate(home: Path) -> None:
    with running(home), gate_at(home) as gate:
        with metered(gate, **CALL, input_tokens=1_000_000, max_output_tokens=1_000_000) as call:
            assert refused(gate, "20") == ["member_cap"]
            call.response(ANSWER)
        eventually(
            lambda: (
                asked(home, "status", "acme", "--member", "ann")["limits"][0]["spent_nanos"]
                == ANSWER_NANOS
            ),
            what="the charge",
        )
        with held(gate, "25"):
            assert refused(gate, "0.01") == ["member_cap"]
            asked(home, "cap", "set", "acme", "60", "--member", "ann")
            eventually(lambda: "member_cap" not in refused(gate, "21"), what="the raised cap")
            assert asked(home, "hold", "acme", "ann", "--surface", "web", "--usd", "19")["granted"]
            assert refused(gate, "1.1") == ["organization_cap"]
            assert asked(home, "reconcile")["agrees"] is True
    assert asked(home, "hold", "acme", "ann", "--surface", "web", "--usd", "26")["granted"]
    assert asked(home, "reconcile")["agrees"] is True


def test_holds_of_a_living_service_outlive_redis(home: Path) -> None:
    with running(home), gate_at(home) as gate:
        hold = held(gate, "25")
        kill_redis(home)
        eventually(lambda: granted_after_recovery(gate), 60, what="an answer of the new epoch")
        assert refused(gate, "5.01") == ["member_cap"], "the hold was re-asserted"
        hold.release()
        eventually(lambda: granted_after_recovery(gate, "30"), 60, what="what was released")
        assert asked(home, "reconcile")["agrees"] is True


def granted_after_recovery(gate: Gate, usd: str = "5") -> bool:
    """Whether so much is granted; it is given back at once."""
    try:
        held(gate, usd).release()
    except Refused as refusal:
        assert refusal.is_unavailable or usd == "30", refusal
        return False
    return True


def test_a_consumer_that_is_killed_leaves_a_gate_that_the_next_one_keeps(home: Path) -> None:
    child = start(home, "run")
    try:
        with gate_at(home) as gate:
            hold = held(gate, "25")
            child.kill()
            child.communicate(timeout=30)
            assert child.returncode == KILLED
            asked(home, "cap", "set", "acme", "26", "--member", "ann")
            with running(home):
                eventually(
                    lambda: not_unavailable(gate, "1.01") == ["member_cap"], 60, what="the cap"
                )
                hold.release()
                eventually(lambda: granted_after_recovery(gate, "26"), 30, what="the release")
                assert asked(home, "reconcile")["agrees"] is True
    finally:
        child.kill()
        child.communicate(timeout=30)


def not_unavailable(gate: Gate, usd: str) -> list[str]:
    """The reasons; what was granted is given back."""
    try:
        held(gate, usd).release()
    except Refused as refusal:
        return [one.reason for one in refusal.reasons]
    return []
