"""Malformed commands: refused by name before anything is looked up or written."""

from __future__ import annotations

from typing import Any

import pytest

from tollkeeper.errors import InvalidInput
from tollkeeper.organizations.commands import (
    AddMember,
    BuyCredits,
    Command,
    CommandContext,
    OpenOrganization,
    RemoveMember,
    SetCap,
    SetGatePolicy,
    SetRole,
    SetThresholds,
    TransferOwnership,
    VoidCredits,
)
from tollkeeper.organizations.service import check_command

BUY = BuyCredits(organization="acme", credit_nanos=1)


def cap(**fields: Any) -> SetCap:
    return SetCap(
        **{"organization": "acme", "scope": "organization", "setting": "unlimited", **fields}
    )


def policy(**fields: Any) -> SetGatePolicy:
    return SetGatePolicy(**{"organization": "acme", "policy": "closed", **fields})


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (BuyCredits(organization="a/b", credit_nanos=1), "organization"),
        (BuyCredits(organization="", credit_nanos=1), "organization"),
        (OpenOrganization(organization="acme", plan="p", owner="pia@acme.example"), "owner"),
        (AddMember(organization="acme", member="pia@acme.example"), "member"),
        (RemoveMember(organization="acme", member=""), "member"),
        (SetRole(organization="acme", member="two words", role="admin"), "member"),
        (TransferOwnership(organization="acme", member="x" * 129), "member"),
        (VoidCredits(organization="acme", purchase_id="", reason="r"), "purchase_id"),
        (BuyCredits(organization="acme", credit_nanos=True), "credit_nanos"),
        (BuyCredits(organization="acme", credit_nanos=1.0), "credit_nanos"),  # type: ignore[arg-type]  # what is tested
        (cap(scope="member"), "member"),
        (cap(member="max"), "member"),
        (cap(scope="member", member="a@b"), "member"),
        (cap(setting="capped"), "cap_nanos"),
        (cap(cap_nanos=1), "cap_nanos"),
        (cap(setting="capped", cap_nanos="5"), "cap_nanos"),
        (cap(setting="capped", cap_nanos=1.5), "cap_nanos"),
        (SetThresholds(organization="acme", cap_percents=(0,)), "cap_percents"),
        (SetThresholds(organization="acme", cap_percents=(101,)), "cap_percents"),
        (SetThresholds(organization="acme", cap_percents=tuple(range(1, 22))), "cap_percents"),
        (SetThresholds(organization="acme", credits_low_percent=101), "credits_low_percent"),
        (SetThresholds(organization="acme", credits_low_percent=-1), "credits_low_percent"),
        (policy(policy="open"), "ceiling_nanos"),
        (policy(policy="closed", ceiling_nanos=1), "ceiling_nanos"),
        (policy(policy="open", ceiling_nanos=-1), "ceiling_nanos"),
        (policy(policy="observe", until=1), "until"),
        (policy(policy="inherit", until=1_793_880_000_000_000), "until"),
    ],
)
def test_a_malformed_command_is_refused_by_its_field(command: Command, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_command(command, CommandContext(actor="operator", command_id="k"))
    assert refused.value.field == field
    assert refused.value.rule.startswith("must ")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"actor": ""}, "actor"),
        ({"actor": "pia@acme.example"}, "actor"),
        ({"command_id": None}, "command_id"),
        ({"command_id": "x" * 129}, "command_id"),
        ({"occurred_at": 1.5}, "occurred_at"),
        ({"occurred_at": True}, "occurred_at"),
    ],
)
def test_a_malformed_context_is_refused_by_its_field(fields: dict[str, Any], field: str) -> None:
    context = CommandContext(**{"actor": "operator", "command_id": "k", **fields})
    with pytest.raises(InvalidInput) as refused:
        check_command(BUY, context)
    assert refused.value.field == field
