"""The demo at the gate: the lower of two caps stops a member, credits run out, an owner opens the way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from tollkeeper.app.open_holds import list_holds
from tollkeeper.app.settings import load_settings
from tollkeeper.app.wiring import App
from tollkeeper.reports.documents import instant

ORGANIZATION, MEMBER, OWNER = "studio", "ann", "sam"
NAMED = "a-long-report"

Run = Callable[..., None]
Say = Callable[[str], None]


def show_the_gate(run: Run, say: Say) -> None:
    """`run` shows a command and carries it out; with `refused` it has to be refused."""
    asks = ("hold", ORGANIZATION, MEMBER, "--surface", "claude_code", "--usd")
    owner = ("--as", OWNER)
    say("An organization with 50 USD of credits, a cap of 40, and a cap of 10 for each member")
    run("org", "open", ORGANIZATION, "--plan", "enterprise_self_serve", "--owner", OWNER)
    run("org", "add-member", ORGANIZATION, MEMBER, *owner)
    run("credits", "buy", ORGANIZATION, "50", *owner)
    run("cap", "set", ORGANIZATION, "40", *owner)
    run("cap", "set", ORGANIZATION, "10", "--member-default", *owner)

    say("The gate is asked before a call: the lower of the two caps stops the member")
    run(*asks, "8", "--hold-id", NAMED)
    run(*asks, "5", refused=True)
    run("status", ORGANIZATION, "--member", MEMBER)

    say("The owner raises that cap, and the way is open; now the organization's own cap stops")
    run("cap", "set", ORGANIZATION, "100", "--member", MEMBER, *owner)
    run(*asks, "32")
    run(*asks, "5", refused=True)

    say("Without that cap the credits run out; bought ones open the way again")
    run("cap", "set", ORGANIZATION, "unlimited", *owner)
    run(*asks, "12", refused=True)
    run("credits", "buy", ORGANIZATION, "20", *owner)
    run(*asks, "12")

    say("What a call used is charged, and what it had held is free again")
    _report_usage(run)
    run("consume", "--until-caught-up")
    run("status", ORGANIZATION, "--member", MEMBER)
    run("reconcile")


def _report_usage(run: Run) -> None:
    """As a product service does after its call: half a million tokens, under the hold's id."""
    app = App(load_settings(os.environ))
    try:
        held = list_holds(app, ORGANIZATION)[0]
    finally:
        app.close()
    usage = {
        "event_id": NAMED,
        "organization": ORGANIZATION,
        "member": MEMBER,
        "surface": "claude_code",
        "model": "claude-opus-5-5",
        "occurred_at": instant(held.granted_at),
        "input_tokens": 300_000,
        "output_tokens": 200_000,
        "hold_id": held.hold_id,
    }
    run("emit", "-", stdin=json.dumps(usage) + "\n")
